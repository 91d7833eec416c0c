"""What conditional headers ask of content that has an ETag and no date: RFC 9110, section 13."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from app.oci import headers
from app.oci.headers import Headers
from app.oci.reference import Digest

# Which bytes a Range header asks for: RFC 9110, section 14.

_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Range:
    """One range as it was asked for: from a byte on, up to one, or the last so many."""

    first: int | None
    last: int | None

    def of(self, size: int) -> tuple[int, int] | None:
        """Return where it starts and ends in so many bytes, the last one not counted.

        What lies past the end is cut off; None if all of it does.
        """
        if self.first is None:
            start, end = max(0, size - (self.last or 0)), size
        else:
            start = self.first
            end = size if self.last is None else min(self.last + 1, size)
        return (start, end) if start < end else None


def parse_range(header: str) -> Range | None:
    """Return the one range that a header asks for, or None for the whole.

    A header that cannot be read asks for nothing, and several ranges may be answered by the whole
    (section 14.2): no container client asks for them.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = (int(text) if text else None for text in match.groups())
    if (first is None and last is None) or (first or 0) > (last if last is not None else 10**18):
        return None
    return Range(first, last)


_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def failed(fields: Headers, etag: str) -> HTTPStatus | None:
    """Return 412 or 304 if that is the answer to a GET or a HEAD, or None to go on.

    Dates are no question here: content without a date has not been modified since any.
    """
    wanted = headers.values(fields, "if-match")
    if wanted and not _lists(wanted, etag, weakly=False):
        return HTTPStatus.PRECONDITION_FAILED
    return HTTPStatus.NOT_MODIFIED if is_known(fields, etag) else None


def is_known(fields: Headers, etag: str) -> bool:
    """Tell whether an If-None-Match names what a client has already."""
    known = headers.values(fields, "if-none-match")
    return bool(known) and _lists(known, etag, weakly=True)


def etag_of(digest: Digest) -> str:
    """Return the ETag of content: its digest, which no other content has."""
    return f'"{digest}"'


def wants_range(fields: Headers, etag: str) -> str:
    """Return the Range header if it counts, or "": If-Range lets it count for one ETag only."""
    only = headers.value(fields, "if-range").strip()
    return headers.value(fields, "range") if only in {"", etag} else ""


def _lists(values: list[str], etag: str, *, weakly: bool) -> bool:
    text = ",".join(values)
    if text.strip() == "*":
        return True
    tags = _TAG.findall(text)
    return etag in ([tag.removeprefix("W/") for tag in tags] if weakly else tags)
