"""The fan: the connections over which the chunks of a blob come.

It begins with the answer to one request. A connection is added for each reader who waits for bytes
that nobody fetches, and others while they make the whole faster. Each leases the bytes that are
needed next, asks for them, writes them, and goes on with the next lease until nothing is left.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from app.events import NOBODY, Event, Observer, keep_request_id
from app.oci.errors import RegistryError
from app.source import BodyBroken
from app.transfer.allowance import Allowance
from app.transfer.chunk_map import CHUNK, FetchState
from app.transfer.connections import (
    ChunkSource,
    Connection,
    FanWatch,
    Growth,
    NoMoreConnections,
    RangesIgnored,
    Stalls,
)
from app.transfer.lease import Lease, Span
from app.transfer.partial_blob import PartialBlob
from app.transfer.rest import RemainingBody

RANGES: Final = 64
"""The most requests for parts of a blob, if none of them fails: leases grow with its size."""

AHEAD: Final = 256 * 1024 * 1024
"""Bytes ahead of a reader that further connections fetch. The first one goes on as it can."""

FIRST_LEASE: Final = 4 * 1024 * 1024
"""The least bytes that the first answer brings before another connection goes on behind it."""

_TICK: Final = 0.15
"""Seconds between two looks at how fast the bytes come."""
_LEASE_SECONDS: Final = 1.0
"""For how long a connection should be busy with one request: longer than it waits for it."""


class Fan:
    """The fetch of one blob by this process, from its first answer until nothing more is wanted.

    `most` connections are open at the same time, and each of the further ones needs a slot from
    `take_slot`, which returns how to give it back, or None if there is none. `whole` says whether
    the rest is fetched too once no reader needs anything; if not, `make_room` makes room on the
    disk for what follows the first lease, and may raise OSError. `on_end` is called once, by the
    last connection, with the fan and the error that ended the fetch, or None.
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        blob: PartialBlob,
        *,
        watch: FanWatch,
        most: int,
        take_slot: Callable[[], Callable[[], None] | None],
        make_room: Callable[[int], None],
        whole: bool,
        on_end: Callable[["Fan", BaseException | None], None],
        clock: Callable[[], float] = time.monotonic,
        observer: Observer = NOBODY,
    ) -> None:
        self._blob = blob
        self._watch = watch
        self._most = 1 if blob.is_single else most
        self._take_slot = take_slot
        self._allowance = Allowance(make_room, blob.size)
        self._whole = whole
        self._on_end = on_end
        self._observer = observer
        self._lock = threading.Lock()
        self._connections: list[Connection] = []
        self._failure: BaseException | None = None
        self._source: ChunkSource | None = None
        self.failed_source: ChunkSource | None = None
        """Whose request was the last one to fail."""
        self.received = 0
        """Bytes that have arrived over all connections."""
        self._clock = clock
        self.received_at = clock()
        """When the last bytes arrived, or the fetch began, by `clock`."""
        self._stalls = Stalls()
        self._ended = threading.Event()

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._connections)

    def start(
        self,
        source: ChunkSource,
        lease: Lease,
        rest: RemainingBody | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Begin with a lease.

        If there is an answer that carries its bytes already, `rest` is that answer, and
        `connection` the client of its request.
        """
        self._source = source
        first = connection or Connection()
        first.is_first = True
        self._spawn(first, lambda connection: self._run(connection, source, lease, rest))
        threading.Thread(target=keep_request_id(self._steer), name="fan", daemon=True).start()

    def adopt(
        self, source: ChunkSource, lease: Lease, rest: RemainingBody, connection: Connection
    ) -> bool:
        """Go on with an answer that carries bytes already; return False if the fan has ended.

        Raise OSError if there is no room for them.
        """
        self._take_room(lease.remaining)
        return self._spawn(connection, lambda one: self._run(one, source, lease, rest))

    def help(self, source: ChunkSource, wanted: Sequence[Span]) -> bool:
        """Fetch the first missing bytes that are wanted, if nobody does.

        Return False if the fan has ended, so that another one must be started. Do nothing if no
        more connections are allowed. Raise OSError.
        """
        if self._ended.is_set():
            return False
        unattended = [span for span in wanted if self._blob.needs_fetcher(span)]
        return not unattended or self._add(source, unattended)

    def _add(self, source: ChunkSource, wanted: Sequence[Span]) -> bool:
        """Fetch the first missing bytes that nobody fetches; return False if the fan has ended."""
        if self.connections >= self._most:
            return True
        # The slot comes first: while it is waited for, no other connection may lack the lease.
        release = self._take_slot()
        if release is None:
            return True
        with ExitStack() as stack:
            stack.callback(release)
            lease = self._acquire_lease(wanted)
            if lease is None:
                return True
            stack.callback(lease.close)
            holding = stack.pop_all()

        def run(connection: Connection) -> None:
            with holding:
                self._run(connection, source, lease, None)

        is_running = self._spawn(Connection(), run)
        if not is_running:
            holding.close()
        return is_running

    @property
    def is_whole(self) -> bool:
        """Whether the rest is fetched too once no reader needs anything."""
        return self._whole

    def fetch_whole(self) -> None:
        """Fetch the rest of the blob too."""
        self._whole = True

    def stop(self) -> None:
        """End all connections at once; what has arrived stays."""
        for connection in list(self._connections):
            connection.is_cancelled = True

    # One connection.

    def _spawn(self, connection: Connection, run: Callable[[Connection], None]) -> bool:
        with self._lock:
            if self._ended.is_set():
                return False
            self._connections.append(connection)
        self._observer.observe(Event.FETCH_OPENED)

        def work() -> None:
            failure: BaseException | None = None
            try:
                run(connection)
            except (OSError, RegistryError) as error:
                failure = error
            except BaseException as error:
                self._leave(connection, error)
                raise
            self._leave(connection, failure)

        name = f"blob {self._blob.digest}"
        threading.Thread(target=keep_request_id(work), name=name, daemon=True).start()
        return True

    def _leave(self, connection: Connection, error: BaseException | None) -> None:
        self._report(connection, error)
        with self._lock:
            self._connections.remove(connection)
            # What one connection could not bring, another may have brought meanwhile.
            self._failure = error if error is not None else self._failure
            is_last = not self._connections
            if is_last:
                self._ended.set()
        if is_last:
            self._release_verification()
            with suppress(OSError):
                self._watch.close()
            self._on_end(self, self._failure)
        self._blob.wake()

    def _report(self, connection: Connection, error: BaseException | None) -> None:
        if error is not None:
            connection.outcome = "failed"
        elif connection.is_dismissed:
            connection.outcome = "dismissed"
        self._observer.observe(Event.FETCH_CLOSED, connection.outcome)
        which = "first" if connection.is_first else "added"
        self._observer.observe(Event.FETCH_RECEIVED, which, connection.received)

    def _run(
        self,
        connection: Connection,
        source: ChunkSource,
        lease: Lease,
        rest: RemainingBody | None,
    ) -> None:
        """Fetch one lease after the other; what is left of one that stalls is leased again."""
        while True:
            try:
                with ExitStack() as stack:
                    stack.callback(lease.close)
                    if rest is None:
                        connection.begin_request()
                        rest = self._request(connection, source, lease)
                        if rest is None:
                            return
                    stack.callback(rest.close)
                    self._fill(connection, lease, rest)
            except (BodyBroken, RegistryError):
                if not connection.is_gone():
                    raise
            if connection.is_dismissed or connection.is_cancelled:
                return
            wanted = self._list_wanted(at_any_distance=connection.is_first)
            following = self._acquire_lease(wanted)
            if following is None:
                return
            lease, rest = following, None

    def _request(
        self, connection: Connection, source: ChunkSource, lease: Lease
    ) -> RemainingBody | None:
        """Ask for the bytes of a lease; return None if the others are to go on without this one."""
        is_alone = self.connections == 1
        end = lease.end
        if is_alone:  # one request for all of it; the answer is read as far as it is wanted
            end = self._blob.find_missing_end(end, self._find_wanted_end(end, AHEAD))
        try:
            return source.fetch_part((lease.position, end), connection, alone=is_alone)
        except NoMoreConnections:
            self._most = max(1, self.connections - 1)
            connection.outcome = "refused"
        except RangesIgnored:
            self._most = 1
            connection.outcome = "ignored"
        except (RegistryError, BodyBroken):
            self.failed_source = source
            raise
        return None

    def _fill(self, connection: Connection, lease: Lease, rest: RemainingBody) -> None:
        """Write the bytes of a lease as they arrive, and of following ones if the answer has them.

        Raise BodyBroken if they end too early.
        """
        writer = self._blob.build_writer(lease)
        offset = lease.position
        try:
            for count, data in rest.iterate_arrivals():
                self._record_received(connection, count)
                for piece in self._split(data, lease, offset):
                    writer.write(piece)
                    offset += len(piece)
                if offset == rest.end or (offset == lease.end and not self._extend(lease)):
                    break
                if not self._watch.may_continue():
                    self.stop()
                    return
            writer.flush()
            if offset < min(lease.end, rest.end or lease.end):
                message = "the registry sent too little"
                raise BodyBroken(message)
        finally:
            with suppress(OSError):
                writer.flush()

    def _split(self, data: bytes, lease: Lease, offset: int) -> Iterator[bytes]:
        """Yield what the lease covers of `data`, and extend the lease while that is possible."""
        while data:
            if offset == lease.end and not self._extend(lease):
                return
            piece, data = data[: lease.end - offset], data[lease.end - offset :]
            yield piece
            offset += len(piece)

    def _extend(self, lease: Lease) -> bool:
        if self.connections == 1 and self._blob.is_needed_elsewhere(lease.end, AHEAD):
            return False
        if self._find_wanted_end(lease.end, self._blob.size) <= lease.end or not lease.extend():
            return False
        self._take_room(CHUNK)
        return True

    def _find_wanted_end(self, offset: int, ahead: int) -> int:
        return self._blob.size if self._whole else self._blob.find_needed_end(offset, ahead)

    def _record_received(self, connection: Connection, count: int) -> None:
        if (seconds := connection.record_received(count)) is not None:
            self._stalls.record_chunk(seconds)
        self.received += count
        self.received_at = self._clock()
        self._watch.record_received(count)

    # What to fetch next, and over how many connections.

    def _list_wanted(self, *, at_any_distance: bool = False) -> Sequence[Span]:
        needs = self._blob.list_needs(AHEAD)
        return [*needs, (0, self._blob.size)] if self._whole and at_any_distance else needs

    def _acquire_lease(self, wanted: Sequence[Span]) -> Lease | None:
        """Return a lease of the first bytes that nobody fetches, with room; raise OSError."""
        lease = self._blob.acquire_lease(wanted, self._choose_length())
        if lease is not None:
            with ExitStack() as stack:
                stack.callback(lease.close)
                self._take_room(lease.remaining)
                stack.pop_all()
        return lease

    def _take_room(self, count: int) -> None:
        if not self._whole:  # for the whole, room is made at once
            self._allowance.take(count)

    def _choose_length(self) -> int:
        """Return how many bytes one request asks for."""
        least = max(CHUNK, -(-self._blob.size // RANGES))
        seconds = self._stalls.compute_usual()
        usual = _LEASE_SECONDS * CHUNK / seconds if seconds else 0
        missing = self._blob.size - self._blob.count_arrived()
        return int(max(least, min(usual, missing / max(1, self.connections))))

    def _steer(self) -> None:
        """Add connections while that helps, end those that stall, and hash what has arrived.

        End all of them if the file is of no more use, as another process may find.
        """
        growth = Growth()
        while not self._ended.wait(_TICK):
            connections = list(self._connections)
            if all(connection.received for connection in connections):
                count = growth.decide(self.received, len(connections), self._most)
                for _ in range(count - len(connections)):
                    self._add_wanted()
                for connection in connections[count:]:
                    connection.is_dismissed = True
            else:
                growth.skip()
            self._stalls.end_stalled(connections)
            with suppress(OSError):  # whoever reads meets it too
                if self._blob.read_state() is not FetchState.RUNNING:
                    self.stop()
                if not self._ended.is_set() and self._blob.verifier.claim():
                    self._blob.verifier.advance()

    def _release_verification(self) -> None:
        """Let a process verify the blob that still fetches it."""
        with suppress(OSError):
            if not self._blob.is_complete:
                self._blob.verifier.release()

    def _add_wanted(self) -> None:
        with suppress(OSError):  # the connections that there are meet it too
            if self._source is not None:
                self._add(self._source, self._list_wanted())
