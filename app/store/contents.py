"""Opens kept content for reading, and records its use."""

import os
import time
from io import FileIO
from typing import Final

from app.oci.reference import Digest
from app.store import entries
from app.store.blobs import BlobStat, Content, Entry
from app.store.errors import StoreError, translate_errors
from app.store.eviction import Evictor
from app.store.file_blob import FileBlob
from app.store.index import Index
from app.store.layout import Layout, format_location

_TOUCHES: Final = 256
_TOUCH_AFTER: Final = 1.0
"""Uses are written to the index in batches: after so many uses, or so many seconds."""

_LONG_UNUSED: Final = 60.0
"""Seconds without use after which the next use is written at once. A batch is only written when
another use follows, and none may."""


class ContentReader:
    """Opens kept content, and treats an entry with any fault as absent."""

    def __init__(self, places: Layout, index: Index, room: Evictor) -> None:
        self._layout = places
        self._index = index
        self._evictor = room
        self._pending_uses: dict[int, float] = {}
        self._written_at = 0.0
        self._is_behind = False

    def open(self, registry: str, digest: Digest) -> Content | None:
        """Return content and mark it as most recently used; return None if it is not kept."""
        entry = self._index.call_or_default(lambda: self._lookup_entry(registry, digest), None)
        return None if entry is None else self.open_entry(entry)

    def open_entry(self, entry: Entry) -> Content | None:
        """Do as `open` does, for an entry that was looked up a moment ago."""
        found: Content | None = self._index.call_or_default(lambda: self._open(entry), None)
        return found

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
        used, self._pending_uses = self._pending_uses, {}
        if used:
            try:
                # A reader must not wait for writers.
                with self._index.transaction(patience=0) as connection:
                    entries.touch(connection, used)
                self._is_behind = False
            except StoreError:
                self._pending_uses = used | self._pending_uses
                self._is_behind = True
        self._written_at = time.monotonic()

    def _lookup_entry(self, registry: str, digest: Digest) -> Entry | None:
        with self._index.connection() as connection:
            return entries.find(connection, registry, digest)

    def _open(self, entry: Entry) -> Content | None:
        with translate_errors("open"):
            where = format_location(entry.registry, entry.digest)
            try:
                descriptor = os.open(
                    f"{self._layout.content}/{where}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
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
            location=where,
        )

    def _record_use(self, entry: Entry) -> None:
        now = time.time()
        self._pending_uses.pop(entry.id, None)
        self._pending_uses[entry.id] = now
        is_news = now - entry.used_at >= _LONG_UNUSED and not self._is_behind
        is_due = (
            len(self._pending_uses) >= _TOUCHES
            or time.monotonic() - self._written_at >= _TOUCH_AFTER
        )
        if is_news or is_due:
            self.write_uses()
