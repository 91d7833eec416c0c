"""Pieces of text as the page shows them."""

import time

import pytest

from app.registries import Registries
from app.web.proxy import Proxy
from app.web.rewriting import Rewriting, rewrite_text
from app.web.shown import (
    EXAMPLES,
    build_initial_text,
    build_other_image,
    list_examples,
    mark_changes,
    mark_own_addresses,
)
from tests.unit.web.tables import ALL, ALONE, GHCR_HOST, HARBOR, HOSTS, OWN, USUAL


@pytest.mark.parametrize(
    ("text", "names", "shown"),
    [
        pytest.param("<a> p/x", ["p/x"], "&lt;a&gt; <mark>p/x</mark>", id="escaped"),
        pytest.param("p/x p/x:1 p/y", ["p/x", "p/x:1"], "<mark>p/x</mark> <mark>p/x:1</mark> p/y",
                     id="the longest that fits"),
        pytest.param("{image: p/x}docker://p/x", ["p/x"],
                     "{image: <mark>p/x</mark>}docker://<mark>p/x</mark>", id="anywhere"),
        pytest.param("p/x:${V:-<1>}", ["p/x:${V:-<1>}"], "<mark>p/x:${V:-&lt;1&gt;}</mark>",
                     id="the name is text too"),
        pytest.param("a&b", [], "a&amp;b", id="nothing"),
    ],
)  # fmt: skip
def test_changes(text: str, names: list[str], shown: str) -> None:
    """What is new is set off wherever it stands, and all is escaped."""
    done = Rewriting(text, tuple(("", name) for name in names), ())
    assert mark_changes(done) == shown


def test_many_changes() -> None:
    """The longest text that is taken, full of images, is no work for long."""
    text = "".join(f"x{number}\n" for number in range(9_000))
    done = rewrite_text(text, USUAL)
    assert len(done.changes) == 9_000
    began = time.process_time()
    assert mark_changes(done).count("<mark>") == 9_000
    assert time.process_time() - began < 5  # it took minutes


def test_own_addresses() -> None:
    """The proxy's URLs and hosts are set off, and no part of another host."""
    text = f"https://proxy.example {GHCR_HOST}/a docker.io"
    assert mark_own_addresses(text, HOSTS) == (
        f"<mark>https://proxy.example</mark> <mark>{GHCR_HOST}</mark>/a docker.io"
    )


@pytest.mark.parametrize(
    ("proxy", "text"),
    [
        (USUAL, "docker pull nginx\ndocker pull ghcr.io/owner/app:1\n"),
        (ALONE, "docker pull ghcr.io/owner/app:1\n"),
        (OWN, "docker pull company.example/owner/app:1\ndocker pull docker.io/owner/app:1\n"),
    ],
)
def test_what_stands_in_the_box_at_first(proxy: Proxy, text: str) -> None:
    """It is of registries that are served."""
    assert build_initial_text(proxy) == text


@pytest.mark.parametrize("name", ["usual", "hosts", "plain", "alone", "own"])
def test_what_stands_there_is_rewritten(name: str) -> None:
    """Nothing of it is left as it was."""
    assert rewrite_text(build_initial_text(ALL[name]), ALL[name]).left == ()


@pytest.mark.parametrize("one", EXAMPLES, ids=lambda one: one.title)
def test_examples(one: object) -> None:
    """Each has images in it that are rewritten."""
    assert rewrite_text(one.text, USUAL).changes  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("proxy", "titles"),
    [
        (USUAL, ["nginx:alpine", "docker run", "Dockerfile", "compose.yaml"]),
        (ALONE, ["compose.yaml"]),
        (Proxy(url="https://proxy.example", registries=Registries([HARBOR])), []),
    ],
)
def test_examples_of_what_is_served(proxy: Proxy, titles: list[str]) -> None:
    """Nobody is offered one of which all would be left as it is."""
    assert [one.title for one in list_examples(proxy)] == titles


@pytest.mark.parametrize(("proxy", "image"), [(USUAL, "ghcr.io/owner/app"), (ALONE, "owner/app")])
def test_another_image(proxy: Proxy, image: str) -> None:
    """It is of a registry that is served."""
    assert build_other_image(proxy) == image
