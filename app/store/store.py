"""The store: one directory that all workers on a machine share."""

import os
from collections.abc import Callable
from contextlib import suppress
from errno import EROFS
from pathlib import Path
from typing import Final

from app.oci.reference import Digest
from app.store.admin import Holdings, Upkeep
from app.store.clock import BootClock, Clock
from app.store.commit import Taking
from app.store.contents import Content, Contents
from app.store.entries import Described
from app.store.errors import Fault, StoreError, Troubles, fault_of, refused, translated
from app.store.eviction import Limits, Room
from app.store.flags import Signs
from app.store.grants import Grants
from app.store.index import Index
from app.store.layout import Places, opened
from app.store.members import Members
from app.store.notes import Notes
from app.store.staging import Aside

_PATIENCE: Final = 10.0
"""Seconds to wait for other processes' writes."""

_SMALL: Final = 1 << 20
"""Bytes of a small layer. A cache without room for one keeps next to nothing."""
_PROBE: Final = 4096
"""Bytes that a probe writes."""
_BRIEF: Final = 1.0
"""Seconds that a probe waits for other processes' writes."""


class Store:
    """Content by registry and digest, with `members`, `grants`, `notes`, and `upkeep`.

    `tags`, `tokens` and `lists` are notes in tables of their own, so they never displace other
    notes. `signs` are flags that processes show each other even when nothing can be written.
    `holdings` shows an operator the content of a repository.

    Every method waits for the disk and for other processes. Never call one on the event loop; use
    the real threads of app/threads.py.

    Any number of threads and processes may use one directory at once. Each process must create its
    own Store. Methods that read never raise: they treat content that is missing, broken or
    unreachable as absent. Methods that write raise StoreError. `troubles` collects the errors that
    the store survived, for the log.
    """

    def __init__(
        self,
        directory: Path,
        limits: Limits | None = None,
        clock: Clock | None = None,
        patience: float = _PATIENCE,
        beside: Callable[[], int] = int,
    ) -> None:
        """Open or create the directory; raise StoreError if it cannot be used.

        `patience` is how many seconds to wait for other processes' writes. `beside` returns the
        bytes of unfinished downloads, which count towards `limits` but are not content yet.
        """
        self.directory, self.clock = directory, clock or BootClock()
        clock = self.clock
        places, self.troubles = Places(directory), Troubles()
        self._index = Index(places, patience, self.troubles)
        self._aside = Aside(places)
        self._room = Room(places, self._index, self._aside, limits or Limits(), beside)
        self._contents = Contents(places, self._index, self._room)
        self._taking = Taking(places, self._index, self._aside, self._room, self.troubles)
        self.members = Members(self._index, clock)
        self.grants = Grants(self._index, clock)
        self.notes = Notes(self._index, clock, "notes")
        self.signs = Signs(places.signs)
        self.tags = Notes(self._index, clock, "tags")
        self.tokens = Notes(self._index, clock, "tokens")
        self.lists = Notes(self._index, clock, "lists")
        self.upkeep = Upkeep(places, self._index, self._aside, self._room)
        self.holdings = Holdings(places, self._index, self._room)
        with translated(f"open {directory}"):
            places.prepare()
            self._index.check()
            self._aside.owner()
        self._tidy()
        # A process forked from here must not inherit a connection: SQLite's locks do not survive
        # a fork.
        self._index.close()

    @property
    def evicted(self) -> int:
        """The number of entries that this process has evicted so far."""
        return self._room.evicted

    def open(self, registry: str, digest: Digest) -> Content | None:
        """Return kept content and mark it as most recently used; return None if it is not kept.

        The caller closes the content's `file`.
        """
        return self._contents.open(registry, digest)

    def has(self, registry: str, digest: Digest) -> bool:
        """Return whether content is kept, without marking it as used."""
        return self.size(registry, digest) is not None

    def size(self, registry: str, digest: Digest) -> int | None:
        """Return the size of kept content in bytes, or None if it is not kept.

        This does not mark the content as used.
        """
        return self._contents.size(registry, digest)

    def take(self, path: Path, content: Described) -> None:
        """Keep a complete, verified file by moving it into the store; raise StoreError.

        The file must be on the store's file system, and nobody may be writing it any more. It is
        gone from `path` afterwards, even if this raises.
        """
        self._contents.write_uses()
        self._taking.take(path, content)

    def keep(self, data: bytes, registry: str, digest: Digest, media_type: str) -> None:
        """Verify and keep bytes from memory.

        Raise StoreError if they do not match the digest or cannot be written.
        """
        self._contents.write_uses()
        self._taking.keep(data, registry, digest, media_type)

    def drop(self, registry: str, digest: Digest) -> bool:
        """Remove content and return whether it was there; raise StoreError."""
        return self._room.drop(registry, digest)

    def make_room(self, size: int) -> None:
        """Evict the least recently used content until `size` more bytes fit.

        If they can never fit, raise StoreError and evict nothing. Room that others have made but
        not filled yet is not reserved for them.
        """
        self._contents.write_uses()
        self._room.make(size)

    def probe(self) -> None:
        """Write a little, as `keep` does; raise StoreError if nothing can be kept now."""
        with translated("write"):
            # Check this first: on a read-only disk SQLite fails to open the index without saying
            # why.
            if os.statvfs(self.directory).f_flag & os.ST_RDONLY:
                raise refused(EROFS, "the directory cannot be written")
            self._room.look(_SMALL)
            # If the cache itself has filled the disk, eviction makes room.
            if self.free() >= _SMALL:
                self._write_a_little()
            with self._index.writing(patience=_BRIEF):
                pass

    def _write_a_little(self) -> None:
        path = self._aside.new()
        try:
            path.write_bytes(bytes(_PROBE))
            with opened(path, os.O_RDONLY) as descriptor:
                os.fsync(descriptor)  # some broken disks fail only here
        finally:
            path.unlink(missing_ok=True)

    def fault_of(self, error: OSError) -> Fault:
        """Return the fault behind an error.

        On a full disk SQLite cannot create the files that it keeps beside the index and reports an
        I/O error. This reports such an error as `NO_SPACE`.
        """
        fault = fault_of(error)
        with suppress(StoreError):
            if fault is Fault.IO and self.free() < _PROBE:
                return Fault.NO_SPACE
        return fault

    def free(self) -> int:
        """Return the bytes of the disk that this user may still fill; raise StoreError."""
        with translated("look"):
            state = os.statvfs(self.directory)
        return state.f_bavail * state.f_frsize

    def close(self) -> None:
        """Close everything except connections that a thread is using at that moment."""
        self._contents.write_uses()
        self._index.close()
        self._aside.close()
        self.signs.close()

    def _tidy(self) -> None:
        try:
            self.upkeep.tidy()
            self.grants.forget_old()
            self.tokens.forget_old()
        except StoreError as error:  # such as a full disk: kept content can still be read
            self.troubles.tell(error)
