"""Pieces of text as the page shows them."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from app.web.proxy import Proxy
from app.web.rewriting import Rewriting, rewritten

_PATH: Final = re.compile(r"(?<![:/])/.*")
"""What follows a host, also one with `https://` in front."""


@dataclass(frozen=True, slots=True)
class Example:
    """A text for the box, and what kind of text it is."""

    title: str
    text: str


EXAMPLES: Final = (
    Example("nginx:alpine", "nginx:alpine\n"),
    Example("docker run", "docker run --rm -p 8080:80 quay.io/prometheus/prometheus:latest\n"),
    Example(
        "Dockerfile",
        "FROM golang:1.25 AS build\nRUN go build -o /app .\n\n"
        "FROM gcr.io/distroless/static\nCOPY --from=build /app /app\n",
    ),
    Example(
        "compose.yaml",
        "services:\n  web:\n    image: nginx:alpine\n  app:\n    image: ghcr.io/owner/app:1\n"
        "  cache:\n    image: ${CACHE_IMAGE}\n",
    ),
)
"""What a visitor may try."""


def with_own_marked(text: str, proxy: Proxy) -> Markup:
    """Return a text with the addresses of this proxy set off."""
    places = (proxy.url_of(row) for row in proxy.rows)
    urls = {proxy.url, *places}
    return _marked(text, {proxy.authority, *urls, *(url.partition("://")[2] for url in urls)})


def with_changes_marked(done: Rewriting) -> Markup:
    """Return a rewritten text with what is new in it set off."""
    return _marked(done.text, {new for _, new in done.changes})


def _marked(text: str, names: Collection[str]) -> Markup:
    """Set off each of these names where it stands, the longest that fits.

    A visitor's text may have thousands of them, so no pattern tries them all at each place: it
    looks for their hosts, and a name is known by its length.
    """
    lengths = sorted({len(name) for name in names}, reverse=True)
    pieces = []
    done = 0
    for start in _starts(text, names):
        fits = (text[start : start + length] for length in lengths)
        name = next((one for one in fits if one in names), "") if start >= done else ""
        if name:
            pieces += [escape(text[done:start]), Markup("<mark>{}</mark>").format(name)]
            done = start + len(name)
    return Markup().join([*pieces, text[done:]])


def _starts(text: str, names: Iterable[str]) -> Iterator[int]:
    """Give the places where a name may begin."""
    hosts = {re.escape(_PATH.sub("", name)) for name in names}
    if hosts:
        longest = "|".join(sorted(hosts, key=len, reverse=True))
        yield from (found.start() for found in re.finditer(longest, text))


def examples(proxy: Proxy) -> list[Example]:
    """Return those in which something is to be rewritten here: not every registry is served."""
    return [one for one in EXAMPLES if rewritten(one.text, proxy).changes]


def another(proxy: Proxy) -> str:
    """Return an image as one writes it, of another registry than the default where there is one."""
    return "/".join([*_others(proxy)[:1], "owner/app"])


def _others(proxy: Proxy) -> list[str]:
    return [row.name for row in proxy.rows if row is not proxy.default]


def example(proxy: Proxy) -> str:
    """Return what stands in the box at first: what one has, from two registries if there are."""
    default = proxy.default
    first = "nginx" if default.library_prefix else f"{default.name}/owner/app:1"
    second = [f"docker pull {another(proxy)}:1\n"] if _others(proxy) else []
    return "".join([f"docker pull {first}\n", *second])
