"""Resuming a blob: asks the registry for the rest, and reads its answer."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from app.oci.conditional import parse_content_range
from app.source import Payer, Reply


class RestFetcher(Protocol):
    """Asks the registry on behalf of one reader. Both fetches may raise RegistryError."""

    @property
    def only_verified(self) -> bool:
        """Whether a reader of the whole blob must not get bytes that nobody has hashed."""

    @property
    def payer(self) -> Payer | None:
        """The client that is charged for bytes that nobody else reads; None charges nobody."""

    def fetch_rest(self, offset: int) -> Reply:
        """Fetch from `offset` to the end for all readers; no client's disconnect cancels it."""

    def fetch_range(self, start: int, end: int) -> Reply:
        """Fetch the bytes from `start` up to but not including `end`, for this client alone."""

    def record_verified(self) -> None:
        """Take note that the blob that `fetch_rest` completed has been verified."""


@dataclass(frozen=True, slots=True)
class RemainingBody:
    """The bytes of a blob from an offset on; the first `skip` bytes of `body` come before it.

    The skipped bytes cross the network too, so they are charged and bounded like the others.
    """

    body: Iterable[bytes]
    close: Callable[[], None]
    skip: int = 0

    def iterate_wanted(self) -> Iterator[bytes]:
        """Yield the bytes after the skipped ones, piece by piece as they arrive.

        If all of a piece is skipped, yield an empty one, so that the caller sees every arrival.
        """
        skip = self.skip
        for data in self.body:
            yield data[skip:]
            skip = max(0, skip - len(data))


def parse_rest(reply: Reply, offset: int, size: int) -> RemainingBody | None:
    """Return the rest of a blob of `size` bytes from `offset` on, as the reply delivers it.

    If the reply does not continue the blob at `offset`, close it and return None. A registry that
    does not support ranges sends the whole blob (RFC 9110, section 14.2); the bytes before
    `offset` are then skipped.
    """
    if reply.status == HTTPStatus.OK and reply.length == size:
        return RemainingBody(reply.chunks(), reply.close, skip=offset)
    part = parse_content_range(reply.header("content-range"))
    if (
        reply.status == HTTPStatus.PARTIAL_CONTENT
        and part is not None
        and part.start == offset
        and part.total in {size, None}
    ):
        return RemainingBody(reply.chunks(), reply.close)
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
    if reply.status != HTTPStatus.PARTIAL_CONTENT:
        return None
    part = parse_content_range(reply.header("content-range"))
    return None if part is None else part.total
