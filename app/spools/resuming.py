"""Answers of a registry that go on from the middle of a blob."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from app.source import Payer, Reply

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class Ask(Protocol):
    """Asks the registry as the one who reads; each may raise RegistryError.

    With `only_verified`, who reads a whole blob gets nothing instead of what nobody has hashed.
    """

    @property
    def only_verified(self) -> bool:
        """Whether that is so."""

    @property
    def payer(self) -> Payer | None:
        """The client that pays for what nobody else reads; None is nobody."""

    def rest(self, offset: int) -> Reply:
        """Ask for all from a byte on, for everybody: nobody's leaving ends it."""

    def part(self, start: int, end: int) -> Reply:
        """Ask for bytes `start` to `end`, the last one not counted, for this client alone."""

    def verified(self) -> None:
        """Know that all the bytes that `rest` brought are there, and right."""


@dataclass(frozen=True, slots=True)
class Rest:
    """The bytes of a blob from some byte on, after `skip` bytes of `body` that were not asked for.

    What is skipped comes over the line as well, and is to be charged and bounded like the rest.
    """

    body: Iterable[bytes]
    close: Callable[[], None]
    skip: int = 0

    def wanted(self) -> Iterator[bytes]:
        """Yield the bytes after those that are skipped, piece by piece as they come.

        A piece of which all is skipped is empty, so that none comes unseen.
        """
        skip = self.skip
        for data in self.body:
            yield data[skip:]
            skip = max(0, skip - len(data))


def rest_of(reply: Reply, offset: int, size: int) -> Rest | None:
    """Return what goes on at an offset; None, and close the reply, if it cannot.

    A registry that knows no ranges sends the whole (RFC 9110, section 14.2), which is skipped up to
    there.
    """
    if reply.status == HTTPStatus.OK and reply.length == size:
        return Rest(reply.body, reply.close, skip=offset)
    match = _CONTENT_RANGE.fullmatch(reply.header("content-range").strip())
    if (
        reply.status == HTTPStatus.PARTIAL_CONTENT
        and match is not None
        and int(match[1]) == offset
        and match[3] in {str(size), "*"}
    ):
        return Rest(reply.body, reply.close)
    reply.close()
    return None


def size_of(reply: Reply) -> int | None:
    """Return the size of the whole blob, as an answer with it or a part of it tells it."""
    if reply.header("content-encoding").lower() not in {"", "identity"}:
        return None  # the bytes of the encoded form, of which nobody knows the digest
    if reply.status == HTTPStatus.OK:
        return reply.length
    match = _CONTENT_RANGE.fullmatch(reply.header("content-range").strip())
    if reply.status != HTTPStatus.PARTIAL_CONTENT or match is None or match[3] == "*":
        return None
    return int(match[3])
