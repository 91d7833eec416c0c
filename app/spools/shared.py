"""One fetch as this process sees it; all its readers in the process share it."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from app.oci.reference import Digest
from app.spools import record
from app.spools.files import FetchFiles
from app.spools.lead import FetchLease
from app.spools.record import FetchRecord, FetchState
from app.spools.unread import mark_reader, unmark_reader

_BETWEEN_LOOKS: Final = 0.05
"""Seconds between two checks whether anybody still fills the spool."""


class SharedSpool:
    """The data file, its record, its readers in this process, and those that wait for more."""

    def __init__(self, digest: Digest, files: FetchFiles) -> None:
        self.digest = digest
        self._files = files
        self._record = files.initial_record
        self._condition = threading.Condition(threading.Lock())
        self._checked_at = 0.0
        self._readers = Counter[str]()

    @property
    def size(self) -> int:
        """The size of the whole blob in bytes."""
        return self._record.size

    @property
    def inode(self) -> int:
        """The data file's inode number, which identifies this fetch among those of the blob."""
        return self._record.inode

    def add_reader(self, identity: str) -> None:
        """Add a reader, and show all processes that this client reads; raise OSError."""
        if not self._readers[identity]:
            mark_reader(self._files.data, identity)
        self._readers[identity] += 1

    def remove_reader(self, identity: str) -> bool:
        """Remove a reader, and return whether it was the last; the caller then closes the spool."""
        self._readers[identity] -= 1
        if not self._readers[identity]:
            del self._readers[identity]
            with suppress(OSError):
                unmark_reader(self._files.data, identity)
        return not self._readers

    def read_record(self) -> FetchRecord:
        """Return the current record; raise OSError.

        While a record is being written, return the earlier one.
        """
        if self._record.state is FetchState.RUNNING:
            self._record = record.read_record(self._files.record) or self._record
        return self._record

    def count_available(self) -> int:
        """Return how many bytes are available; raise OSError."""
        return min(self._files.data.stat().st_size, self.size)

    def read(self, count: int, offset: int) -> bytes:
        """Return up to `count` available bytes from `offset`; raise OSError."""
        return self._files.data.read(count, offset)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Pass available bytes to `send`, by descriptor, offset and count.

        Raise OSError if the file is closed, BodyBroken if it fails, and what `send` raises.
        """
        self._files.data.send(send, offset, count)

    def prefetch(self, count: int, offset: int) -> None:
        """Bring available bytes into memory; raise OSError."""
        self._files.data.prefetch(count, offset)

    def wait(self, known: int, seconds: float) -> int:
        """Wait until more than `known` bytes are available, and return how many are.

        Wait for at most `seconds`. Other processes do not notify this one, so the file is examined
        again when the time is over. Raise OSError.
        """
        with self._condition:
            if self.count_available() <= known:
                self._condition.wait(seconds)
        return self.count_available()

    def notify_readers(self) -> None:
        """Wake the readers that wait for more bytes."""
        with self._condition:
            self._condition.notify_all()

    def is_abandoned(self) -> bool:
        """Return whether the fetcher's lock is free, which means that nobody fills the spool.

        The lock is tested at most every 50 ms; calls in between return False. Raise OSError.
        """
        now = time.monotonic()
        if now - self._checked_at < _BETWEEN_LOOKS:
            return False
        self._checked_at = now
        return self._files.record.is_unlocked()

    def close(self) -> None:
        """Close the files."""
        self._files.close()


# The spool, as one reader sees it.


class SpoolOwner(Protocol):
    """Manages all fetches of this process."""

    def release_reader(self, growing: SharedSpool, reader: str) -> None:
        """End a reader, and close the files after the last one."""

    def try_take_over(self, growing: SharedSpool) -> FetchLease | None:
        """Return the right to continue a fetch whose fetcher has died, or None if it has not.

        Raise OSError if the fetch cannot be continued.
        """


class Spool:
    """The growing file of a blob, for one reader, who closes it.

    Every method except `close` may raise OSError.
    """

    def __init__(self, growing: SharedSpool, owner: SpoolOwner, reader: str) -> None:
        self._shared = growing
        self._owner = owner
        self._reader = reader
        self._closed = False
        self.size = growing.size

    @property
    def available(self) -> int:
        """The number of bytes that are available."""
        return self._shared.count_available()

    @property
    def state(self) -> FetchState:
        """The current state of the fetch."""
        return self._shared.read_record().state

    def read(self, count: int, offset: int) -> bytes:
        """Return up to `count` available bytes from `offset`."""
        return self._shared.read(count, offset)

    def prefetch(self, count: int, offset: int) -> None:
        """Bring available bytes into memory."""
        self._shared.prefetch(count, offset)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Pass available bytes to `send`, by descriptor, offset and count.

        Raise BodyBroken if the file fails, and what `send` raises.
        """
        self._shared.send(send, offset, count)

    def wait(self, known: int, seconds: float) -> int:
        """Wait until more than `known` bytes are available, or for at most `seconds`.

        Return how many bytes are available.
        """
        return self._shared.wait(known, seconds)

    def try_take_over(self) -> FetchLease | None:
        """Return the right to continue the fetch if its fetcher has died, or None if it has not.

        Raise OSError if the fetch cannot be continued.
        """
        return self._owner.try_take_over(self._shared)

    def close(self) -> None:
        """End this reader; may be called again."""
        closed, self._closed = self._closed, True
        if not closed:
            self._owner.release_reader(self._shared, self._reader)
