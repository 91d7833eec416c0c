"""The page's examples, and texts with parts highlighted."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from app.web.proxy import Proxy
from app.web.rewriting import Rewriting, rewrite_text

_PATH: Final = re.compile(r"(?<![:/])/.*")
"""Matches what follows a host, with or without `https://` in front of it."""


@dataclass(frozen=True, slots=True)
class Example:
    """An example text for the box, and its title."""

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
"""The texts that a visitor can try in the box."""


def mark_own_addresses(text: str, proxy: Proxy) -> Markup:
    """Return a text as HTML with the addresses of this proxy in `<mark>`."""
    row_urls = (proxy.url_of(row) for row in proxy.rows)
    urls = {proxy.url, *row_urls}
    return _mark(text, {proxy.authority, *urls, *(url.partition("://")[2] for url in urls)})


def mark_changes(rewriting: Rewriting) -> Markup:
    """Return a rewritten text as HTML with the changed names in `<mark>`."""
    return _mark(rewriting.text, {new for _, new in rewriting.changes})


def _mark(text: str, names: Collection[str]) -> Markup:
    """Return a text as HTML with each of these names in `<mark>`; the longest match wins.

    A visitor's text may contain thousands of names, too many for a pattern to try at each
    position. So the pattern finds only their hosts, and a set lookup for each length of a name
    finds the rest.
    """
    lengths = sorted({len(name) for name in names}, reverse=True)
    pieces = []
    copied_until = 0
    for start in _find_hosts(text, names):
        candidates = (text[start : start + length] for length in lengths)
        name = (
            next((candidate for candidate in candidates if candidate in names), "")
            if start >= copied_until
            else ""
        )
        if name:
            pieces += [escape(text[copied_until:start]), Markup("<mark>{}</mark>").format(name)]
            copied_until = start + len(name)
    return Markup().join([*pieces, text[copied_until:]])


def _find_hosts(text: str, names: Iterable[str]) -> Iterator[int]:
    """Yield the offsets at which a name's host begins."""
    hosts = {re.escape(_PATH.sub("", name)) for name in names}
    if hosts:
        pattern = "|".join(sorted(hosts, key=len, reverse=True))
        yield from (match.start() for match in re.finditer(pattern, text))


def list_examples(proxy: Proxy) -> list[Example]:
    """Return the examples that this proxy would change; it may not serve all their registries."""
    return [example for example in EXAMPLES if rewrite_text(example.text, proxy).changes]


def build_other_image(proxy: Proxy) -> str:
    """Return an example image of a registry other than the default, if one is served."""
    return "/".join([*_list_others(proxy)[:1], "owner/app"])


def _list_others(proxy: Proxy) -> list[str]:
    return [row.name for row in proxy.rows if row is not proxy.default]


def build_initial_text(proxy: Proxy) -> str:
    """Return the initial text of the box: `docker pull` from up to two of the registries."""
    default = proxy.default
    first = "nginx" if default.library_prefix else f"{default.name}/owner/app:1"
    second = [f"docker pull {build_other_image(proxy)}:1\n"] if _list_others(proxy) else []
    return "".join([f"docker pull {first}\n", *second])
