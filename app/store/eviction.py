"""Eviction: makes room on the disk by removing the least recently used content."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EFBIG, ENOSPC
from typing import Final

from app.oci.reference import Digest
from app.store import entries
from app.store.blobs import ContentInfo, Entry, SizeLimits
from app.store.entries import Move
from app.store.errors import (
    MaxSizeReached,
    MinFreeReached,
    NoRoom,
    StoreError,
    build_error,
    translate_errors,
)
from app.store.index import Index
from app.store.layout import Layout, Staging

_BATCH: Final = 256
"""Entries evicted in one transaction. The number is bounded because other writers wait for it."""

_SACRIFICE_SIZE: Final = 1 << 18
_MAX_SACRIFICES: Final = 3
"""Bytes to free at once when the disk is too full to write even the index, and how often at most
to try that."""


class Evictor:
    """Makes room for new content, and removes unwanted content.

    A file that is being read stays readable until it is closed; only then is its space free.
    """

    def __init__(
        self,
        layout: Layout,
        index: Index,
        staging: Staging,
        limits: SizeLimits,
        count_reserved: Callable[[], int] = int,
    ) -> None:
        """`count_reserved` returns bytes that count towards `max_size` but cannot be evicted."""
        self._layout = layout
        self._count_reserved = count_reserved
        self._index = index
        self._staging = staging
        self._limits = limits
        self._pending_moves: list[Move] = []
        self.evicted_count = 0

    def check_size(self, size: int) -> None:
        """Raise StoreError if content of `size` bytes is larger than the whole cache may be."""
        if self._limits.max_size is not None and size > self._limits.max_size:
            raise build_error(EFBIG, f"{size} bytes are more than the cache may hold")

    def make_room(self, size: int) -> None:
        """Evict entries until `size` more bytes fit.

        If they can never fit, raise StoreError and evict nothing.

        The free space of the disk is not read again after each file, because others may fill it
        meanwhile or the file system may free blocks late. The sizes in the index say how much has
        been freed.
        """
        self.check_size(size)
        sacrifices = 0
        with translate_errors("make room"):
            lacking = 1
            while lacking > 0:
                try:
                    lacking = self._evict_batch(size)
                except NoRoom:
                    raise
                except StoreError as error:
                    sacrifices += 1
                    if (
                        error.errno != ENOSPC
                        or sacrifices > _MAX_SACRIFICES
                        or not self._unlink_oldest()
                    ):
                        raise

    def check_room(self, size: int) -> None:
        """Raise StoreError if `size` bytes would not fit even after evicting everything.

        If `size` is more than `max_size`, check for `max_size` bytes instead. Nothing is evicted.
        """
        if self._limits.max_size is not None:
            size = min(size, self._limits.max_size)
        with translate_errors("look for room"), self._index.connection() as connection:
            self.compute_lacking(connection, size)

    def delete(self, registry: str, digest: Digest) -> bool:
        """Remove an entry and its file; return whether there was one. May raise StoreError."""
        with translate_errors("drop"):
            owner = self._staging.get_owner()
            with self._index.transaction() as connection:
                entry = entries.find(connection, registry, digest)
                moves = entries.remove_entries(connection, owner, [entry] if entry else [])
            self._complete_moves(moves)
            return entry is not None

    def delete_entry(self, entry: Entry) -> None:
        """Remove an entry and its file unless it has changed since it was read.

        May raise StoreError.
        """
        with translate_errors("drop"):
            owner = self._staging.get_owner()
            with self._index.transaction() as connection:
                moves = entries.remove_entries(connection, owner, [entry])
            self._complete_moves(moves)

    def delete_file(self, content: ContentInfo) -> None:
        """Unlink a file that has no entry, unless it gets one meanwhile; may raise StoreError."""
        with translate_errors("clear"):
            owner = self._staging.get_owner()
            with self._index.transaction() as connection:
                move = entries.record_removal(connection, owner, content)
            self._complete_moves([move])

    def compute_lacking(self, connection: sqlite3.Connection, size: int) -> int:
        """Return how many bytes must go so that `size` more fit; 0 or less if they do.

        Raise NoRoom if they can never fit. This runs within the caller's transaction.
        """
        total_size = entries.sum_sizes(connection)
        status = os.statvfs(self._layout.directory)
        # Files that are about to be unlinked count as free, so that nobody evicts others for them.
        free = status.f_bavail * status.f_frsize + entries.sum_leaving(connection)
        lacking = size + self._limits.min_free - free
        excess = 0
        if self._limits.max_size is not None:
            excess = total_size + self._count_reserved() + size - self._limits.max_size
        if max(lacking, excess) > total_size:
            kind: type[NoRoom] = MaxSizeReached
            if lacking > total_size:
                kind = NoRoom if size - free > total_size else MinFreeReached
            raise kind(ENOSPC, f"there is no room for {size} bytes, whatever is evicted")
        return max(lacking, excess)

    def _evict_batch(self, size: int) -> int:
        """Evict one batch of entries, and return how many bytes are still lacking."""
        with self._index.connection() as connection:
            if self.compute_lacking(connection, size) <= 0:
                return 0
        owner = self._staging.get_owner()
        with self._index.transaction() as connection:
            lacking = self.compute_lacking(connection, size)
            candidates = entries.list_least_used(connection, lacking, _BATCH)
            moves = entries.remove_entries(connection, owner, candidates)
        self.evicted_count += len(moves)
        return lacking - self._complete_moves(moves)

    def _complete_moves(self, moves: Sequence[Move]) -> int:
        pending, self._pending_moves = [*self._pending_moves, *moves], []
        freed, failure = 0, None
        if not pending:
            return 0
        try:
            with self._index.transaction() as connection:
                for move in pending:
                    try:
                        freed += entries.complete_removal(connection, self._layout, move)
                    except OSError as error:  # its record stays in the journal, for the next start
                        failure = error
        except StoreError:
            self._pending_moves += pending
            raise
        if failure is not None:
            raise failure
        return freed

    def _unlink_oldest(self) -> bool:
        """Unlink some files but leave their entries, since a full disk cannot store a new index.

        Return whether any bytes were freed. An entry without its file is removed when a client asks
        for it or when it is next to be evicted.
        """
        with self._index.connection() as connection:
            oldest = entries.list_least_used(connection, _SACRIFICE_SIZE, _BATCH)
        freed = 0
        for entry in oldest:
            with suppress(FileNotFoundError):
                self._layout.path(entry.registry, entry.digest).unlink()
                freed += entry.size
        return freed > 0
