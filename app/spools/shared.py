"""One fetch as this process sees it; all its readers in the process share it."""

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
"""Seconds between two checks whether anybody still fills the spool."""


class Growing:
    """The data file, its record, its readers in this process, and those that wait for more."""

    def __init__(self, digest: Digest, files: Files) -> None:
        self.digest = digest
        self._files = files
        self._said = files.said
        self._changed = threading.Condition(threading.Lock())
        self._looked = 0.0
        self._readers = Counter[str]()

    @property
    def size(self) -> int:
        """The size of the whole blob in bytes."""
        return self._said.size

    @property
    def inode(self) -> int:
        """The data file's inode number, which identifies this fetch among those of the blob."""
        return self._said.inode

    def add_reader(self, identity: str) -> None:
        """Add a reader, and show all processes that this client reads; raise OSError."""
        if not self._readers[identity]:
            mark_reader(self._files.data, identity)
        self._readers[identity] += 1

    def remove_reader(self, identity: str) -> bool:
        """Remove a reader, and return whether it was the last; the caller then closes this."""
        self._readers[identity] -= 1
        if not self._readers[identity]:
            del self._readers[identity]
            with suppress(OSError):
                unmark_reader(self._files.data, identity)
        return not self._readers

    def said(self) -> Record:
        """Return the current record; raise OSError.

        A record that is being written gives the earlier one.
        """
        if self._said.state is State.RUNNING:
            self._said = record.read(self._files.record) or self._said
        return self._said

    def length(self) -> int:
        """Return how many bytes are available; raise OSError."""
        return min(self._files.data.status().st_size, self.size)

    def read(self, count: int, offset: int) -> bytes:
        """Return up to `count` available bytes from `offset`; raise OSError."""
        return self._files.data.read(count, offset)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Pass available bytes to `send`, by descriptor, offset and count.

        Raise OSError if the file is closed, BodyBroken if it fails, and what `send` raises.
        """
        self._files.data.send(send, offset, count)

    def fetch(self, count: int, offset: int) -> None:
        """Bring available bytes into memory; raise OSError."""
        self._files.data.fetch(count, offset)

    def wait(self, known: int, seconds: float) -> int:
        """Wait until more than `known` bytes are available, and return how many are.

        Wait for at most `seconds`. Other processes do not notify this one, so the file is examined
        again when the time is over. Raise OSError.
        """
        with self._changed:
            if self.length() <= known:
                self._changed.wait(seconds)
        return self.length()

    def changed(self) -> None:
        """Wake the readers that wait for more bytes."""
        with self._changed:
            self._changed.notify_all()

    def seems_left(self) -> bool:
        """Return whether the fetcher's lock is free, which means that nobody fills the spool.

        The lock is tested at most every 50 ms; calls in between return False. Raise OSError.
        """
        now = time.monotonic()
        if now - self._looked < _BETWEEN_LOOKS:
            return False
        self._looked = now
        return self._files.record.is_free()

    def close(self) -> None:
        """Close the files."""
        self._files.close()


# The spool, as one reader sees it.


class Owner(Protocol):
    """Manages all fetches of this process."""

    def leave(self, growing: Growing, reader: str) -> None:
        """End a reader, and close the files after the last one."""

    def take_over(self, growing: Growing) -> Lead | None:
        """Return the right to continue a fetch whose fetcher has died, or None if it has not.

        Raise OSError if the fetch cannot be continued.
        """


class Spool:
    """The growing file of a blob, for one reader, who closes it.

    Every method except `close` may raise OSError.
    """

    def __init__(self, growing: Growing, owner: Owner, reader: str) -> None:
        self._growing = growing
        self._owner = owner
        self._reader = reader
        self._closed = False
        self.size = growing.size

    @property
    def length(self) -> int:
        """The number of bytes that are available."""
        return self._growing.length()

    @property
    def state(self) -> State:
        """The current state of the fetch."""
        return self._growing.said().state

    def read(self, count: int, offset: int) -> bytes:
        """Return up to `count` available bytes from `offset`."""
        return self._growing.read(count, offset)

    def fetch(self, count: int, offset: int) -> None:
        """Bring available bytes into memory."""
        self._growing.fetch(count, offset)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Pass available bytes to `send`, by descriptor, offset and count.

        Raise BodyBroken if the file fails, and what `send` raises.
        """
        self._growing.send(send, offset, count)

    def wait(self, known: int, seconds: float) -> int:
        """Wait until more than `known` bytes are available, or for at most `seconds`.

        Return how many bytes are available.
        """
        return self._growing.wait(known, seconds)

    def take_over(self) -> Lead | None:
        """Return the right to continue the fetch if its fetcher has died, or None if it has not.

        Raise OSError if the fetch cannot be continued.
        """
        return self._owner.take_over(self._growing)

    def close(self) -> None:
        """End this reader; may be called again."""
        closed, self._closed = self._closed, True
        if not closed:
            self._owner.leave(self._growing, self._reader)
