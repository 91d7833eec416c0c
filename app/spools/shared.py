"""One fetch as this process sees it: shared by all who read it here."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from app.oci.reference import Digest
from app.spools import record
from app.spools.files import Files
from app.spools.lead import Lead
from app.spools.record import Record, State
from app.spools.unread import mark_reader, unmark_reader

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
        self._readers = Counter[str]()

    @property
    def size(self) -> int:
        """The bytes of the whole blob."""
        return self._said.size

    @property
    def inode(self) -> int:
        """What tells it from another fetch of the same blob."""
        return self._said.inode

    def add_reader(self, identity: str) -> None:
        """Let one more client read, and show all processes that it does; raise OSError."""
        if not self._readers[identity]:
            mark_reader(self._files.data, identity)
        self._readers[identity] += 1

    def remove_reader(self, identity: str) -> bool:
        """Let one client less read; return whether it was the last: then this is to be closed."""
        self._readers[identity] -= 1
        if not self._readers[identity]:
            del self._readers[identity]
            with suppress(OSError):
                unmark_reader(self._files.data, identity)
        return not self._readers

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


# The growing file of a blob, for one who reads it.


class Owner(Protocol):
    """Who has all fetches of this process."""

    def leave(self, growing: Growing, reader: str) -> None:
        """Take back what was given to somebody who reads."""

    def take_over(self, growing: Growing) -> Lead | None:
        """Fill it from here on, if nobody does; raise OSError if that cannot be."""


class Spool:
    """What is there of a blob; whoever has one closes it. Each method may raise OSError."""

    def __init__(self, growing: Growing, owner: Owner, reader: str) -> None:
        self._growing = growing
        self._owner = owner
        self._reader = reader
        self._closed = False
        self.size = growing.size

    @property
    def length(self) -> int:
        """How many bytes are there."""
        return self._growing.length()

    @property
    def state(self) -> State:
        """How far the fetch is."""
        return self._growing.said().state

    def read(self, count: int, offset: int) -> bytes:
        """Return bytes that are there."""
        return self._growing.read(count, offset)

    def fetch(self, count: int, offset: int) -> None:
        """Have bytes in memory that are there."""
        self._growing.fetch(count, offset)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Have bytes sent that are there; may raise BodyBroken, and what `send` raises."""
        self._growing.send(send, offset, count)

    def wait(self, known: int, seconds: float) -> int:
        """Return how many bytes are there, after waiting for more than are known."""
        return self._growing.wait(known, seconds)

    def take_over(self) -> Lead | None:
        """Fill it from here on, if nobody does; raise OSError if it cannot go on."""
        return self._owner.take_over(self._growing)

    def close(self) -> None:
        """Give it back; may be called again."""
        closed, self._closed = self._closed, True
        if not closed:
            self._owner.leave(self._growing, self._reader)
