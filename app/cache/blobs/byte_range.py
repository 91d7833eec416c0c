"""Which part of a blob an answer carries: what the client's header asks for, of what there is."""

from dataclasses import dataclass
from http import HTTPStatus

from app.oci import conditional
from app.oci.conditional import parse_range
from app.oci.headers import Headers
from app.oci.reference import Digest
from app.source import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes `start` to `end`, the last one not counted, and the status that goes with them."""

    status: HTTPStatus
    start: int
    end: int
    size: int

    @property
    def has_bytes(self) -> bool:
        """Whether the answer is about bytes, sent or (to a HEAD) not."""
        return self.status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}

    @property
    def is_whole(self) -> bool:
        """Whether these are all bytes of the blob."""
        return self.has_bytes and self.end - self.start == self.size

    @property
    def length(self) -> int | None:
        """The length of the body; a 304 tells none."""
        if self.status is HTTPStatus.NOT_MODIFIED:
            return None
        return self.end - self.start

    @property
    def fields(self) -> Headers:
        """What the header says of it."""
        match self.status:
            case HTTPStatus.PARTIAL_CONTENT:
                return [("Content-Range", f"bytes {self.start}-{self.end - 1}/{self.size}")]
            case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return [("Content-Range", f"bytes */{self.size}")]
            case _:
                return []


def part_for(request: Request, digest: Digest, size: int) -> Part:
    """Return what a request for a blob of so many bytes is answered with."""
    if status := conditional.failed(request.headers, conditional.etag_of(digest)):
        return Part(status=status, start=0, end=0, size=size)
    asked = conditional.wants_range(request.headers, conditional.etag_of(digest))
    # Ranges are defined for GET alone (RFC 9110, section 14.2).
    wanted = parse_range(asked) if request.method == "GET" else None
    if wanted is None:
        return Part(status=HTTPStatus.OK, start=0, end=size, size=size)
    found = wanted.of(size)
    if found is None:
        status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        return Part(status=status, start=0, end=0, size=size)
    start, end = found
    return Part(status=HTTPStatus.PARTIAL_CONTENT, start=start, end=end, size=size)
