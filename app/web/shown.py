"""Pieces of text as the page shows them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from app.web.proxy import Proxy


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


def marked(text: str, names: Iterable[str]) -> Markup:
    """Return a text with each of these names set off."""
    listed = sorted({name for name in names if name}, key=len, reverse=True)
    if not listed:
        return escape(text)
    pattern = f"({'|'.join(map(re.escape, listed))})"
    pieces = re.split(pattern, text)
    # Names stand at every second place.
    return Markup().join(
        Markup("<mark>{}</mark>").format(piece) if at % 2 else piece
        for at, piece in enumerate(pieces)
    )


def with_own_marked(text: str, proxy: Proxy) -> Markup:
    """Return a text with the addresses of this proxy set off."""
    places = (proxy.url_of(row) for row in proxy.rows)
    names = [proxy.url, proxy.authority, *places]
    return marked(text, [*names, *(name.partition("://")[2] for name in names)])


def example(proxy: Proxy) -> str:
    """Return what stands in the box at first: what one has, from two registries if there are."""
    default = proxy.default
    first = "nginx" if default.library_prefix else f"{default.name}/owner/app:1"
    other = next((row.name for row in proxy.rows if row is not default), None)
    return f"docker pull {first}\n" + (f"docker pull {other}/owner/app:1\n" if other else "")
