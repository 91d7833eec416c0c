"""Commits finished files: each becomes an entry."""

import os
import stat
from contextlib import suppress
from errno import EBADMSG, EINVAL
from pathlib import Path

from app.oci.reference import Digest, digest_of
from app.store import entries, layout
from app.store.entries import Described
from app.store.errors import StoreError, Troubles, refused, translated
from app.store.eviction import Room
from app.store.index import Index
from app.store.layout import Places, opened
from app.store.staging import Aside


class Taking:
    """Adopts files so that no entry ever has an incomplete file.

    The order is: sync the bytes to the disk, record the move in the journal, rename the file, sync
    its directory, add the entry. A process that dies between two steps leaves either nothing or a
    journal record, from which the next start completes the entry.
    """

    def __init__(
        self, where: Places, index: Index, aside: Aside, room: Room, troubles: Troubles
    ) -> None:
        self._places = where
        self._index = index
        self._aside = aside
        self._room = room
        self._troubles = troubles

    def take(self, path: Path, content: Described) -> None:
        """Make an entry of a complete, verified file; raise StoreError.

        The file must be on the store's file system. It is gone from `path` afterwards, even if this
        raises.
        """
        with translated("take"):
            try:
                self._room.check(content.size)
                destination = self._places.path(content.registry, content.digest)
                _make_last(path, content.size)
                self._adopt(path, destination, content)
            finally:
                path.unlink(missing_ok=True)
        self._trim()

    def keep(self, data: bytes, registry: str, digest: Digest, media_type: str) -> None:
        """Verify bytes in memory and make an entry of them.

        Raise StoreError if they do not match the digest or cannot be written.
        """
        content = Described(registry=registry, digest=digest, size=len(data), media_type=media_type)
        self._places.path(registry, digest)
        if digest_of(data, digest) != digest:
            raise refused(EBADMSG, f"these bytes are not {digest}")
        self._room.make(len(data))
        with translated("keep"):
            path = self._aside.new()
            try:
                path.write_bytes(data)
                self.take(path, content)
            finally:
                path.unlink(missing_ok=True)

    def _adopt(self, path: Path, destination: Path, content: Described) -> None:
        owner = self._aside.owner()
        with self._index.writing() as connection:
            move = entries.come(connection, owner, content)
        try:
            layout.make_directory(destination.parent)
            path.rename(destination)
            layout.sync_directory(destination.parent)
            with self._index.writing() as connection:
                entries.arrived(connection, move)
        except OSError:
            # If this write fails too, the next start completes the move.
            with suppress(StoreError), self._index.writing() as connection:
                entries.gone(connection, self._places, move)
            raise

    def _trim(self) -> None:
        try:
            self._room.make(0)
        except StoreError as error:
            self._troubles.tell(error)


def _make_last(path: Path, size: int) -> None:
    with opened(path, os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_size != size:
            raise refused(EINVAL, f"{path} is no file of {size} bytes")
        os.fchmod(descriptor, layout.FILE_MODE)
        os.fsync(descriptor)
