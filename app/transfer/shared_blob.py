"""A blob being fetched, and what its users in one process share: the fan, and what comes of it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from app.events import NOBODY, Observer
from app.oci.reference import Digest
from app.source import BodyBroken, Payer
from app.transfer.chunk_map import FetchState
from app.transfer.connections import ChunkSource, Connection
from app.transfer.fan import FIRST_LEASE, Fan
from app.transfer.lease import Lease, Span
from app.transfer.partial_blob import PartialBlob
from app.transfer.patience import Patience, is_final
from app.transfer.place import KnownPlace
from app.transfer.readers import NOBODYS, Slots
from app.transfer.rest import RemainingBody
from app.transfer.watch import ReaderWatch, UnreadLimits

logger = logging.getLogger(__name__)

CONNECTIONS: Final = 8
"""The most connections of one fetch, unless the options say otherwise."""


class BlobSource(ChunkSource, Protocol):
    """What a fetch needs from one client's request for a blob."""

    @property
    def payer(self) -> Payer | None:
        """The client that is charged for bytes that nobody else reads; None charges nobody."""

    @property
    def key(self) -> tuple[str, ...] | None:
        """Whom the registry has let read the blob, and where; None if it was not asked."""

    def record_verified(self) -> None:
        """Take note that the registry has sent this client a blob that has been verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteBlob:
    """A complete, verified file of a blob; `size` is in bytes."""

    path: Path
    digest: Digest
    size: int


def _is_never_cached(_: Digest) -> bool:
    return False


def _remove_nothing(_: float) -> int:
    return 0


def _ignore_failure(_: OSError) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """The terms on which blobs are fetched.

    `make_room` makes room for a number of bytes before they are written. `adopt` receives each
    complete blob. Both may take long, and may raise OSError. `is_cached` returns, on any thread,
    whether `adopt` has already received a blob: whoever begins checks this once more.
    `unread_limits` limits the bytes that are fetched while nobody reads. Unfinished fetches are
    removed after `idle_seconds` seconds. `remove_other_idle`, on any thread, does the same for
    other files that take up the same space, and returns the bytes freed. `report_failure` is called
    with each error that prevents a blob from being fetched for all readers. `connections` is the
    most that one fetch has. Readers begin fetches for `patience` seconds without a byte, by
    `clock`.
    """

    adopt: Callable[[CompleteBlob], None]
    make_room: Callable[[int], None]
    is_cached: Callable[[Digest], bool] = _is_never_cached
    remove_other_idle: Callable[[float], int] = _remove_nothing
    report_failure: Callable[[OSError], None] = _ignore_failure
    unread_limits: UnreadLimits = field(default_factory=UnreadLimits)
    idle_seconds: float = 24 * 3600.0
    connections: int = CONNECTIONS
    patience: float = 60.0
    clock: Callable[[], float] = time.monotonic
    observer: Observer = NOBODY


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """An answer that carries bytes of a blob, the lease of these bytes, and its connection."""

    connection: Connection
    lease: Lease
    rest: RemainingBody


class Room(Protocol):
    """The bounds of the machine that a fetch keeps to."""

    @property
    def unread(self) -> Slots:
        """The slots of fetches that nobody reads."""

    def take_connection(self) -> Callable[[], None] | None:
        """Return how to give back a further connection, or None if there is none."""

    def make(self, size: int) -> None:
        """Make room for `size` bytes on the disk; raise OSError."""


class SharedBlob:
    """A blob being fetched, with the fan of this process. `on_unused` is called by the last user.

    A user is a reader or the fan.
    """

    def __init__(
        self,
        blob: PartialBlob,
        options: TransferOptions,
        room: Room,
        on_unused: Callable[["SharedBlob"], None],
    ) -> None:
        self.blob = blob
        self.place = KnownPlace(blob)
        self._options = options
        self._room = room
        self._on_unused = on_unused
        self._lock = threading.Lock()
        self._users = 0
        self._fan: Fan | None = None
        self._watch: ReaderWatch | None = None
        self._sources: dict[tuple[str, ...], BlobSource] = {}
        """The last of each client whose requests have brought bytes, in this process."""
        self._payer: Payer | None = None
        self._patience = Patience(options.patience, options.clock)
        self._refused: list[ChunkSource | None] = []
        """Those that the registry does not let read any more."""
        self._finishing = threading.Lock()

    def complete(self) -> None:
        """Hand a verified blob on if the process that verified it has ended before it did so."""
        if not self._add_user():
            return
        try:
            with suppress(OSError):
                if self.blob.verifier.claim():
                    self._adopt()
        finally:
            self._remove_user()

    def enter(self, payer: Payer | None) -> bool:
        """Add a reader; return False if the last user has just left. Raise OSError."""
        identity = payer.identity if payer else ""
        with self._lock:
            if self._users < 0:
                return False
            self.blob.readers.add(identity)
            self._users += 1
            self._patience.record_reader()
            if (
                self._payer is not None
                and payer is not None
                and self._payer.identity in {identity, NOBODYS}
            ):
                self._payer = payer  # the same client, whose new request pays now, or the first one
        return True

    def leave(self, payer: Payer | None) -> None:
        """Remove a reader."""
        with suppress(OSError):
            self.blob.readers.remove(payer.identity if payer else "")
        self._remove_user()

    def _add_user(self) -> bool:
        with self._lock:
            if self._users < 0:
                return False
            self._users += 1
        return True

    def _remove_user(self) -> None:
        with self._lock:
            self._users -= 1
            is_unused = not self._users
            if is_unused:
                self._users = -1  # nobody enters any more
        if is_unused:
            self._on_unused(self)
            self.blob.close()

    def fetch(
        self,
        source: BlobSource,
        wanted: Sequence[Span],
        *,
        whole: bool,
        first: FirstAnswer | None = None,
    ) -> None:
        """See to it that somebody fetches the first of the wanted bytes that are missing.

        `first` is an answer that is there already. `whole` says whether the rest of the blob is
        fetched too. Do nothing during a pause after a fetch that has failed. Raise OSError if the
        files fail, and BodyBroken if fetches have brought nothing for too long.
        """
        if self._fan is not None and self._use(self._fan, source, wanted, first, whole=whole):
            return
        if first is None and self.blob.is_complete:
            # Other processes may have brought all bytes, and this one verifies them.
            self._keep_source(source)
            self._finish()
            return
        if whole:
            wanted = [*wanted, (0, self.blob.size)]
        if first is None and self._patience.is_pausing():
            return
        lease = first.lease if first else self._acquire_lease(wanted)
        if lease is None:
            return  # another process fetches them
        with ExitStack() as stack:
            stack.callback(lease.close)
            if first is None:
                self._patience.check(is_refused=any(one is source for one in self._refused))
            self._make_room(self._count_missing() if whole else lease.remaining, first)
            self._start_fan(source, lease, first, whole=whole)
            stack.pop_all()

    def _use(
        self,
        fan: Fan,
        source: BlobSource,
        wanted: Sequence[Span],
        first: FirstAnswer | None,
        *,
        whole: bool,
    ) -> bool:
        """Let a running fan fetch; return False if it has ended."""
        if whole and not fan.is_whole:
            self._make_room(self._count_missing(), first)
            fan.fetch_whole()
            if self._watch is not None:
                self._watch.raise_limit(self._options.unread_limits.whole)
        if first is None:
            try:
                return fan.help(source, wanted)
            except OSError as error:
                self._report(error)
                raise
        if not fan.adopt(source, first.lease, first.rest, first.connection):
            return False
        self._keep_source(source)
        return True

    def _keep_source(self, source: BlobSource) -> None:
        """Remember who is to take note once the blob is verified."""
        if source.key is not None:
            self._sources[source.key] = source

    def _make_room(self, size: int, first: FirstAnswer | None) -> None:
        try:
            self._room.make(size)
        except OSError as error:
            if first is None:  # whoever has asked the registry reports it
                self._report(error)
            if self._count_missing() == self.blob.size:  # the files are of no use
                with suppress(OSError):
                    self.blob.discard(FetchState.GIVEN_UP)
            raise

    def _count_missing(self) -> int:
        return self.blob.size - self.blob.count_arrived()

    def _acquire_lease(self, wanted: Sequence[Span]) -> Lease | None:
        unattended = [span for span in wanted if self.blob.needs_fetcher(span)]
        return self.blob.acquire_lease(unattended, FIRST_LEASE)

    def _start_fan(
        self, source: BlobSource, lease: Lease, first: FirstAnswer | None, *, whole: bool
    ) -> None:
        limits = self._options.unread_limits
        with self._lock:
            self._users += 1
        if self._payer is None or source.payer is None or source.payer.identity != NOBODYS:
            self._payer = source.payer
        self._patience.record_start(self.blob.count_arrived())
        self._keep_source(source)
        watch = self._watch = ReaderWatch(
            self.blob.digest,
            self.blob.readers,
            self._room.unread,
            limit=limits.whole if whole else limits.part,
            payer=lambda: self._payer,
        )
        fan = self._fan = Fan(
            self.blob,
            watch=watch,
            most=self._options.connections,
            take_slot=self._room.take_connection,
            make_room=self._room.make,
            whole=whole,
            on_end=self._end_fan,
            clock=self._options.clock,
            observer=self._options.observer,
        )
        if first is None:
            fan.start(source, lease)
        else:
            fan.start(source, lease, first.rest, first.connection)

    def _end_fan(self, fan: Fan, failure: BaseException | None) -> None:
        try:
            if self.blob.is_complete:
                self._finish()
            elif isinstance(failure, OSError) and not isinstance(failure, BodyBroken):
                self._give_up(failure)
            else:
                self._record_end(fan, failure)
        except OSError as error:
            self._give_up(error)
        finally:
            if self._fan is fan:
                self._fan = None
            self._remove_user()

    def _record_end(self, fan: Fan, failure: BaseException | None) -> None:
        self._patience.record_end(
            failure, arrived=self.blob.count_arrived(), received_at=fan.received_at
        )
        if failure is not None:
            if is_final(failure):
                self._refused.append(fan.failed_source)
            fields = {"digest": str(self.blob.digest), "error": str(failure)}
            logger.warning("Fetch interrupted; the next one resumes it.", extra={"fields": fields})

    def _give_up(self, error: OSError) -> None:
        self._report(error)
        with suppress(OSError):
            self.blob.discard(FetchState.GIVEN_UP)

    def _report(self, error: OSError) -> None:
        self._options.report_failure(error)
        fields = {"digest": str(self.blob.digest), "error": str(error)}
        logger.warning(
            "Blob cannot be cached; its download continues without the cache.",
            extra={"fields": fields},
        )

    def _finish(self) -> None:
        """Verify a blob all of whose bytes are there, and hand it on; raise OSError."""
        if not self._finishing.acquire(blocking=False):
            return  # another reader or the fan does it
        try:
            if not self.blob.verifier.claim():
                return  # another process does it
            if not self.blob.verifier.advance() or self.blob.read_state() is not FetchState.RUNNING:
                return
            if not self.blob.verifier.matches():
                self._reject()
                return
            for source in list(self._sources.values()):
                source.record_verified()
            self.blob.record(FetchState.VERIFIED)
            self._adopt()
        finally:
            self._finishing.release()

    def _reject(self) -> None:
        """Throw away a blob whose bytes are wrong; the next fetch of it is in a single stream."""
        fields = {"digest": str(self.blob.digest), "single_stream": self.blob.is_single}
        logger.error("Blob digest mismatch.", extra={"fields": fields})
        self.blob.discard(FetchState.MISMATCHED, fetch_single=not self.blob.is_single)

    def _adopt(self) -> None:
        with suppress(OSError):
            if self.blob.run_on_thread(self.blob.has_same_files):
                complete = CompleteBlob(
                    path=self.blob.paths.data, digest=self.blob.digest, size=self.blob.size
                )
                with suppress(OSError):
                    self._options.adopt(complete)
            self.blob.remove()
