"""Verify a whole blob while it is relayed: its end is held back until its digest was checked."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from app.oci.reference import Digest
from app.source import BodyBroken
from app.threads import NativeThreadPool

logger = logging.getLogger(__name__)

_THREADS: Final = NativeThreadPool(2)


class VerifiedBody:
    """The bytes of a whole blob. Raises BodyBroken before the last byte if the digest is wrong.

    `length` is in bytes, or None if it is not known.
    """

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
        algorithm, _, expected_hexdigest = self._digest.partition(":")
        hasher = hashlib.new(algorithm)
        received = 0
        held_back = b""
        for data in self._inner:
            received += len(data)
            pending_hash = _THREADS.submit(hasher.update, data)
            # Only the last piece waits, or one byte of each piece if the length is not known.
            if self._length is None:
                held_back, data = data[-1:], held_back + data[:-1]  # noqa: PLW2901 - what may go out
            elif received >= self._length:
                held_back, data = data, b""  # noqa: PLW2901 - what may go out
            if data:
                yield data
            pending_hash.result()
        if hasher.hexdigest() != expected_hexdigest:
            fields = {"digest": str(self._digest)}
            logger.error("Blob digest mismatch.", extra={"fields": fields})
            message = "the digest is wrong"
            raise BodyBroken(message)
        if held_back:
            yield held_back
