"""An answer with bytes of a blob: where they begin, and how large the whole is."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

from app.oci.conditional import parse_content_range
from app.source import Reply


@dataclass(frozen=True, slots=True)
class RemainingBody:
    """The bytes of a blob from an offset on; the first `skip` bytes of `body` come before it.

    `end` is the offset after the last byte, or None if the answer does not say.
    The skipped bytes cross the network too, so they are charged and bounded like the others.
    """

    body: Iterable[bytes]
    close: Callable[[], None]
    skip: int = 0
    end: int | None = None

    def iterate_arrivals(self) -> Iterator[tuple[int, bytes]]:
        """Yield each piece as it arrives: its size, and its bytes after the skipped ones."""
        skip = self.skip
        for data in self.body:
            yield len(data), data[skip:]
            skip = max(0, skip - len(data))

    def iterate_wanted(self) -> Iterator[bytes]:
        """Yield the bytes after the skipped ones; a piece may be empty."""
        for _, wanted in self.iterate_arrivals():
            yield wanted


def parse_rest(reply: Reply, offset: int, size: int) -> RemainingBody | None:
    """Return the rest of a blob of `size` bytes from `offset` on, as the reply delivers it.

    If the reply does not continue the blob at `offset`, close it and return None. A registry that
    does not support ranges sends the whole blob (RFC 9110, section 14.2); the bytes before
    `offset` are then skipped.
    """
    if reply.status == HTTPStatus.OK and reply.length == size:
        return RemainingBody(reply.chunks(), reply.close, skip=offset, end=size)
    part = parse_content_range(reply.header("content-range"))
    if (
        reply.status == HTTPStatus.PARTIAL_CONTENT
        and part is not None
        and part.start == offset
        and part.total in {size, None}
    ):
        return RemainingBody(reply.chunks(), reply.close, end=part.end)
    reply.close()
    return None


def parse_size(reply: Reply) -> int | None:
    """Return the size of the whole blob in bytes, from Content-Length or Content-Range.

    Return None if the reply does not give the size, or has a Content-Encoding.
    """
    if reply.header("content-encoding").lower() not in {"", "identity"}:
        return None  # the size would be that of the encoded form, whose digest nobody knows
    if reply.status == HTTPStatus.OK:
        return reply.length
    part = parse_content_range(reply.header("content-range"))
    if reply.status != HTTPStatus.PARTIAL_CONTENT or part is None:
        return None
    return part.total
