"""Eviction: makes room on the disk by removing the least recently used content."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import EFBIG, ENOSPC
from typing import Final

from app.oci.reference import Digest
from app.store import entries
from app.store.entries import Described, Entry, Move
from app.store.errors import MaxSizeReached, MinFreeReached, NoRoom, StoreError, refused, translated
from app.store.index import Index
from app.store.layout import Places
from app.store.staging import Aside

_BATCH: Final = 256
"""Entries evicted in one transaction. The number is bounded because other writers wait for it."""

_SACRIFICE: Final = 1 << 18
_SACRIFICES: Final = 3
"""Bytes to free at once when the disk is too full to write even the index, and how often at most
to try that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of the cache in bytes.

    `max_size` bounds all content and unfinished downloads together; None means no bound. `min_free`
    is how much of the disk stays free.
    """

    max_size: int | None = None
    min_free: int = 1 << 30


class Room:
    """Makes room for new content, and removes unwanted content.

    A file that is being read stays readable until it is closed; only then is its space free.
    """

    def __init__(
        self,
        places: Places,
        index: Index,
        aside: Aside,
        limits: Limits,
        beside: Callable[[], int] = int,
    ) -> None:
        """`beside` returns the bytes that count towards `max_size` but cannot be evicted."""
        self._places = places
        self._beside = beside
        self._index = index
        self._aside = aside
        self._limits = limits
        self._over: list[Move] = []
        self.evicted = 0

    def check(self, size: int) -> None:
        """Raise StoreError if content of `size` bytes is larger than the whole cache may be."""
        if self._limits.max_size is not None and size > self._limits.max_size:
            raise refused(EFBIG, f"{size} bytes are more than the cache may have")

    def make(self, size: int) -> None:
        """Evict entries until `size` more bytes fit.

        If they can never fit, raise StoreError and evict nothing.

        The free space of the disk is not read again after each file, because others may fill it
        meanwhile or the file system may free blocks late. The sizes in the index say how much has
        been freed.
        """
        self.check(size)
        sacrifices = 0
        with translated("make room"):
            lacking = 1
            while lacking > 0:
                try:
                    lacking = self._evict(size)
                except NoRoom:
                    raise
                except StoreError as error:
                    sacrifices += 1
                    if error.errno != ENOSPC or sacrifices > _SACRIFICES or not self._sacrifice():
                        raise

    def look(self, size: int) -> None:
        """Raise StoreError if `size` bytes would not fit even after evicting everything.

        If `size` is more than `max_size`, check for `max_size` bytes instead. Nothing is evicted.
        """
        if self._limits.max_size is not None:
            size = min(size, self._limits.max_size)
        with translated("look for room"), self._index.reading() as connection:
            self._lacking(connection, size)

    def drop(self, registry: str, digest: Digest) -> bool:
        """Remove an entry and its file; return whether there was one. Raise StoreError."""
        with translated("drop"):
            owner = self._aside.owner()
            with self._index.writing() as connection:
                entry = entries.find(connection, registry, digest)
                moves = entries.leave(connection, owner, [entry] if entry else [])
            self._carry_out(moves)
            return entry is not None

    def forget(self, entry: Entry) -> None:
        """Remove an entry and its file unless it has changed since it was read.

        Raise StoreError.
        """
        with translated("drop"):
            owner = self._aside.owner()
            with self._index.writing() as connection:
                moves = entries.leave(connection, owner, [entry])
            self._carry_out(moves)

    def clear(self, content: Described) -> None:
        """Unlink a file that has no entry, unless it gets one meanwhile; raise StoreError."""
        with translated("clear"):
            owner = self._aside.owner()
            with self._index.writing() as connection:
                move = entries.go(connection, owner, content)
            self._carry_out([move])

    def _lacking(self, connection: sqlite3.Connection, size: int) -> int:
        held = entries.total(connection)
        state = os.statvfs(self._places.directory)
        # Files that are about to be unlinked count as free, so that nobody evicts others for them.
        free = state.f_bavail * state.f_frsize + entries.leaving(connection)
        lacking = size + self._limits.min_free - free
        over = 0
        if self._limits.max_size is not None:
            over = held + self._beside() + size - self._limits.max_size
        if max(lacking, over) > held:
            kind: type[NoRoom] = MaxSizeReached
            if lacking > held:
                kind = NoRoom if size - free > held else MinFreeReached
            raise kind(ENOSPC, f"there is no room for {size} bytes, whatever is evicted")
        return max(lacking, over)

    def _evict(self, size: int) -> int:
        """Evict one batch of entries, and return how many bytes are still lacking."""
        with self._index.reading() as connection:
            if self._lacking(connection, size) <= 0:
                return 0
        owner = self._aside.owner()
        with self._index.writing() as connection:
            lacking = self._lacking(connection, size)
            unwanted = entries.least_used(connection, lacking, _BATCH)
            moves = entries.leave(connection, owner, unwanted)
        self.evicted += len(moves)
        return lacking - self._carry_out(moves)

    def _carry_out(self, moves: Sequence[Move]) -> int:
        over, self._over = [*self._over, *moves], []
        freed, failure = 0, None
        if not over:
            return 0
        try:
            with self._index.writing() as connection:
                for move in over:
                    try:
                        freed += entries.gone(connection, self._places, move)
                    except OSError as error:  # its record stays in the journal, for the next start
                        failure = error
        except StoreError:
            self._over += over
            raise
        if failure is not None:
            raise failure
        return freed

    def _sacrifice(self) -> bool:
        """Unlink some files but leave their entries, since a full disk cannot store a new index.

        Return whether any bytes were freed. An entry without its file is removed when a client asks
        for it or when it is next to be evicted.
        """
        with self._index.reading() as connection:
            oldest = entries.least_used(connection, _SACRIFICE, _BATCH)
        freed = 0
        for entry in oldest:
            with suppress(FileNotFoundError):
                self._places.path(entry.registry, entry.digest).unlink()
                freed += entry.size
        return freed > 0
