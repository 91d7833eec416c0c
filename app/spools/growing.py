"""One fetch as this process sees it: shared by all who read it here."""

import threading
import time
from collections.abc import Callable
from typing import Final

from app.oci.reference import Digest
from app.spools import record
from app.spools.files import Files
from app.spools.record import Record, State

_BETWEEN_LOOKS: Final = 0.05
"""Seconds between two looks whether anybody fills."""


class Growing:
    """The file, what is said of it, and who waits for more of it."""

    def __init__(self, digest: Digest, files: Files) -> None:
        self.digest = digest
        self._files = files
        self._said = files.said
        self._changed = threading.Condition(threading.Lock())
        self._looked = 0.0
        self.users = 0
        """How many have it; the owner's to count, who closes it after the last of them."""

    @property
    def size(self) -> int:
        """The bytes of the whole blob."""
        return self._said.size

    @property
    def inode(self) -> int:
        """What tells it from another fetch of the same blob."""
        return self._said.inode

    def said(self) -> Record:
        """Return what is said of it now; raise OSError."""
        if self._said.state is State.RUNNING:
            self._said = record.read(self._files.record) or self._said
        return self._said

    def length(self) -> int:
        """Return how many bytes are there; raise OSError."""
        return min(self._files.data.status().st_size, self.size)

    def read(self, count: int, offset: int) -> bytes:
        """Return bytes that are there; raise OSError."""
        return self._files.data.read(count, offset)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Have bytes sent that are there; may raise BodyBroken, and what `send` raises."""
        self._files.data.send(send, offset, count)

    def fetch(self, count: int, offset: int) -> None:
        """Have bytes in memory that are there; raise OSError."""
        self._files.data.fetch(count, offset)

    def wait(self, known: int, seconds: float) -> int:
        """Return how many bytes are there, after waiting for more than are known.

        Between processes nothing tells of it, and so the end of the time is a look as well.
        """
        with self._changed:
            if self.length() <= known:
                self._changed.wait(seconds)
        return self.length()

    def changed(self) -> None:
        """Wake those who wait."""
        with self._changed:
            self._changed.notify_all()

    def seems_left(self) -> bool:
        """Tell whether nobody fills it, as far as its lock tells; not at every call."""
        now = time.monotonic()
        if now - self._looked < _BETWEEN_LOOKS:
            return False
        self._looked = now
        return self._files.record.is_free()

    def close(self) -> None:
        """Give the files up."""
        self._files.close()
