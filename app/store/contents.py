"""Opens kept content for reading, and records its use."""

import os
import time
from dataclasses import dataclass
from io import FileIO
from typing import Final

from app.oci.reference import Digest
from app.store import entries
from app.store.entries import Entry
from app.store.errors import StoreError, translate_errors
from app.store.eviction import Evictor
from app.store.index import Index
from app.store.layout import Layout, format_location

_TOUCHES: Final = 256
_TOUCH_AFTER: Final = 1.0
"""Uses are written to the index in batches: after so many uses, or so many seconds."""

_LONG_UNUSED: Final = 60.0
"""Seconds without use after which the next use is written at once. A batch is only written when
another use follows, and none may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """An open content file and its description; the caller closes `file`.

    The file can be read to its end even if it is evicted meanwhile. `lookup_size` is in bytes.
    `stored_at` is when the content was stored, in wall-clock seconds. `location` is the file's path
    below `content/`. `media_type` is the type it was stored with, or "" if that is unknown; the
    type that a repository reports is in its Member.
    """

    file: FileIO
    size: int
    media_type: str
    stored_at: float
    location: str


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
        found: Content | None = self._index.call_or_default(
            lambda: self._open(registry, digest), None
        )
        return found

    def lookup_size(self, registry: str, digest: Digest) -> int | None:
        """Return the size of content in bytes, or None if it is not kept.

        This does not mark the content as used.
        """
        entry = self._index.call_or_default(lambda: self._lookup_entry(registry, digest), None)
        if entry is None:
            return None
        size = int(entry.size)
        try:
            return size if self._layout.path(registry, digest).lstat().st_size == size else None
        except OSError:
            return None

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

    def _open(self, registry: str, digest: Digest) -> Content | None:
        entry = self._lookup_entry(registry, digest)
        if entry is None:
            return None
        with translate_errors("open"):
            where = format_location(registry, digest)
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
            file=file,
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
