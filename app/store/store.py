"""The store: one directory, shared by all workers of a machine."""

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
"""Seconds that one waits for the writes of other processes."""

_SMALL: Final = 1 << 20
"""Bytes of a small layer: a cache without room for one keeps next to nothing."""
_PROBE: Final = 4096
_BRIEF: Final = 1.0
"""Seconds that a probe waits for the writes of other processes."""


class Store:
    """Content by registry and digest, `members`, `grants`, `notes`, and their `upkeep`.

    `tags`, `tokens` and `lists` are notes too, and push out none of the others. `signs` are what
    the processes tell each other where nothing can be written. `holdings` is what an operator sees
    of a repository.
    Every method waits for the disk, and for other processes: never call one on the event loop,
    but on the threads of app/offloop.
    Any number of threads and processes may use one directory at once, each process with a Store
    that it made itself. What reads never raises: what is missing, broken or out of reach is not
    there. What writes raises StoreError. What was survived is told by `troubles`, for the log.
    """

    def __init__(
        self,
        directory: Path,
        limits: Limits | None = None,
        clock: Clock | None = None,
        patience: float = _PATIENCE,
        beside: Callable[[], int] = int,
    ) -> None:
        """Open the directory, or make it; raise StoreError if it cannot be used.

        `beside` gives the bytes of what is no content yet, and takes room as such.
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
        # A process that forks now takes no connection along: SQLite's locks would not come.
        self._index.close()

    @property
    def evicted(self) -> int:
        """How many entries this process has evicted so far."""
        return self._room.evicted

    def open(self, registry: str, digest: Digest) -> Content | None:
        """Return content that is kept, and make it the most lately used; None if it is not."""
        return self._contents.open(registry, digest)

    def has(self, registry: str, digest: Digest) -> bool:
        """Tell whether content is kept, without using it."""
        return self.size(registry, digest) is not None

    def size(self, registry: str, digest: Digest) -> int | None:
        """Return the bytes of content that is kept, without using it; None if it is not."""
        return self._contents.size(registry, digest)

    def take(self, path: Path, content: Described) -> None:
        """Keep a file that is whole and verified, by moving it here; raise StoreError.

        The file has to be on the same file system, with nobody writing it any more. It is gone
        from its path whatever happens.
        """
        self._contents.write_uses()
        self._taking.take(path, content)

    def keep(self, data: bytes, registry: str, digest: Digest, media_type: str) -> None:
        """Keep bytes from memory; raise StoreError, also if they are not what the digest says."""
        self._contents.write_uses()
        self._taking.keep(data, registry, digest, media_type)

    def drop(self, registry: str, digest: Digest) -> bool:
        """Keep content no more, and tell whether it was there; raise StoreError."""
        return self._room.drop(registry, digest)

    def make_room(self, size: int) -> None:
        """Evict what was used longest ago until so many more bytes fit.

        Raise StoreError, having evicted nothing, if they never can. What others have made room
        for and not filled yet is not counted.
        """
        self._contents.write_uses()
        self._room.make(size)

    def probe(self) -> None:
        """Write a little, as keeping does; raise StoreError if nothing could be kept now."""
        with translated("write"):
            # First of all, as SQLite opens no index there and says nothing of the reason.
            if os.statvfs(self.directory).f_flag & os.ST_RDONLY:
                raise refused(EROFS, "the directory cannot be written")
            self._room.look(_SMALL)
            # A disk that the cache itself has filled has room as soon as something is evicted.
            if self.free() >= _SMALL:
                self._write_a_little()
            with self._index.writing(patience=_BRIEF):
                pass

    def _write_a_little(self) -> None:
        path = self._aside.new()
        try:
            path.write_bytes(bytes(_PROBE))
            with opened(path, os.O_RDONLY) as descriptor:
                os.fsync(descriptor)  # only then do some disks say that they are broken
        finally:
            path.unlink(missing_ok=True)

    def fault_of(self, error: OSError) -> Fault:
        """Return what is wrong, in a word.

        On a full disk SQLite cannot make what stands beside the index, and calls that another
        trouble of the disk.
        """
        fault = fault_of(error)
        with suppress(StoreError):
            if fault is Fault.IO and self.free() < _PROBE:
                return Fault.NO_SPACE
        return fault

    def free(self) -> int:
        """Return the bytes of the disk that are free for this user; raise StoreError."""
        with translated("look"):
            state = os.statvfs(self.directory)
        return state.f_bavail * state.f_frsize

    def close(self) -> None:
        """Give everything back; what is lent at that moment is not."""
        self._contents.write_uses()
        self._index.close()
        self._aside.close()
        self.signs.close()

    def _tidy(self) -> None:
        try:
            self.upkeep.tidy()
            self.grants.forget_old()
            self.tokens.forget_old()
        except StoreError as error:  # a full disk: what is kept can be read all the same
            self.troubles.tell(error)
