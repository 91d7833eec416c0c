"""Which bytes of a blob an answer carries: Content-Range and Content-Length."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import requests

from app.upstream.body import content_length

_UNSATISFIED: Final = re.compile(r"bytes \*/(\d{1,18})")
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `end`, the last one not counted, of `total`; None for what is not known."""

    start: int
    end: int | None
    total: int | None

    def continues(self, wanted: "Part") -> bool:
        """Tell whether this part begins where `wanted` does and belongs to the same whole."""
        if self.start != wanted.start:
            return False
        if self.end is not None and wanted.end is not None and self.end > wanted.end:
            return False
        return self.belongs(wanted)

    def belongs(self, wanted: "Part") -> bool:
        """Tell whether this part may be of the same whole, as far as both tell of it."""
        if self.total is None:
            return True
        if wanted.total is not None:
            return self.total == wanted.total
        return wanted.end is None or self.total >= wanted.end


def part_at_end(response: requests.Response) -> int | None:
    """Return the total that a refusal of a part tells (RFC 9110, section 15.5.17), or None."""
    if response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return None
    match = _UNSATISFIED.fullmatch(response.headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None


def part_of(response: requests.Response) -> Part | None:
    """Return what an answer to a GET carries; None for what no part of it could continue."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        return None  # the bytes of the encoded form, of which nobody knows the digest
    length = content_length(response)
    if response.status_code == HTTPStatus.OK:
        return Part(0, length, length)
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        return None
    return part_told(response.headers.get("Content-Range", ""), length)


def part_told(content_range: str, length: int | None) -> Part | None:
    """Return what a Content-Range tells; None where it cannot be read, or not with that length."""
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    if match is None:
        return None  # several ranges, or none that can be read
    start, end = int(match[1]), int(match[2]) + 1
    total = None if match[3] == "*" else int(match[3])
    consistent = start < end and (total is None or end <= total)
    if not consistent or length not in {None, end - start}:
        return None
    return Part(start, end, total)
