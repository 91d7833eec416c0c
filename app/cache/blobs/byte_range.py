"""Byte ranges: which part of a blob an answer carries (RFC 9110, sections 13 and 14)."""

from dataclasses import dataclass
from http import HTTPStatus

from app.oci import conditional
from app.oci.conditional import parse_range
from app.oci.headers import Headers
from app.oci.reference import Digest
from app.source import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedRange:
    """Bytes `start` to `end` (exclusive) of `size`, and the status to send them with."""

    status: HTTPStatus
    start: int
    end: int
    size: int

    @property
    def has_bytes(self) -> bool:
        """Whether the answer describes bytes of the blob, even if a HEAD does not get them."""
        return self.status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole blob."""
        return self.has_bytes and self.end - self.start == self.size

    @property
    def length(self) -> int | None:
        """The Content-Length in bytes; None for a 304, which has none."""
        if self.status is HTTPStatus.NOT_MODIFIED:
            return None
        return self.end - self.start

    @property
    def headers(self) -> Headers:
        """The Content-Range header of a 206 or 416; no header for other statuses."""
        match self.status:
            case HTTPStatus.PARTIAL_CONTENT:
                return [("Content-Range", f"bytes {self.start}-{self.end - 1}/{self.size}")]
            case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return [("Content-Range", f"bytes */{self.size}")]
            case _:
                return []


def select_range(request: Request, digest: Digest, size: int) -> SelectedRange:
    """Return the part of a blob of `size` bytes that answers the request.

    Its status is 200, 206, 304, 412 or 416.
    """
    if status := conditional.evaluate_conditions(request.headers, digest):
        return SelectedRange(status=status, start=0, end=0, size=size)
    asked = conditional.get_range_header(request.headers, digest)
    # Ranges are defined for GET alone (RFC 9110, section 14.2).
    wanted = parse_range(asked) if request.method == "GET" else None
    if wanted is None:
        return SelectedRange(status=HTTPStatus.OK, start=0, end=size, size=size)
    found = wanted.resolve(size)
    if found is None:
        status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        return SelectedRange(status=status, start=0, end=0, size=size)
    start, end = found
    return SelectedRange(status=HTTPStatus.PARTIAL_CONTENT, start=start, end=end, size=size)
