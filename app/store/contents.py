"""What is kept, to be read."""

import os
import time
from dataclasses import dataclass
from io import FileIO
from typing import Final

from app.oci.reference import Digest
from app.store import entries
from app.store.entries import Entry
from app.store.errors import StoreError, translated
from app.store.eviction import Room
from app.store.index import Index
from app.store.layout import Places, location

_TOUCHES: Final = 256
_TOUCH_AFTER: Final = 1.0
"""Uses are written together, after so many of them or so many seconds."""

_LONG_UNUSED: Final = 60.0
"""Seconds after which a use is written at once: perhaps nobody comes after whom it would be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file that is open, and what is known of it; whoever gets it closes `file`.

    It can be read to its end also when it is evicted meanwhile.
    `taken` is when it came, in seconds of the wall clock; `location` is its place below
    `content/`; `media_type` is what it was called when it came, "" where that is not known: what
    a repository calls it is its Member's to say.
    """

    file: FileIO
    size: int
    media_type: str
    taken: float
    location: str


class Contents:
    """Opens what is kept; whatever is wrong with an entry, it is not there."""

    def __init__(self, places: Places, index: Index, room: Room) -> None:
        self._places = places
        self._index = index
        self._room = room
        self._used: dict[int, float] = {}
        self._told = 0.0
        self._is_late = False

    def open(self, registry: str, digest: Digest) -> Content | None:
        """Return content, or None; it is the most lately used now."""
        found: Content | None = self._index.unless_trouble(
            lambda: self._opened(registry, digest), None
        )
        return found

    def size(self, registry: str, digest: Digest) -> int | None:
        """Return the bytes of content, without using it; None if it is not there."""
        entry = self._index.unless_trouble(lambda: self._entry(registry, digest), None)
        if entry is None:
            return None
        size = int(entry.size)
        try:
            return size if self._places.path(registry, digest).lstat().st_size == size else None
        except OSError:
            return None

    def write_uses(self) -> None:
        """Tell the index what was used; where that cannot be, it is told later."""
        used, self._used = self._used, {}
        if used:
            try:
                # A reader does not wait for who writes.
                with self._index.writing(patience=0) as connection:
                    entries.touch(connection, used)
                self._is_late = False
            except StoreError:
                self._used = used | self._used
                self._is_late = True
        self._told = time.monotonic()

    def _entry(self, registry: str, digest: Digest) -> Entry | None:
        with self._index.reading() as connection:
            return entries.find(connection, registry, digest)

    def _opened(self, registry: str, digest: Digest) -> Content | None:
        entry = self._entry(registry, digest)
        if entry is None:
            return None
        with translated("open"):
            where = location(registry, digest)
            try:
                descriptor = os.open(
                    f"{self._places.content}/{where}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                )
            except FileNotFoundError:
                self._room.forget(entry)
                return None
            file = FileIO(descriptor, "rb")
            if os.fstat(descriptor).st_size != entry.size:
                file.close()
                self._room.forget(entry)
                return None
        self._use(entry)
        return Content(
            file=file,
            size=entry.size,
            media_type=entry.media_type,
            taken=entry.taken,
            location=where,
        )

    def _use(self, entry: Entry) -> None:
        now = time.time()
        self._used.pop(entry.id, None)
        self._used[entry.id] = now
        is_news = now - entry.used_at >= _LONG_UNUSED and not self._is_late
        is_due = len(self._used) >= _TOUCHES or time.monotonic() - self._told >= _TOUCH_AFTER
        if is_news or is_due:
            self.write_uses()
