"""Scopes: type up to the first colon, actions from the last one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.scope import Action, Scope


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "repository:library/alpine:pull",
            Scope("repository", "library/alpine", "pull"),
            id="pull",
        ),
        pytest.param("repository:a:pull,push", Scope("repository", "a", "pull,push"), id="two"),
        pytest.param("repository:a:*", Scope("repository", "a", "*"), id="all"),
        pytest.param(
            "repository:host.example:5000/a:pull",
            Scope("repository", "host.example:5000/a", "pull"),
            id="host and port",
        ),
        pytest.param(
            "repository(plugin):a/b:pull", Scope("repository(plugin)", "a/b", "pull"), id="class"
        ),
        pytest.param("registry:catalog:*", Scope("registry", "catalog", "*"), id="registry"),
        pytest.param("repository:a:", Scope("repository", "a", ""), id="no action"),
        pytest.param("", None, id="empty"),
        pytest.param("pull", None, id="a word"),
        pytest.param("repository:a", None, id="one colon"),
        pytest.param(":a:pull", None, id="no type"),
        pytest.param("repository::pull", None, id="no name"),
        pytest.param("::", None, id="colons"),
    ],
)
def test_parse(text: str, expected: Scope | None) -> None:
    """A scope is read into its parts; what is none is None."""
    assert Scope.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("repository:a:pull", [True], id="repository"),
        pytest.param("repository(plugin):a:pull", [True], id="with a class"),
        pytest.param("registry:catalog:*", [False], id="registry"),
        pytest.param("repositoryx:a:pull", [False], id="longer"),
        pytest.param("aws:a:pull", [False], id="other"),
    ],
)
def test_is_repository(text: str, expected: list[bool]) -> None:
    """Only names of repositories are ours to change."""
    scope = Scope.parse(text)
    assert scope is not None
    assert [scope.is_repository] == expected


def test_named() -> None:
    """Another name, and nothing else, changes."""
    scope = Scope.parse("repository(plugin):alpine:pull,push")
    assert scope is not None
    assert str(scope.with_name("library/alpine")) == "repository(plugin):library/alpine:pull,push"
    assert str(scope) == "repository(plugin):alpine:pull,push"


@given(st.text(alphabet="ab:(),/*") | st.text())
def test_what_parses_is_written_back(text: str) -> None:
    """Any text gives None or a scope that reads the same; nothing crashes."""
    scope = Scope.parse(text)
    assert scope is None or str(scope) == text


@pytest.mark.parametrize(
    ("actions", "allowed"),
    [("pull", True), ("pull,push", True), ("*", True), ("push", False), ("", False)],
)
def test_allows(actions: str, *, allowed: bool) -> None:
    """An action is allowed by its name or by the star."""
    scope = Scope.parse(f"repository:a/b:{actions}")
    assert scope is not None
    assert scope.allows(Action.PULL) is allowed


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", Action.PULL),
        ("HEAD", Action.PULL),
        ("DELETE", Action.DELETE),
        ("PUT", Action.PUSH),
        ("POST", Action.PUSH),
        ("TRACE", Action.PUSH),
    ],
)
def test_of_method(method: str, action: Action) -> None:
    """Only what reads is a pull."""
    assert Action.of_method(method) is action
