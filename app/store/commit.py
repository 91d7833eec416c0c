"""Commits finished files: each becomes an entry."""

import os
import sqlite3
import stat
from contextlib import suppress
from errno import EBADMSG, EINVAL
from pathlib import Path

from app.oci.reference import Digest
from app.store import entries, layout
from app.store.blobs import ContentInfo
from app.store.entries import Move
from app.store.errors import StoreError, SurvivedErrors, build_error, translate_errors
from app.store.eviction import Evictor
from app.store.index import Index
from app.store.layout import Layout, open_descriptor
from app.store.staging import Staging


class Committer:
    """Adopts files so that no entry ever has an incomplete file.

    The order is: sync the bytes to the disk, record the move in the journal, rename the file, sync
    its directory, add the entry. A process that dies between two steps leaves either nothing or a
    journal record, from which the next start completes the entry. Bytes from memory are recorded
    first and then written, so that room is made for them in the transaction that records them.
    """

    def __init__(
        self, where: Layout, index: Index, aside: Staging, room: Evictor, troubles: SurvivedErrors
    ) -> None:
        self._layout = where
        self._index = index
        self._staging = aside
        self._evictor = room
        self._survived_errors = troubles

    def adopt(self, path: Path, content: ContentInfo) -> None:
        """Make an entry of a complete, verified file; raise StoreError.

        The file must be on the store's file system. It is gone from `path` afterwards, even if this
        raises.
        """
        with translate_errors("take"):
            try:
                self._evictor.check_size(content.size)
                self._layout.path(content.registry, content.digest)
                _make_durable(path, content.size)
                owner = self._staging.get_owner()
                with self._index.transaction() as connection:
                    move = entries.record_arrival(connection, owner, content)
                self._move_in(path, move, None)
            finally:
                path.unlink(missing_ok=True)

    def keep(self, data: bytes, registry: str, digest: Digest, media_type: str) -> None:
        """Verify bytes in memory and make an entry of them.

        Raise StoreError if they do not match the digest or cannot be written.
        """
        content = ContentInfo(
            registry=registry, digest=digest, size=len(data), media_type=media_type
        )
        self._layout.path(registry, digest)
        if not digest.matches(data):
            raise build_error(EBADMSG, f"these bytes are not {digest}")
        with translate_errors("keep"):
            path = self._staging.build_path()
            try:
                self._move_in(path, self._announce(content), data)
            finally:
                path.unlink(missing_ok=True)

    def _announce(self, content: ContentInfo) -> Move:
        """Make room for content, and record in the journal that it arrives; return the record."""
        self._evictor.check_size(content.size)
        owner = self._staging.get_owner()
        with self._index.transaction() as connection:
            if self._evictor.compute_lacking(connection, content.size) <= 0:
                return entries.record_arrival(connection, owner, content)
        self._evictor.make_room(content.size)
        with self._index.transaction() as connection:
            return entries.record_arrival(connection, owner, content)

    def _move_in(self, path: Path, move: Move, data: bytes | None) -> None:
        """Rename a file that is in the journal, and add its entry; first write `data`, if any."""
        content = move.content
        destination = self._layout.path(content.registry, content.digest)
        try:
            if data is not None:
                path.write_bytes(data)
                _make_durable(path, content.size)
            layout.make_directory(destination.parent)
            path.rename(destination)
            layout.sync_directory(destination.parent)
            with self._index.transaction() as connection:
                entries.complete_arrival(connection, move)
                is_too_much = self._is_too_much(connection)
        except OSError:
            # If this write fails too, the next start completes the move.
            with suppress(StoreError), self._index.transaction() as connection:
                entries.complete_removal(connection, self._layout, move)
            raise
        if is_too_much:
            self._trim()

    def _is_too_much(self, connection: sqlite3.Connection) -> bool:
        try:
            return self._evictor.compute_lacking(connection, 0) > 0
        except OSError:  # making room reports why
            return True

    def _trim(self) -> None:
        try:
            self._evictor.make_room(0)
        except StoreError as error:
            self._survived_errors.report(error)


def _make_durable(path: Path, size: int) -> None:
    with open_descriptor(path, os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_size != size:
            raise build_error(EINVAL, f"{path} is no file of {size} bytes")
        os.fchmod(descriptor, layout.FILE_MODE)
        os.fsync(descriptor)
