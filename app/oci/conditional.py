"""Ranges and conditional requests for content with an ETag and no date (RFC 9110, 13 and 14)."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from app.oci import headers
from app.oci.headers import Headers
from app.oci.reference import Digest

# The Range header (RFC 9110, section 14)

_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)


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


def parse_range(header: str) -> ByteRange | None:
    """Return the range that a Range header asks for, or None if the answer is the whole content.

    A malformed header is ignored. So is one with several ranges, which a server may answer with the
    whole content (section 14.2): no container client asks for several.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = (int(text) if text else None for text in match.groups())
    if (first is None and last is None) or (first or 0) > (last if last is not None else 10**18):
        return None
    return ByteRange(first, last)


_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def evaluate_conditions(fields: Headers, etag: str) -> HTTPStatus | None:
    """Return 412 or 304 if a condition of a GET or a HEAD fails, or None if none does.

    Conditions about dates are ignored, because the content has no date (RFC 9110, section 13.1).
    """
    wanted = headers.get_all(fields, "if-match")
    if wanted and not _matches_etag(wanted, etag, weakly=False):
        return HTTPStatus.PRECONDITION_FAILED
    return HTTPStatus.NOT_MODIFIED if is_not_modified(fields, etag) else None


def is_not_modified(fields: Headers, etag: str) -> bool:
    """Return whether If-None-Match names this ETag, so that the client has the content already."""
    known = headers.get_all(fields, "if-none-match")
    return bool(known) and _matches_etag(known, etag, weakly=True)


def build_etag(digest: Digest) -> str:
    """Return the strong ETag of content, which is its digest in quotes."""
    return f'"{digest}"'


def get_range_header(fields: Headers, etag: str) -> str:
    """Return the Range header, or "" without one or if If-Range does not name `etag`."""
    only = headers.get_first(fields, "if-range").strip()
    return headers.get_first(fields, "range") if only in {"", etag} else ""


def _matches_etag(values: list[str], etag: str, *, weakly: bool) -> bool:
    text = ",".join(values)
    if text.strip() == "*":
        return True
    tags = _TAG.findall(text)
    return etag in ([tag.removeprefix("W/") for tag in tags] if weakly else tags)
