"""Content in files: opens and reads it, records its use, and commits new files."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EBADMSG, EINVAL
from io import FileIO
from pathlib import Path
from typing import Final

from app.oci.reference import Digest
from app.piece_size import BY_KERNEL, FROM_FILE, AdaptivePieceSize
from app.source import BodyBroken, FileBody
from app.store import entries, layout
from app.store.blobs import BlobStat, Content, ContentInfo, Entry
from app.store.entries import Move
from app.store.errors import StoreError, SurvivedErrors, build_error, translate_errors
from app.store.eviction import Evictor
from app.store.index import Index
from app.store.layout import Layout, Staging, format_location, open_descriptor
from app.transfer.shared_file import SharedFile

# A blob in a file: read here, or sent by the kernel.


class FileBlob:
    """An open content file."""

    def __init__(self, file: FileIO) -> None:
        # A FileIO rather than a descriptor: it is closed even if the greenlet that waits for it
        # is killed, and nobody is left to close it.
        self._file = file

    def read(self) -> bytes:
        """Return all bytes; wait for the disk. Raise StoreError if they cannot be read."""
        with translate_errors("read"):
            return self._file.read() or b""

    def build_body(self, start: int, end: int) -> "FileBlobBody":
        """Return bytes `start` to `end` (exclusive) as a body, which takes over the file."""
        return FileBlobBody(self._file, start, end)

    def close(self) -> None:
        """Close a file that was not turned into a body."""
        self._file.close()


class FileBlobBody(FileBody):
    """A body of bytes `start` to `end` (exclusive) of a content file.

    Its creator closes it. Reading raises BodyBroken if the file cannot be read or is shorter.
    """

    def __init__(self, file: FileIO, start: int, end: int) -> None:
        self._file = SharedFile.from_file(file)
        self._position = start
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        pieces = AdaptivePieceSize(FROM_FILE)
        while self._position < self._end:
            data = self._read(min(pieces.size, self._end - self._position))
            self._position += len(data)
            pieces.record_handed()
            yield data
            pieces.record_taken(len(data))

    def send_next(self, send: Callable[[int, int, int], None]) -> int:
        """Send the next part with `send`, and return its length in bytes; 0 at the end.

        The part is read into the page cache first, so that `send` need not wait for the disk.
        """
        count = min(BY_KERNEL, self._end - self._position)
        if count:
            with self._translate_errors():
                self._file.prefetch(count, self._position)
            self._file.send(send, self._position, count)
            self._position += count
        return count

    def select(self, start: int, end: int) -> None:
        """Go on with bytes `start` to `end` (exclusive)."""
        self._position, self._end = start, end

    def close(self) -> None:
        """Close the file; may be called repeatedly, and at any moment."""
        self._file.close()

    def _read(self, count: int) -> bytes:
        with self._translate_errors():
            data = self._file.read(count, self._position)
        if not data:
            message = "the cached file has become shorter"
            raise BodyBroken(message)
        return data

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"the cached file cannot be read: {error}"
            raise BodyBroken(message) from error


# Opening content.

_MAX_PENDING_USES: Final = 256
_WRITE_INTERVAL: Final = 1.0
"""Uses are written to the index in batches: after so many uses, or so many seconds."""

_LONG_UNUSED: Final = 60.0
"""Seconds without use after which the next use is written at once. A batch is only written when
another use follows, and none may."""


class ContentReader:
    """Opens kept content, and treats an entry with any fault as absent."""

    def __init__(self, store_layout: Layout, index: Index, evictor: Evictor) -> None:
        self._layout = store_layout
        self._index = index
        self._evictor = evictor
        self._pending_uses: dict[int, float] = {}
        self._written_at = 0.0
        self._is_behind = False

    def open(self, registry: str, digest: Digest) -> Content | None:
        """Return content and mark it as most recently used; return None if it is not kept."""
        entry = self._index.call_or_default(lambda: self._lookup_entry(registry, digest), None)
        return None if entry is None else self.open_entry(entry)

    def open_entry(self, entry: Entry) -> Content | None:
        """Do as `open` does, for an entry that was looked up a moment ago."""
        content: Content | None = self._index.call_or_default(lambda: self._open(entry), None)
        return content

    def stat(self, registry: str, digest: Digest) -> BlobStat | None:
        """Return the description of content, or None if it is not kept.

        This does not mark the content as used.
        """
        entry: Entry | None = self._index.call_or_default(
            lambda: self._lookup_entry(registry, digest), None
        )
        if entry is None or not self.has_entry(entry):
            return None
        return BlobStat(size=entry.size, media_type=entry.media_type, stored_at=entry.stored_at)

    def has_entry(self, entry: Entry) -> bool:
        """Return whether the file of an entry is there, and has its size."""
        try:
            path = self._layout.path(entry.registry, entry.digest)
            return path.lstat().st_size == entry.size
        except OSError:
            return False

    def write_uses(self) -> None:
        """Write the collected uses to the index; if that fails, keep them for the next write."""
        uses, self._pending_uses = self._pending_uses, {}
        if uses:
            try:
                # A reader must not wait for writers.
                with self._index.transaction(patience=0) as connection:
                    entries.touch(connection, uses)
                self._is_behind = False
            except StoreError:
                self._pending_uses = uses | self._pending_uses
                self._is_behind = True
        self._written_at = time.monotonic()

    def _lookup_entry(self, registry: str, digest: Digest) -> Entry | None:
        with self._index.connection() as connection:
            return entries.find(connection, registry, digest)

    def _open(self, entry: Entry) -> Content | None:
        with translate_errors("open"):
            location = format_location(entry.registry, entry.digest)
            try:
                descriptor = os.open(
                    f"{self._layout.content}/{location}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                )
            except FileNotFoundError:
                self._evictor.delete_entry(entry)
                return None
            file = FileIO(descriptor, "rb")
            if os.fstat(descriptor).st_size != entry.size:
                file.close()
                self._evictor.delete_entry(entry)
                return None
        self._record_use(entry)
        return Content(
            blob=FileBlob(file),
            size=entry.size,
            media_type=entry.media_type,
            stored_at=entry.stored_at,
            location=location,
        )

    def _record_use(self, entry: Entry) -> None:
        now = time.time()
        self._pending_uses.pop(entry.id, None)
        self._pending_uses[entry.id] = now
        is_long_unused = now - entry.used_at >= _LONG_UNUSED and not self._is_behind
        is_due = (
            len(self._pending_uses) >= _MAX_PENDING_USES
            or time.monotonic() - self._written_at >= _WRITE_INTERVAL
        )
        if is_long_unused or is_due:
            self.write_uses()


# Committing: a finished file becomes an entry.


class Committer:
    """Adopts files so that no entry ever has an incomplete file.

    The order is: sync the bytes to the disk, record the move in the journal, rename the file, sync
    its directory, add the entry. A process that dies between two steps leaves either nothing or a
    journal record, from which the next start completes the entry. Bytes from memory are recorded
    first and then written, so that room is made for them in the transaction that records them.
    """

    def __init__(
        self,
        store_layout: Layout,
        index: Index,
        staging: Staging,
        evictor: Evictor,
        survived_errors: SurvivedErrors,
    ) -> None:
        self._layout = store_layout
        self._index = index
        self._staging = staging
        self._evictor = evictor
        self._survived_errors = survived_errors

    def adopt(self, path: Path, content: ContentInfo) -> None:
        """Make an entry of a complete, verified file; may raise StoreError.

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
                is_over_limit = self._is_too_much(connection)
        except OSError:
            # If this write fails too, the next start completes the move.
            with suppress(StoreError), self._index.transaction() as connection:
                entries.complete_removal(connection, self._layout, move)
            raise
        if is_over_limit:
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
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise build_error(EINVAL, f"{path} is not a file of {size} bytes")
        os.fchmod(descriptor, layout.FILE_MODE)
        os.fsync(descriptor)
