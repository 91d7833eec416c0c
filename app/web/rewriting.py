"""Rewrite image names, commands and files so that they pull through this proxy."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from typing import Final

from app.oci.errors import NameUnknown
from app.web import formats
from app.web.images import has_variable, parse_image_name
from app.web.proxy import Proxy

Span = tuple[int, int]

LONGEST: Final = 64 * 1024
"""In bytes: the longest text that a client may have rewritten."""

_WITH_DEFAULT: Final = re.compile(r"\$\{\w+:?-(?P<default>[^${}]+)\}")


class SkipReason(StrEnum):
    """Why an image name was not changed."""

    NOT_SERVED = "not served"
    VARIABLE = "variable"
    ALREADY_PROXIED = "already"


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A rewritten text, the changes as (old, new), and the names left as they are; each once."""

    text: str
    changes: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, SkipReason], ...]


def rewrite_text(text: str, proxy: Proxy) -> Rewriting:
    """Return a text with every image name replaced by its address through `proxy`.

    The text may be a name, a command, a Dockerfile, a compose file and so on.
    """
    changes: dict[str, str] = {}
    skipped: dict[str, SkipReason] = {}
    pieces = []
    copied_until = 0
    address = cache(partial(_resolve_address, proxy))
    for start, end in _find_names(text):
        name = text[start:end]
        address_or_reason = address(name)
        if isinstance(address_or_reason, SkipReason):
            skipped[name] = address_or_reason
        elif address_or_reason:
            changes[name] = address_or_reason
            pieces += [text[copied_until:start], address_or_reason]
            copied_until = end
    return Rewriting(
        "".join([*pieces, text[copied_until:]]), tuple(changes.items()), tuple(skipped.items())
    )


def _find_names(text: str) -> Iterator[Span]:
    """Yield the spans of image names in order, without overlaps."""
    spans = {
        *formats.find_dockerfile_spans(text),
        *formats.find_document_spans(text),
        *formats.find_command_spans(text),
    }
    last_end = 0
    for start, end in sorted(spans or _find_plain_names(text)):
        if start >= last_end:
            yield _find_default(text, start, end)
            last_end = end


def _find_default(text: str, start: int, end: int) -> Span:
    """Return the span of the default if a name is `${VARIABLE:-default}`, else the given span."""
    match = _WITH_DEFAULT.fullmatch(text, start, end)
    return match.span("default") if match else (start, end)


def _find_plain_names(text: str) -> list[Span]:
    """Return the span of each line's image name, or [] if any line is more than a name."""
    spans = []
    line_start = 0
    for line in text.splitlines(keepends=True):
        if name := line.strip():
            start = line_start + line.index(name)
            spans.append((start, start + len(name)))
        line_start += len(line)
    return spans if all(parse_image_name(text[start:end]) for start, end in spans) else []


def _resolve_address(proxy: Proxy, text: str) -> str | SkipReason | None:
    """Return an image's address here, or why it has none; None if the text is not an image."""
    image = parse_image_name(text)
    if image is None:
        return SkipReason.VARIABLE if has_variable(text) else None
    if proxy.is_own(image.registry):
        return SkipReason.ALREADY_PROXIED
    try:
        row = proxy.get_registry(image.registry)
    except NameUnknown:
        return SkipReason.NOT_SERVED
    name = proxy.build_name(row, image.repository)
    return f"{name}{image.version}" if name else SkipReason.NOT_SERVED
