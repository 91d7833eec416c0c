"""The store: one directory that all workers on a machine share."""

import os
from collections.abc import Callable
from contextlib import suppress
from errno import EROFS
from pathlib import Path
from typing import Final

from app.oci.reference import Digest
from app.store.admin import DirectoryAdmin
from app.store.blobs import BlobStat, Content, ContentInfo, Entry, RegistryUsage, SizeLimits
from app.store.contents import Committer, ContentReader
from app.store.errors import (
    Fault,
    StoreError,
    SurvivedErrors,
    build_error,
    fault_of,
    translate_errors,
)
from app.store.eviction import Evictor
from app.store.index import Index
from app.store.layout import Flags, Layout, Staging, open_descriptor
from app.store.leases import FileLeases
from app.store.ledger import BootClock, Clock
from app.store.secret import load_secret
from app.store.sqlite_ledger import SqliteLedger
from app.store.storage import Storage

_PATIENCE: Final = 10.0
"""Seconds to wait for other processes' writes."""

_SMALL_LAYER: Final = 1 << 20
"""Bytes of a small layer. A cache without room for one keeps next to nothing."""
_PROBE_SIZE: Final = 4096
"""Bytes that a probe writes."""
_PROBE_PATIENCE: Final = 1.0
"""Seconds that a probe waits for other processes' writes."""


def find_owner(directory: Path) -> int | None:
    """Return the UID of the owner of a directory's content; None if there is no store in it."""
    try:
        return Layout(directory).content.stat().st_uid
    except OSError:
        return None


class Store:
    """A BlobStore in a directory, with its `ledger`, and `admin` for operators.

    Every method waits for the disk and for other processes. Never call one on the event loop; use
    the real threads of app/threads.py.

    Any number of threads and processes may use one directory at once. Each process must create its
    own Store. Methods that read never raise: they treat content that is missing, broken or
    unreachable as absent. Methods that write raise StoreError. `survived_errors` collects the
    errors that the store survived, for the log.
    """

    def __init__(
        self,
        directory: Path,
        limits: SizeLimits | None = None,
        clock: Clock | None = None,
        patience: float = _PATIENCE,
        count_reserved: Callable[[], int] = int,
    ) -> None:
        """Open or create the directory; raise StoreError if it cannot be used.

        `patience` is how many seconds to wait for other processes' writes. `count_reserved` returns
        the bytes of unfinished downloads, which count towards `limits` but are not content yet.
        """
        self.directory, self.clock = directory, clock or BootClock()
        clock = self.clock
        layout, self.survived_errors = Layout(directory), SurvivedErrors()
        self._index = Index(layout, patience, self.survived_errors)
        self._staging = Staging(layout)
        self.limits = limits or SizeLimits()
        self._evictor = Evictor(layout, self._index, self._staging, self.limits, count_reserved)
        self._reader = ContentReader(layout, self._index, self._evictor)
        self._committer = Committer(
            layout, self._index, self._staging, self._evictor, self.survived_errors
        )
        self.ledger = SqliteLedger(self._index, clock, Flags(layout.flags))
        self.admin = DirectoryAdmin(layout, self._index, self._staging, self._evictor)
        with translate_errors(f"open {directory}"):
            layout.prepare()
            self._index.check()
            self._staging.get_owner()
        self._clean_up()
        # A process forked from here must not inherit a connection: SQLite's locks do not survive
        # a fork.
        self._index.close()

    @property
    def evicted_count(self) -> int:
        """The number of entries that this process has evicted so far."""
        return self._evictor.evicted_count

    def open(self, registry: str, digest: Digest) -> Content | None:
        """Return kept content and mark it as most recently used; return None if it is not kept.

        The caller closes the content's `blob`.
        """
        return self._reader.open(registry, digest)

    def open_entry(self, entry: Entry) -> Content | None:
        """Do as `open` does, for an entry that the ledger has just named."""
        return self._reader.open_entry(entry)

    def has_entry(self, entry: Entry) -> bool:
        """Return whether the content of an entry that the ledger has just named is there."""
        return self._reader.has_entry(entry)

    def stat(self, registry: str, digest: Digest) -> BlobStat | None:
        """Return the description of kept content, or None if it is not kept.

        This does not mark the content as used.
        """
        return self._reader.stat(registry, digest)

    def adopt(self, path: Path, content: ContentInfo) -> None:
        """Keep a complete, verified file by moving it into the store; may raise StoreError.

        The file must be on the store's file system, and nobody may be writing it any more. It is
        gone from `path` afterwards, even if this raises.
        """
        self._reader.write_uses()
        self._committer.adopt(path, content)

    def keep(self, data: bytes, registry: str, digest: Digest, media_type: str) -> None:
        """Verify and keep bytes from memory.

        Raise StoreError if they do not match the digest or cannot be written.
        """
        self._reader.write_uses()
        self._committer.keep(data, registry, digest, media_type)

    def delete(self, registry: str, digest: Digest) -> bool:
        """Remove content and return whether it was there; may raise StoreError."""
        return self._evictor.delete(registry, digest)

    def make_room(self, size: int) -> None:
        """Evict the least recently used content until `size` more bytes fit.

        If they can never fit, raise StoreError and evict nothing. Room that others have made but
        not filled yet is not reserved for them.
        """
        self._reader.write_uses()
        self._evictor.make_room(size)

    def measure_usage(self) -> dict[str, RegistryUsage]:
        """Return the usage of each registry that has content; may raise StoreError."""
        return self.admin.measure_usage()

    def probe(self) -> None:
        """Write a little, as `keep` does; raise StoreError if nothing can be kept now."""
        with translate_errors("write"):
            # Check this first: on a read-only disk SQLite fails to open the index without saying
            # why.
            if os.statvfs(self.directory).f_flag & os.ST_RDONLY:
                raise build_error(EROFS, "the directory cannot be written")
            self._evictor.check_room(_SMALL_LAYER)
            # If the cache itself has filled the disk, eviction makes room.
            if self.count_free_bytes() >= _SMALL_LAYER:
                self._write_probe()
            with self._index.transaction(patience=_PROBE_PATIENCE):
                pass

    def _write_probe(self) -> None:
        path = self._staging.build_path()
        try:
            path.write_bytes(bytes(_PROBE_SIZE))
            with open_descriptor(path, os.O_RDONLY) as descriptor:
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
            if fault is Fault.IO and self.count_free_bytes() < _PROBE_SIZE:
                return Fault.NO_SPACE
        return fault

    def count_free_bytes(self) -> int:
        """Return the bytes of the disk that this user may still fill; may raise StoreError."""
        with translate_errors("look"):
            status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize

    def close(self) -> None:
        """Close everything except connections that a thread is using at that moment."""
        self._reader.write_uses()
        self._index.close()
        self._staging.close()
        self.ledger.flags.close()

    def _clean_up(self) -> None:
        try:
            self.admin.recover()
            self.ledger.delete_expired()
        except StoreError as error:  # such as a full disk: kept content can still be read
            self.survived_errors.report(error)


def open_directory(
    directory: Path,
    limits: SizeLimits | None = None,
    clock: Clock | None = None,
    measure_unfinished: Callable[[Path], int] = lambda _: 0,
) -> Storage:
    """Open or create a storage in a directory; raise StoreError if it cannot be used.

    No file stays open that a fork would share with its parent. `measure_unfinished` returns the
    bytes of the unfinished downloads below the directory that it is given.
    """
    unfinished = directory / "unfinished"
    store = Store(directory, limits, clock, count_reserved=lambda: measure_unfinished(unfinished))
    secret = load_secret(directory)
    return Storage(
        blobs=store,
        ledger=store.ledger,
        leases=FileLeases(directory, secret),
        admin=store.admin,
        secret=secret,
        unfinished=unfinished,
        close=store.close,
    )
