"""The lead: the right to fetch a blob on behalf of all its readers, and for a while without any."""

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import ESTALE
from pathlib import Path
from typing import Any, Final, Protocol, Self

from app.oci.reference import Digest
from app.source import Payer
from app.spools import files
from app.spools.files import FetchFiles, FetchRecord, FetchState, SpoolPaths
from app.spools.shared_file import SharedFile
from app.threads import NativeThreadPool

# Unread fetches: who reads a fetch, and how many fetches may run without a reader.
#
# All processes share this through locks on byte ranges past the end of a file, which the kernel
# drops when their holder ends. A reader locks the byte of its identity in the blob's data file. An
# unread fetch locks one of the bytes of its client and one of the bytes for all clients.

_FIRST_MARK: Final = 1 << 60
"""The offset of the first byte that stands for an identity. No blob is that large."""
_IDENTITIES: Final = 1 << 30
"""The number of these bytes. Clients that share one count as one client, which harms neither."""

LIMIT_PER_CLIENT: Final = 8
LIMIT_FOR_ALL: Final = 32
"""The maximum number of unread fetches at once, for one client and for all clients on this machine.

podman fetches six layers at once, Docker and containerd three, so one interrupted pull fits.
"""

_SLOT_THREADS: Final = NativeThreadPool(1)


def _hash_identity(identity: str) -> int:
    digest = hashlib.blake2b(identity.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest) % _IDENTITIES


def mark_reader(file: SharedFile, identity: str) -> None:
    """Show all processes that a client reads a blob; may raise OSError."""
    file.try_lock_range(fcntl.F_RDLCK, _FIRST_MARK + _hash_identity(identity))


def unmark_reader(file: SharedFile, identity: str) -> None:
    """Stop showing that a client reads a blob; may raise OSError."""
    file.try_lock_range(fcntl.F_UNLCK, _FIRST_MARK + _hash_identity(identity))


def has_other_readers(file: SharedFile, identity: str) -> bool:
    """Return whether another client reads a blob, in any process; may raise OSError."""
    number = _hash_identity(identity)
    return file.is_range_locked(_FIRST_MARK + number + 1, _IDENTITIES - number) or (
        number > 0 and file.is_range_locked(_FIRST_MARK, number)
    )


class UnreadSlots:
    """Bounds the number of unread fetches across all processes that share a lock file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def try_acquire(self, identity: str) -> SharedFile | None:
        """Return a slot for an unread fetch of a client, or None if none is left.

        Closing the slot gives it back. May raise OSError.
        """
        slot: SharedFile | None = _SLOT_THREADS.submit(
            self._try_acquire, _hash_identity(identity)
        ).result()
        return slot

    def _try_acquire(self, number: int) -> SharedFile | None:
        file = SharedFile.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _try_lock_one(
                file, _FIRST_MARK + number * LIMIT_PER_CLIENT, LIMIT_PER_CLIENT
            ) and _try_lock_one(file, 0, LIMIT_FOR_ALL):
                return file
        except OSError:
            file.close()
            raise
        file.close()
        return None


def _try_lock_one(file: SharedFile, start: int, count: int) -> bool:
    return any(
        file.try_lock_range(fcntl.F_WRLCK, position) for position in range(start, start + count)
    )


# The terms, which the owner of the spools sets.


def _is_never_cached(_: Digest) -> bool:
    return False


def _remove_nothing(_: float) -> int:
    return 0


def _ignore_failure(_: OSError) -> None:
    pass


_WHOLE_LIMIT: Final = 1 << 30
_PART_LIMIT: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadLimits:
    """How many bytes of a blob are fetched after its last reader has left.

    `whole` is for a fetch that began with a request for the whole blob, `part` for one that began
    with a `Range`: a client that wants one byte is no reason to fetch a gigabyte.
    """

    whole: int = _WHOLE_LIMIT
    part: int = _PART_LIMIT

    @classmethod
    def fixed(cls, size: int) -> Self:
        """Return limits that are both `size` bytes."""
        return cls(whole=size, part=size)

    @classmethod
    def for_limited_clients(cls) -> Self:
        """Return the limits to use if each client's traffic is limited: 16 MiB for both."""
        return cls.fixed(_PART_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteBlob:
    """A complete, verified file of a blob; `size` is in bytes."""

    path: Path
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """The terms on which blobs are fetched.

    `make_room` makes room for a number of bytes before they are written. `adopt` receives each
    complete blob. Both may take long, and may raise OSError. `is_cached` returns, on any thread,
    whether `adopt` has already received a blob: a new leader checks this once more. `unread_limits`
    limits the bytes that are fetched while nobody reads. Unfinished fetches are removed after
    `idle_seconds` seconds. `remove_other_idle`, on any thread, does the same for other files that
    take up the same space, and returns the bytes freed. `report_failure` is called with each error
    that prevents a blob from being fetched for all readers.
    """

    adopt: Callable[[CompleteBlob], None]
    make_room: Callable[[int], None]
    is_cached: Callable[[Digest], bool] = _is_never_cached
    remove_other_idle: Callable[[float], int] = _remove_nothing
    report_failure: Callable[[OSError], None] = _ignore_failure
    unread_limits: UnreadLimits = UnreadLimits()
    idle_seconds: float = 24 * 3600.0


_THREADS: Final = NativeThreadPool(4)


class LeaseOwner(Protocol):
    """Manages all fetches of this process and their readers."""

    @property
    def unread_slots(self) -> UnreadSlots:
        """The slots that bound the number of fetches that nobody reads."""

    def make_room(self, size: int) -> None:
        """Make room for `size` bytes; raise OSError if that is impossible."""

    def has_readers(self, inode: int) -> bool:
        """Return whether any client of this process reads a fetch."""

    def wake_readers(self, inode: int) -> None:
        """Wake this process's readers of a fetch."""

    def forget_lease(self, lead: "FetchLease") -> None:
        """Forget a lead that has been released."""


class FetchLease:
    """The right to fetch a blob, which only one fetcher has at a time.

    It ends with `release`, or with the fetch that `filling.start_fetch_thread` starts.
    `offset` is the number of bytes that an earlier fetch left. They are unverified, and are read
    and hashed again before more are written.
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        *,
        digest: Digest,
        paths: SpoolPaths,
        fetch_files: FetchFiles,
        options: FetchOptions,
        owner: LeaseOwner,
        is_cached: bool,
    ) -> None:
        self.digest = digest
        self.paths = paths
        self.files = fetch_files
        self.options = options
        self.owner = owner
        self.record = fetch_files.initial_record
        self.payer: Payer | None = None
        """The client that is charged for the bytes that arrive while nobody else reads."""
        self.is_cached = is_cached
        """Whether another fetcher has kept the blob since the caller looked for it."""
        self.offset = fetch_files.data.stat().st_size
        self.inode = fetch_files.data.stat().st_ino
        self._released = False
        self.started = threading.Event()
        """Set when there is something to read, or when this lead ends without it."""

    @property
    def size(self) -> int | None:
        """The size of the whole blob in bytes, or None if no earlier fetch has recorded it."""
        return None if self.record.state is FetchState.REQUESTED else self.record.size

    @property
    def has_readers(self) -> bool:
        """Whether any client of any process reads the fetch; raises OSError."""
        return self.owner.has_readers(self.inode) or not self.files.data.is_unlocked()

    def update_payer(self, payer: Payer) -> None:
        """Charge a returning payer through its new request, so that nothing is charged twice.

        If `payer` is another client, do nothing.
        """
        if self.payer is not None and self.payer.identity == payer.identity:
            self.payer = payer

    def has_other_readers(self, identity: str) -> bool:
        """Return whether any client except this one reads; may raise OSError."""
        return has_other_readers(self.files.data, identity)

    def start(self, size: int) -> None:
        """Record that the registry has answered, so that others can join.

        `size` is the size of the whole blob in bytes. Raise OSError if there is no room, or if an
        earlier fetch recorded another size; the caller must then still release the lead.
        """
        if self.size not in {None, size}:
            raise OSError(ESTALE, "the registry reports a different size than before")
        self.owner.make_room(size - self.offset)
        self.write_record(
            FetchRecord(
                state=FetchState.RUNNING,
                size=size,
                inode=self.inode,
                failures=self.record.failures,
            )
        )
        self.started.set()

    def fail(self, length: int) -> None:
        """Release the lead after a failure, with `length` bytes fetched; may raise OSError.

        A fetch that has brought no bytes counts as a failure, so that readers do not all take over
        in turn in vain.
        """
        failures = 0 if length > self.offset else self.record.failures + 1
        if self.record.state is FetchState.RUNNING:
            self.write_record(replace(self.record, failures=failures))
        self.release()

    def record_verified(self) -> None:
        """Record that all bytes are there and match the digest; may raise OSError."""
        self.write_record(replace(self.record, state=FetchState.VERIFIED))

    def discard(self, state: FetchState) -> None:
        """Record why the fetch ends for good, and remove its files; may raise OSError.

        The caller must still release the lead.
        """
        try:
            self.write_record(replace(self.record, state=state))
        finally:
            self.run_on_thread(files.remove, self.files, self.paths)

    def release(self) -> None:
        """Release the lead; the bytes fetched so far stay for the next fetcher. May raise OSError.

        Calling this again has no effect.
        """
        was_released, self._released = self._released, True
        if was_released:
            return
        self.owner.forget_lease(self)
        try:
            if self.record.state is FetchState.REQUESTED:
                self.run_on_thread(files.remove, self.files, self.paths)
        finally:
            self.files.close()
            self.started.set()
            self.owner.wake_readers(self.inode)

    def write_record(self, fetch_record: FetchRecord) -> None:
        """Write the record, which all processes read, and wake our readers; may raise OSError."""
        self.record = fetch_record
        try:
            self.run_on_thread(files.write_record, self.files.record, fetch_record)
        finally:
            self.owner.wake_readers(self.inode)

    def run_on_thread(self, work: Callable[..., object], *args: object) -> Any:  # noqa: ANN401 - whatever it gives
        """Run work that waits for the disk on a real thread; return or raise what it does."""
        return _THREADS.submit(work, *args).result()
