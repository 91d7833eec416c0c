"""The fetches of one registry: a client leads one, or joins one that is running.

A `Spool` is a running fetch as one reader sees it. The readers of a process share a `SharedSpool`.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from errno import ESTALE, ETIMEDOUT
from pathlib import Path
from typing import Final

from app.oci.errors import ClientGone
from app.oci.reference import Digest
from app.source import Client, Payer
from app.spools import files
from app.spools.files import FetchFiles, FetchRecord, FetchState, SpoolPaths
from app.spools.lead import FetchLease, FetchOptions, UnreadSlots, mark_reader, unmark_reader
from app.threads import NativeThreadPool

# One fetch as this process sees it; all its readers in the process share it.

_CHECK_INTERVAL: Final = 0.05
"""Seconds between two checks whether anybody still fills the spool."""


class SharedSpool:
    """The data file, its record, its readers in this process, and those that wait for more."""

    def __init__(self, digest: Digest, files: FetchFiles) -> None:
        self.digest = digest
        self._files = files
        self._record = files.initial_record
        self._condition = threading.Condition(threading.Lock())
        self._checked_at = 0.0
        self._readers = Counter[str]()

    @property
    def size(self) -> int:
        """The size of the whole blob in bytes."""
        return self._record.size

    @property
    def inode(self) -> int:
        """The data file's inode number, which identifies this fetch among those of the blob."""
        return self._record.inode

    def add_reader(self, identity: str) -> None:
        """Add a reader, and show all processes that this client reads; may raise OSError."""
        if not self._readers[identity]:
            mark_reader(self._files.data, identity)
        self._readers[identity] += 1

    def remove_reader(self, identity: str) -> bool:
        """Remove a reader, and return whether it was the last; the caller then closes the spool."""
        self._readers[identity] -= 1
        if not self._readers[identity]:
            del self._readers[identity]
            with suppress(OSError):
                unmark_reader(self._files.data, identity)
        return not self._readers

    def read_record(self) -> FetchRecord:
        """Return the current record; may raise OSError.

        While a record is being written, return the earlier one.
        """
        if self._record.state is FetchState.RUNNING:
            self._record = files.read_record(self._files.record) or self._record
        return self._record

    def count_available(self) -> int:
        """Return how many bytes are available; may raise OSError."""
        return min(self._files.data.stat().st_size, self.size)

    def read(self, count: int, offset: int) -> bytes:
        """Return up to `count` available bytes from `offset`; may raise OSError."""
        return self._files.data.read(count, offset)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Pass available bytes to `send`, by descriptor, offset and count.

        Raise OSError if the file is closed, BodyBroken if it fails, and what `send` raises.
        """
        self._files.data.send(send, offset, count)

    def prefetch(self, count: int, offset: int) -> None:
        """Bring available bytes into memory; may raise OSError."""
        self._files.data.prefetch(count, offset)

    def wait(self, known_size: int, seconds: float) -> int:
        """Wait until more than `known_size` bytes are available, and return how many are.

        Wait for at most `seconds`. Other processes do not notify this one, so the file is examined
        again when the time is over. May raise OSError.
        """
        with self._condition:
            if self.count_available() <= known_size:
                self._condition.wait(seconds)
        return self.count_available()

    def notify_readers(self) -> None:
        """Wake the readers that wait for more bytes."""
        with self._condition:
            self._condition.notify_all()

    def is_abandoned(self) -> bool:
        """Return whether the fetcher's lock is free, which means that nobody fills the spool.

        The lock is tested at most every 50 ms; calls in between return False. May raise OSError.
        """
        now = time.monotonic()
        if now - self._checked_at < _CHECK_INTERVAL:
            return False
        self._checked_at = now
        return self._files.record.is_unlocked()

    def close(self) -> None:
        """Close the files."""
        self._files.close()


# The spool, as one reader sees it.


class Spool:
    """The growing file of a blob, for one reader, who closes it.

    Every method except `close` may raise OSError.
    """

    def __init__(self, shared_spool: SharedSpool, owner: "Fetches", reader: str) -> None:
        self._shared = shared_spool
        self._owner = owner
        self._reader = reader
        self._closed = False
        self.size = shared_spool.size

    @property
    def available(self) -> int:
        """The number of bytes that are available."""
        return self._shared.count_available()

    @property
    def state(self) -> FetchState:
        """The current state of the fetch."""
        return self._shared.read_record().state

    def read(self, count: int, offset: int) -> bytes:
        """Return up to `count` available bytes from `offset`."""
        return self._shared.read(count, offset)

    def prefetch(self, count: int, offset: int) -> None:
        """Bring available bytes into memory."""
        self._shared.prefetch(count, offset)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Pass available bytes to `send`, by descriptor, offset and count.

        Raise BodyBroken if the file fails, and what `send` raises.
        """
        self._shared.send(send, offset, count)

    def wait(self, known_size: int, seconds: float) -> int:
        """Wait until more than `known_size` bytes are available, or for at most `seconds`.

        Return how many bytes are available.
        """
        return self._shared.wait(known_size, seconds)

    def try_take_over(self) -> FetchLease | None:
        """Return the right to continue the fetch if its fetcher has died, or None if it has not.

        Raise OSError if the fetch cannot be continued.
        """
        return self._owner.try_take_over(self._shared)

    def close(self) -> None:
        """End this reader; may be called again."""
        was_closed, self._closed = self._closed, True
        if not was_closed:
            self._owner.release_reader(self._shared, self._reader)


# All fetches of one registry.

_THREADS: Final = NativeThreadPool(4)
_CLEANUP_INTERVAL: Final = 3600.0
"""Seconds between two searches for unfinished fetches to remove."""

_PATIENCE: Final = 60.0
"""Seconds that a client waits for the registry's answer to another client's request. After that it
asks the registry itself."""

_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
"""Seconds between two attempts to lead or join a fetch; each pause is twice the one before."""
_CLIENT_CHECK_AFTER: Final = 0.25
"""Seconds of waiting after which each attempt also checks whether the client has left."""


class Fetches:
    """The fetches in one directory, which all processes of a machine share.

    Never call a method on a real thread. A method raises OSError only if its docstring says so.
    """

    def __init__(self, directory: Path, options: FetchOptions) -> None:
        self._directory = directory
        self._options = options
        self._lock = threading.Lock()
        self._spools: dict[int, SharedSpool] = {}
        self._leases: dict[int, FetchLease] = {}
        self._tidied_at = float("-inf")
        self.report_failure = options.report_failure
        # The bound is for the whole machine. The file is not beside the registries' directories,
        # because a registry could have the same name.
        self.unread_slots = UnreadSlots(directory.parent.parent / "unread")

    @staticmethod
    def can_fetch(digest: Digest) -> bool:
        """Return whether a blob can be fetched for many readers: its digest must be verifiable."""
        return digest.can_be_verified

    def is_running(self, digest: Digest) -> bool:
        """Return whether any process is fetching a blob or waiting for the registry's answer.

        May raise OSError.
        """
        paths = self._build_paths(digest)
        is_fetched_here = any(lead.digest == digest for lead in list(self._leases.values()))
        return is_fetched_here or bool(_THREADS.submit(files.is_being_fetched, paths).result())

    def try_acquire(self, digest: Digest) -> FetchLease | None:
        """Return the right to fetch a blob, or None if somebody else has it; may raise OSError."""
        if self._find_unanswered(digest) is not None:
            return None
        self._remove_idle_periodically()
        paths = self._build_paths(digest)
        fetch_files, is_cached = _THREADS.submit(self._open_writer, digest, paths).result()
        if fetch_files is None:
            return None
        lead = FetchLease(
            digest=digest,
            paths=paths,
            fetch_files=fetch_files,
            options=self._options,
            owner=self,
            is_cached=is_cached,
        )
        self._leases[lead.inode] = lead
        return lead

    def join(self, digest: Digest, payer: Payer | None = None) -> Spool | None:
        """Return the spool of a blob, or None if there is nothing to read; may raise OSError.

        `payer` is the client that reads. The caller closes the spool.
        """
        reader = payer.identity if payer else ""
        fetch_files: FetchFiles | None = _THREADS.submit(
            files.open_reader, self._build_paths(digest)
        ).result()
        if fetch_files is None:
            return None
        with self._lock:
            existing_spool = self._spools.get(fetch_files.initial_record.inode)
            shared_spool = existing_spool or SharedSpool(digest, fetch_files)
            try:
                shared_spool.add_reader(reader)
            except OSError:
                fetch_files.close()
                raise
            self._spools[fetch_files.initial_record.inode] = shared_spool
        if (
            payer is not None
            and (lead := self._leases.get(fetch_files.initial_record.inode)) is not None
        ):
            lead.update_payer(payer)
        if existing_spool:
            fetch_files.close()
        return Spool(shared_spool, self, reader)

    def acquire_or_join(
        self, digest: Digest, client: Client | None, payer: Payer | None = None
    ) -> FetchLease | Spool:
        """Wait until a blob can be fetched or read, and return the lead or the spool.

        Raise ClientGone if the client leaves meanwhile. Raise OSError if a file fails, or with
        ETIMEDOUT if neither is possible within 60 seconds.
        """
        pause, waited_seconds = _FIRST_PAUSE, 0.0
        while waited_seconds < _PATIENCE:
            if (lead := self.try_acquire(digest)) is not None:
                return lead
            if (spool := self.join(digest, payer)) is not None:
                return spool
            waited_seconds += self._wait(digest, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            if waited_seconds > _CLIENT_CHECK_AFTER and client is not None and client.is_gone():
                raise ClientGone
        raise OSError(ETIMEDOUT, "the fetcher got no answer in time")

    def remove_idle(self, idle: float | None = None) -> int:
        """Remove unfinished fetches that have been idle for so long; return the bytes freed.

        `idle` is in seconds; None means the `idle_seconds` of the options.
        """
        idle = self._options.idle_seconds if idle is None else idle
        removed_bytes: int = _THREADS.submit(self._remove_idle, idle).result()
        return removed_bytes

    def release_reader(self, shared_spool: SharedSpool, reader: str) -> None:
        """End a reader that `join` has admitted; close the files after the last one."""
        with self._lock:
            is_last = shared_spool.remove_reader(reader)
            if is_last:
                del self._spools[shared_spool.inode]
        if is_last:
            shared_spool.close()

    def try_take_over(self, shared_spool: SharedSpool) -> FetchLease | None:
        """Return the right to continue a fetch whose fetcher has died.

        Return None if somebody still fetches it. Raise OSError, with ESTALE if the fetch has been
        removed.
        """
        if shared_spool.inode in self._leases or not shared_spool.is_abandoned():
            return None
        lead = self.try_acquire(shared_spool.digest)
        if lead is not None and lead.inode != shared_spool.inode:
            lead.release()
            raise OSError(ESTALE, "the file of the fetch was removed")
        return lead

    def has_readers(self, inode: int) -> bool:
        """Return whether any client of this process reads a fetch."""
        return inode in self._spools

    def wake_readers(self, inode: int) -> None:
        """Wake this process's readers of a fetch, so that they look at it again."""
        shared_spool = self._spools.get(inode)
        if shared_spool is not None:
            shared_spool.notify_readers()

    def make_room(self, size: int) -> None:
        """Make room for `size` bytes, removing unfinished fetches if need be; may raise OSError."""
        try:
            self._options.make_room(size)
        except OSError:
            if not self.remove_idle(0):
                raise
            self._options.make_room(size)

    def forget_lease(self, lead: FetchLease) -> None:
        """Forget a lead that has been released."""
        if self._leases.get(lead.inode) is lead:
            del self._leases[lead.inode]

    def _open_writer(self, digest: Digest, paths: SpoolPaths) -> tuple[FetchFiles | None, bool]:
        fetch_files = files.open_writer(paths)
        return fetch_files, fetch_files is not None and self._options.is_cached(digest)

    def _remove_idle_periodically(self) -> None:
        now = time.monotonic()
        if now - self._tidied_at >= _CLEANUP_INTERVAL:
            self._tidied_at = now
            _THREADS.submit(self._remove_idle, self._options.idle_seconds)

    def _remove_idle(self, idle: float) -> int:
        return files.remove_idle(self._directory, idle) + self._options.remove_other_idle(idle)

    def _wait(self, digest: Digest, seconds: float) -> float:
        lead = self._find_unanswered(digest)
        started = threading.Event() if lead is None else lead.started
        started.wait(seconds)
        return seconds

    def _find_unanswered(self, digest: Digest) -> FetchLease | None:
        """Return this process's lead that still waits for the registry's answer, or None."""
        for lead in list(self._leases.values()):
            if lead.digest == digest and not lead.started.is_set():
                return lead
        return None

    def _build_paths(self, digest: Digest) -> SpoolPaths:
        return SpoolPaths.for_digest(self._directory, digest)
