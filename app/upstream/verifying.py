"""A blob whose end is held back until its digest is right."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from app.content import BodyBroken
from app.oci.reference import Digest
from app.offloop import RealThreads

logger = logging.getLogger(__name__)

_THREADS: Final = RealThreads(2)


def verifies(digest: Digest) -> bool:
    """Tell whether a digest is one that can be computed here.

    A blob by another one passes unverified: to refuse it would take it from a client that can
    check it itself, because of a setting that is about all the others.
    """
    return digest.can_be_verified


def digest_of_nothing(digest: Digest) -> str:
    """Return the digest of no bytes, by the algorithm of this one."""
    algorithm = digest.algorithm
    return f"{algorithm}:{hashlib.new(algorithm).hexdigest()}"


class VerifiedBody:
    """The bytes of a whole blob; raises BodyBroken before the last of them if they are wrong."""

    def __init__(
        self,
        inner: Iterable[bytes],
        digest: Digest,
        length: int | None,
        close: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._digest = digest
        self._length = length
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        algorithm, _, wanted = self._digest.partition(":")
        running = hashlib.new(algorithm)
        received = 0
        held = b""
        for data in self._inner:
            received += len(data)
            hashing = _THREADS.begin(running.update, data)
            # Where the length is known only the last piece waits; else, a byte of every piece.
            if self._length is None:
                held, data = data[-1:], held + data[:-1]  # noqa: PLW2901 - what may go out
            elif received >= self._length:
                held, data = data, b""  # noqa: PLW2901 - what may go out
            if data:
                yield data
            hashing.result()
        if running.hexdigest() != wanted:
            fields = {"digest": str(self._digest)}
            logger.error("A blob is not what its digest says.", extra={"fields": fields})
            message = "the digest is wrong"
            raise BodyBroken(message)
        if held:
            yield held
