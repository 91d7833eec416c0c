"""Room on the disk: what was used longest ago goes first."""

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
"""Entries that leave in one transaction: others wait for it."""

_SACRIFICE: Final = 1 << 18
_SACRIFICES: Final = 3
"""Bytes that are freed at once where not even the index can be written, so many times at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many bytes all may have together, and how many of the disk stay free."""

    max_size: int | None = None
    min_free: int = 1 << 30


class Room:
    """Makes room, and takes away what is not wanted.

    A file that somebody reads lives on until it is closed, and so does its place on the disk.
    """

    def __init__(
        self,
        places: Places,
        index: Index,
        aside: Aside,
        limits: Limits,
        beside: Callable[[], int] = int,
    ) -> None:
        """`beside` gives the bytes of what counts too, and is not to be evicted."""
        self._places = places
        self._beside = beside
        self._index = index
        self._aside = aside
        self._limits = limits
        self._over: list[Move] = []
        self.evicted = 0

    def check(self, size: int) -> None:
        """Raise StoreError if so many bytes can never be kept."""
        if self._limits.max_size is not None and size > self._limits.max_size:
            raise refused(EFBIG, f"{size} bytes are more than the cache may have")

    def make(self, size: int) -> None:
        """Evict until so many more bytes fit; raise StoreError, having evicted nothing, if never.

        What is lacking is told by the index, and not by the disk after each file: that may be
        filled by others meanwhile, or free its blocks late.
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
        """Raise StoreError if there is no room for so many bytes, whatever is evicted.

        A cache that may never have so many is asked for all that it may have.
        """
        if self._limits.max_size is not None:
            size = min(size, self._limits.max_size)
        with translated("look for room"), self._index.reading() as connection:
            self._lacking(connection, size)

    def drop(self, registry: str, digest: Digest) -> bool:
        """Take one entry away, and tell whether there was one; raise StoreError."""
        with translated("drop"):
            owner = self._aside.owner()
            with self._index.writing() as connection:
                entry = entries.find(connection, registry, digest)
                moves = entries.leave(connection, owner, [entry] if entry else [])
            self._carry_out(moves)
            return entry is not None

    def forget(self, entry: Entry) -> None:
        """Take an entry away if it is as it was read; raise StoreError."""
        with translated("drop"):
            owner = self._aside.owner()
            with self._index.writing() as connection:
                moves = entries.leave(connection, owner, [entry])
            self._carry_out(moves)

    def clear(self, content: Described) -> None:
        """Unlink a file that is no entry's, unless it becomes one; raise StoreError."""
        with translated("clear"):
            owner = self._aside.owner()
            with self._index.writing() as connection:
                move = entries.go(connection, owner, content)
            self._carry_out([move])

    def _lacking(self, connection: sqlite3.Connection, size: int) -> int:
        held = entries.total(connection)
        state = os.statvfs(self._places.directory)
        # What is about to be unlinked is nobody's to evict a second time.
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
        """Take entries away, and return how many bytes are still lacking."""
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
                    except OSError as error:  # its note stays, for the next start
                        failure = error
        except StoreError:
            self._over += over
            raise
        if failure is not None:
            raise failure
        return freed

    def _sacrifice(self) -> bool:
        """Unlink some files whose entries stay, since a full disk takes no change of the index.

        An entry without its file is found when it is asked for, or when it is the next to go.
        """
        with self._index.reading() as connection:
            oldest = entries.least_used(connection, _SACRIFICE, _BATCH)
        freed = 0
        for entry in oldest:
            with suppress(FileNotFoundError):
                self._places.path(entry.registry, entry.digest).unlink()
                freed += entry.size
        return freed > 0
