"""Byte ranges: which parts of a blob an answer carries (RFC 9110, sections 13 and 14)."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from typing import Final, Protocol

from app.oci import conditional
from app.oci.headers import Headers
from app.oci.reference import Digest
from app.source import Request
from app.transfer.lease import Span

CONTENT_TYPE: Final = "application/octet-stream"
"""The Content-Type of every blob, whatever the registry sends. The manifest gives the real type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedRanges:
    """The parts of a blob of `size` bytes that answer a request, and the status to send them with.

    Several parts are sent as `multipart/byteranges`, in the order in which they were asked for.
    """

    status: HTTPStatus
    spans: Sequence[Span]
    size: int
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def has_bytes(self) -> bool:
        """Whether the answer describes bytes of the blob, even if a HEAD does not get them."""
        return self.status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}

    @property
    def is_whole(self) -> bool:
        """Whether the answer is the whole blob, once."""
        return self.has_bytes and self.spans == [(0, self.size)]

    @property
    def is_multipart(self) -> bool:
        """Whether there are several parts."""
        return len(self.spans) > 1

    @property
    def length(self) -> int | None:
        """The Content-Length in bytes; None for a 304, which has none."""
        if self.status is HTTPStatus.NOT_MODIFIED:
            return None
        length = sum(end - start for start, end in self.spans)
        if self.is_multipart:
            length += sum(len(self.build_delimiter(span)) for span in self.spans)
            length += len(self.build_last_delimiter())
        return length

    @property
    def headers(self) -> Headers:
        """The Content-Type of bytes, and the Content-Range of a single part or of a 416."""
        if self.is_multipart:
            return [("Content-Type", f"multipart/byteranges; boundary={self.boundary}")]
        fields = [("Content-Type", CONTENT_TYPE)] if self.has_bytes else []
        match self.status:
            case HTTPStatus.PARTIAL_CONTENT:
                return [*fields, ("Content-Range", self._describe(self.spans[0]))]
            case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return [("Content-Range", f"bytes */{self.size}")]
            case _:
                return fields

    def build_delimiter(self, span: Span) -> bytes:
        """Return what precedes a part (RFC 9110, section 14.6)."""
        lines = (
            f"\r\n--{self.boundary}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Range: {self._describe(span)}",
            "\r\n",
        )
        return "\r\n".join(lines).encode()

    def build_last_delimiter(self) -> bytes:
        """Return what follows the last part."""
        return f"\r\n--{self.boundary}--\r\n".encode()

    def _describe(self, span: Span) -> str:
        return f"bytes {span[0]}-{span[1] - 1}/{self.size}"


def select_ranges(request: Request, digest: Digest, size: int) -> SelectedRanges:
    """Return the parts of a blob of `size` bytes that answer the request.

    The status is 200, 206, 304, 412 or 416.
    """
    if status := conditional.evaluate_conditions(request.headers, digest):
        return SelectedRanges(status=status, spans=[], size=size)
    whole = SelectedRanges(status=HTTPStatus.OK, spans=[(0, size)], size=size)
    # Ranges are defined for GET alone (RFC 9110, section 14.2).
    if request.method != "GET":
        return whole
    range_header = conditional.get_range_header(request.headers, digest)
    ranges = conditional.parse_ranges(range_header)
    if not ranges:
        return whole
    spans = [span for one in ranges if (span := one.resolve(size)) is not None]
    if not spans:
        status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        return SelectedRanges(status=status, spans=[], size=size)
    if _overlap(spans):  # such a request may cost many times the blob (section 17.15)
        return whole
    return SelectedRanges(status=HTTPStatus.PARTIAL_CONTENT, spans=spans, size=size)


def _overlap(spans: Sequence[Span]) -> bool:
    ordered = sorted(spans)
    return any(first[1] > second[0] for first, second in pairwise(ordered))


def merge_near(spans: Sequence[Span], gap: int) -> list[Span]:
    """Return spans in order of their offsets, with those joined that are less than `gap` apart."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start - merged[-1][1] < gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


class SelectableBody(Protocol):
    """A body that gives one part of a blob after the other."""

    def select(self, start: int, end: int) -> None:
        """Go on with the bytes from `start` up to but not including `end`."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes of the selected part; raise BodyBroken if they cannot be read."""


class MultipartBody:
    """Several parts of a blob, with their delimiters; reading raises BodyBroken."""

    def __init__(self, ranges: SelectedRanges, body: SelectableBody) -> None:
        self._ranges = ranges
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for span in self._ranges.spans:
            yield self._ranges.build_delimiter(span)
            self._body.select(*span)
            yield from self._body
        yield self._ranges.build_last_delimiter()
