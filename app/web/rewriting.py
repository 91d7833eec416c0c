"""Rewrite image names, commands and files so that they pull through this proxy."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from typing import Final

from app.oci.errors import NameUnknown
from app.web import formats
from app.web.images import has_variable, image
from app.web.proxy import Proxy

Span = tuple[int, int]

LONGEST: Final = 64 * 1024
"""In bytes: the longest text that a client may have rewritten."""

_WITH_DEFAULT: Final = re.compile(r"\$\{\w+:?-(?P<default>[^${}]+)\}")


class Why(StrEnum):
    """Why an image name was not changed."""

    NOT_SERVED = "not served"
    VARIABLE = "variable"
    ALREADY = "already"


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A rewritten text, the changes as (old, new), and the names left as they are; each once."""

    text: str
    changes: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, Why], ...]


def rewritten(text: str, proxy: Proxy) -> Rewriting:
    """Return a text with every image name replaced by its address through `proxy`.

    The text may be a name, a command, a Dockerfile, a compose file and so on.
    """
    changes: dict[str, str] = {}
    left: dict[str, Why] = {}
    pieces = []
    done = 0
    address = cache(partial(_address, proxy))
    for start, end in _found(text):
        written = text[start:end]
        new = address(written)
        if isinstance(new, Why):
            left[written] = new
        elif new:
            changes[written] = new
            pieces += [text[done:start], new]
            done = end
    return Rewriting("".join([*pieces, text[done:]]), tuple(changes.items()), tuple(left.items()))


def _found(text: str) -> Iterator[Span]:
    """Yield the spans of image names in order, without overlaps."""
    found = {
        *formats.dockerfile_spans(text),
        *formats.document_spans(text),
        *formats.command_spans(text),
    }
    done = 0
    for start, end in sorted(found or _names(text)):
        if start >= done:
            yield _default(text, start, end)
            done = end


def _default(text: str, start: int, end: int) -> Span:
    """Return the span of the default if a name is `${VARIABLE:-default}`, else the given span."""
    found = _WITH_DEFAULT.fullmatch(text, start, end)
    return found.span("default") if found else (start, end)


def _names(text: str) -> list[Span]:
    """Return the span of each line's image name; nothing if any line is more than a name."""
    places = []
    at = 0
    for line in text.splitlines(keepends=True):
        if name := line.strip():
            start = at + line.index(name)
            places.append((start, start + len(name)))
        at += len(line)
    return places if all(image(text[start:end]) for start, end in places) else []


def _address(proxy: Proxy, written: str) -> str | Why | None:
    """Return an image's address here or why it has none; None if it is not an image."""
    meant = image(written)
    if meant is None:
        return Why.VARIABLE if has_variable(written) else None
    if proxy.is_own(meant.registry):
        return Why.ALREADY
    try:
        row = proxy.row(meant.registry)
    except NameUnknown:
        return Why.NOT_SERVED
    name = proxy.name(row, meant.repository)
    return f"{name}{meant.version}" if name else Why.NOT_SERVED
