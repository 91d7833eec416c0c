"""Images, commands and files as one knows them, rewritten to pull through this proxy."""

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
"""Bytes of a text that whoever asks may have rewritten."""

_WITH_DEFAULT: Final = re.compile(r"\$\{\w+:?-(?P<default>[^${}]+)\}")


class Why(StrEnum):
    """Why an image was left as it is."""

    NOT_SERVED = "not served"
    VARIABLE = "variable"
    ALREADY = "already"


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A text for this proxy; what was changed in it and what was not, each once."""

    text: str
    changes: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, Why], ...]


def rewritten(text: str, proxy: Proxy) -> Rewriting:
    """Rewrite every image of a text: a name, a command, a Dockerfile, a compose file, ..."""
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
    """Give the places of images in their order."""
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
    """Return where the default of a variable stands that is all of a name; or else the name."""
    found = _WITH_DEFAULT.fullmatch(text, start, end)
    return found.span("default") if found else (start, end)


def _names(text: str) -> list[Span]:
    """Return the places of names that stand alone in their lines, where all lines are such."""
    places = []
    at = 0
    for line in text.splitlines(keepends=True):
        if name := line.strip():
            start = at + line.index(name)
            places.append((start, start + len(name)))
        at += len(line)
    return places if all(image(text[start:end]) for start, end in places) else []


def _address(proxy: Proxy, written: str) -> str | Why | None:
    """Return an image's address here, why it has none, or None for what is no image."""
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
