"""Pieces of text as the page shows them."""

import pytest

from app.web.proxy import Proxy
from app.web.rewriting import rewritten
from app.web.shown import EXAMPLES, example, marked, with_own_marked
from tests.unit.web.tables import ALL, ALONE, GHCR_HOST, HOSTS, OWN, USUAL


def test_marked() -> None:
    """Each name is set off wherever it stands, the longest first, and all is escaped."""
    assert marked("a <b> abc", ["a", "abc"]) == "<mark>a</mark> &lt;b&gt; <mark>abc</mark>"
    assert marked("<x>", ["<x>"]) == "<mark>&lt;x&gt;</mark>"
    assert marked("a&b", []) == "a&amp;b"
    assert marked("a", ["", "b.*"]) == "a"


def test_own_addresses() -> None:
    """The proxy's URLs and hosts are set off, and no part of another host."""
    text = f"https://proxy.example {GHCR_HOST}/a docker.io"
    assert with_own_marked(text, HOSTS) == (
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
    assert example(proxy) == text


@pytest.mark.parametrize("name", ["usual", "hosts", "plain", "alone", "own"])
def test_what_stands_there_is_rewritten(name: str) -> None:
    """Nothing of it is left as it was."""
    assert rewritten(example(ALL[name]), ALL[name]).left == ()


@pytest.mark.parametrize("one", EXAMPLES, ids=lambda one: one.title)
def test_examples(one: object) -> None:
    """Each has images in it that are rewritten."""
    assert rewritten(one.text, USUAL).changes  # type: ignore[attr-defined]
