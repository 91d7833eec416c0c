"""Ranges and conditional requests for content with an ETag and no date (RFC 9110, 13 and 14).

Werkzeug reads lists of ETags. Ranges are read by the grammar of the RFC, because Werkzeug's parsers
accept ranges that it forbids (docs/decisions/reading-upstream/ranges.md).
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from werkzeug.http import parse_etags, quote_etag

from app.oci import headers
from app.oci.headers import Headers
from app.oci.reference import Digest

# The Range header (RFC 9110, section 14.2)

_RANGE: Final = re.compile(r"[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """One range as requested.

    `first` and `last` are byte positions, both included. If `first` is None, the range is the last
    `last` bytes; if `last` is None, it extends to the end.
    """

    first: int | None
    last: int | None

    def resolve(self, size: int) -> tuple[int, int] | None:
        """Return the start and the end (exclusive) of the range in content of `size` bytes.

        A range that extends past the end of the content is cut off there.
        Return None if no byte of it is in the content.
        """
        if self.first is None:
            start, end = max(0, size - (self.last or 0)), size
        else:
            start = self.first
            end = size if self.last is None else min(self.last + 1, size)
        return (start, end) if start < end else None


_MOST_RANGES: Final = 1024
"""Ranges in one header; podman asks for at most so many parts of a layer at once."""


def parse_ranges(header: str) -> list[ByteRange]:
    """Return the ranges that a Range header asks for; none if the answer is the whole content.

    A header that is malformed or asks for too many ranges is ignored (section 14.2).
    """
    unit, _, specifiers = header.strip().partition("=")
    if unit.lower() != "bytes":
        return []
    found = [_parse_range(text) for text in specifiers.split(",") if text.strip(" \t")]
    known = [one for one in found if one is not None]
    return known if len(known) == len(found) <= _MOST_RANGES else []


def _parse_range(specifier: str) -> ByteRange | None:
    match = _RANGE.fullmatch(specifier)
    if match is None:
        return None
    first, last = (int(text) if text else None for text in match.groups())
    if (first is None and last is None) or (first or 0) > (last if last is not None else 10**18):
        return None
    return ByteRange(first, last)


def parse_range(header: str) -> ByteRange | None:
    """Return the only range that a Range header asks for.

    Return None if it asks for several, or if the answer is the whole content.
    """
    ranges = parse_ranges(header)
    return ranges[0] if len(ranges) == 1 else None


def build_range(start: int, end: int | None = None) -> tuple[str, str]:
    """Return the Range field for the bytes from `start` up to but not including `end`.

    Without `end` the range extends to the end of the content.
    """
    return ("Range", f"bytes={start}-{'' if end is None else end - 1}")


# The Content-Range header (RFC 9110, section 14.4)

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)
_UNSATISFIED: Final = re.compile(r"bytes \*/(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The bytes from `start` up to but not including `end`, out of `total` bytes.

    `end` and `total` are None if they are unknown.
    """

    start: int
    end: int | None
    total: int | None

    def continues(self, remaining: "ContentRange") -> bool:
        """Return True if this part starts where `remaining` does and may be of the same whole.

        It may end before `remaining`, but not after.
        """
        if self.start != remaining.start:
            return False
        if self.end is not None and remaining.end is not None and self.end > remaining.end:
            return False
        return self.is_compatible_with(remaining)

    def is_compatible_with(self, remaining: "ContentRange") -> bool:
        """Return True unless the known sizes show that this part is not of the same whole."""
        if self.total is None:
            return True
        if remaining.total is not None:
            return self.total == remaining.total
        return remaining.end is None or self.total >= remaining.end

    def answers(self, asked: ByteRange) -> bool:
        """Return True if this part starts where a requested range does and ends within it."""
        if asked.first is None:
            total = self.end if self.total is None else self.total
            return self.end == total and self.start == max(0, (total or 0) - (asked.last or 0))
        end = self.end or 0
        return self.start == asked.first and (asked.last is None or end <= asked.last + 1)


def parse_content_range(value: str, length: int | None = None) -> ContentRange | None:
    """Return the part that a Content-Range describes.

    Return None if the field is not a single valid byte range, or contradicts `length`, the
    Content-Length in bytes, if it is given.
    """
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return None  # several ranges, or malformed
    start, end = int(match[1]), int(match[2]) + 1
    total = None if match[3] == "*" else int(match[3])
    is_consistent = start < end and (total is None or end <= total)
    if not is_consistent or length not in {None, end - start}:
        return None
    return ContentRange(start, end, total)


def parse_unsatisfied_size(value: str) -> int | None:
    """Return the size in bytes that the Content-Range of a 416 states (section 15.5.17).

    Return None if it does not state a size.
    """
    match = _UNSATISFIED.fullmatch(value.strip())
    return int(match[1]) if match else None


# Conditions (RFC 9110, section 13): the ETag of content is its digest in quotes.


def build_etag(digest: Digest) -> str:
    """Return the strong ETag of content, which is its digest in quotes."""
    return quote_etag(digest)


def evaluate_conditions(fields: Headers, digest: Digest) -> HTTPStatus | None:
    """Return 412 or 304 if a condition of a GET or a HEAD fails, or None if none does.

    Conditions about dates are ignored, because the content has no date (section 13.1).
    """
    if_match = headers.get_all(fields, "if-match")
    if if_match and not parse_etags(",".join(if_match).strip()).contains(digest):
        return HTTPStatus.PRECONDITION_FAILED
    return HTTPStatus.NOT_MODIFIED if is_not_modified(fields, digest) else None


def is_not_modified(fields: Headers, digest: Digest) -> bool:
    """Return whether If-None-Match names the content, so that the client has it already."""
    if_none_match = headers.get_all(fields, "if-none-match")
    return bool(if_none_match) and parse_etags(",".join(if_none_match).strip()).contains_weak(
        digest
    )


def get_range_header(fields: Headers, digest: Digest) -> str:
    """Return the Range header, or "" if it is missing or If-Range does not name the content.

    A weak ETag does not name it (section 13.1.5).
    """
    if_range = headers.get_first(fields, "if-range").strip()
    return headers.get_first(fields, "range") if if_range in {"", build_etag(digest)} else ""
