"""Counts what happens in this process, and shows it to the other workers on the board.

`EventCounter`, an `Observer`, has the events of one registry's source; `RequestCounter`, a
`Watcher`, has the requests of clients and the downloads under way.
"""

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Final

from app.events import Budget, Download, Event, Exchange
from app.metrics.board import SERIES, WorkerSlot
from app.metrics.meters import Meters
from app.metrics.multiprocess import Add, Write, build_counter_adder, build_histogram_adder

REGISTRY: Final = "registry"
BUDGET: Final = "budget"
FETCHES: Final = "fetches"
"""The kind of row with the number of connections over which the cache fetches from a registry."""

OPEN, ANSWERED, FAILED = range(3)
"""The numbers in the row of a registry: hosts whose circuit breaker is open, and the wall-clock
times, in seconds, of its last answer and its last failure."""
REMAINING, LIMIT, TOLD = range(3)
"""The numbers in the row of an identity: pulls that remain, the limit, and the wall-clock time, in
seconds, at which the registry reported them."""

_MAX_IDENTITIES: Final = 16
"""The maximum number of a registry's identities that a worker shows. Another one replaces the
oldest."""

_RECEIVED_SERIES: Final = SERIES.index("bytes_received")
_HITS_SERIES: Final = SERIES.index("hits")
_MISSES_SERIES: Final = SERIES.index("misses")
_ERRORS_SERIES: Final = SERIES.index("errors")

DOWNLOAD: Final = "download"
DOWNLOADS: Final = "downloads"
"""The kind of row with the number of a registry's downloads, since rows for each may run out."""
SENT, TOTAL, BEGAN = range(3)
"""The numbers in the row of a download: bytes sent, bytes in all or -1 if that is unknown, and the
wall-clock time at which it began, in seconds."""

_SENT_SERIES: Final = SERIES.index("bytes_sent")
_REQUESTS_SERIES: Final = SERIES.index("requests")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MAX_TEXT: Final = 160

_REPORT_BYTES: Final = 1024 * 1024
_REPORT_SECONDS: Final = 0.5
"""Bytes, and seconds, after which a download adds its progress to the counters."""


class EventCounter:
    """Counts the events of one registry's source in this process and keeps its board rows."""

    def __init__(self, registry: str, meters: Meters, slot: WorkerSlot) -> None:
        self._registry = registry
        self._meters = meters
        self._slot = slot
        self._row = slot.acquire_row(REGISTRY, {"registry": registry})
        self._fetches_row = slot.acquire_row(FETCHES, {"registry": registry})
        self._identities: dict[str, int] = {}
        self._add_received = build_counter_adder(meters.received_bytes, registry)
        self._answer_seconds = build_histogram_adder(meters.upstream_answer_seconds, registry)
        # Finding a series by its labels takes longer than adding to it.
        self._answers, self._results = (
            cache(partial(build_counter_adder, meter, registry))
            for meter in (meters.upstream_answers, meters.cache_answers)
        )
        meters_by_event = {
            Event.REQUEST_SENT: meters.upstream_requests, Event.RETRIED: meters.retries,
            Event.RESUMED: meters.resumes, Event.PULL_SPENT: meters.pulls_spent,
            Event.PULL_SAVED: meters.pulls_saved,
        }  # fmt: skip
        self._counters = {
            event: build_counter_adder(meter, registry) for event, meter in meters_by_event.items()
        }
        self._handlers: dict[Event, Callable[[str, float], None]] = {
            Event.BODY_RECEIVED: self._record_received,
            Event.RESPONSE_RECEIVED: self._record_answer,
            Event.REQUEST_FAILED: self._record_failure,
            Event.TOKEN_RESPONSE: self._record_token_answer,
            Event.CACHE_OUTCOME: self._record_cache_result,
            Event.FETCH_OPENED: partial(self._record_fetch_change, 1.0),
            Event.FETCH_CLOSED: self._record_fetch_end,
            Event.FETCH_RECEIVED: self._record_fetched,
            Event.HEAD_START: self._record_head_start,
            Event.CIRCUIT_OPENED: partial(self._record_breaker_change, 1.0),
            Event.CIRCUIT_CLOSED: partial(self._record_breaker_change, -1.0),
        }

    def observe(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Count an event; `Event` defines what `about` and `amount` mean for each.

        Events that belong to no registry go to `Metrics.observe` instead.
        """
        if (add := self._counters.get(event)) is not None:
            add(amount)
        else:
            self._handlers[event](about, amount)

    def record_budget(self, budget: Budget) -> None:
        """Publish on the board how many pulls an identity has left, with the current time."""
        row = self._identities.get(budget.identity)
        if row is None:
            row = self._acquire_identity_row(budget)
        if row is not None:
            self._slot.write(row, REMAINING, budget.remaining)
            self._slot.write(row, LIMIT, budget.limit)
            self._slot.write(row, TOLD, time.time())

    def _acquire_identity_row(self, budget: Budget) -> int | None:
        if len(self._identities) >= _MAX_IDENTITIES:
            self._slot.release_row(self._identities.pop(next(iter(self._identities))))
        labels = {
            "registry": self._registry,
            "identity": budget.identity,
            "window": budget.window,
        }
        row = self._slot.acquire_row(BUDGET, labels)
        if row is not None:
            self._identities[budget.identity] = row
        return row

    def _record_received(self, _: str, amount: float) -> None:
        self._add_received(amount)
        self._slot.add(_RECEIVED_SERIES, amount)

    def _record_answer(self, status: str, seconds: float) -> None:
        self._answers(f"{status[:1]}xx")(1)
        self._answer_seconds(seconds)
        self._record_contact(ANSWERED)

    def _record_failure(self, error: str, _: float) -> None:
        self._meters.upstream_errors.labels(self._registry, error).inc()
        self._slot.add(_ERRORS_SERIES, 1)
        self._record_contact(FAILED)

    def _record_contact(self, index: int) -> None:
        if self._row is not None:
            self._slot.write(self._row, index, time.time())

    def _record_token_answer(self, status: str, _: float) -> None:
        self._meters.token_answers.labels(self._registry, f"{status[:1]}xx").inc()

    def _record_cache_result(self, result: str, _: float) -> None:
        self._results(result)(1)
        self._slot.add(_MISSES_SERIES if result == "miss" else _HITS_SERIES, 1)

    def _record_fetch_change(self, change: float, _: str, __: float) -> None:
        if self._fetches_row is not None:
            current = self._slot.read(self._fetches_row, 0)
            self._slot.write(self._fetches_row, 0, current + change)

    def _record_fetch_end(self, outcome: str, amount: float) -> None:
        self._record_fetch_change(-1.0, outcome, amount)
        self._meters.fetch_connections.labels(self._registry, outcome).inc()

    def _record_fetched(self, connection: str, amount: float) -> None:
        self._meters.fetch_bytes.labels(self._registry, connection).inc(amount)

    def _record_head_start(self, result: str, _: float) -> None:
        self._meters.head_starts.labels(self._registry, result).inc()

    def _record_breaker_change(self, change: float, _: str, __: float) -> None:
        if self._row is not None:
            self._slot.write(self._row, OPEN, self._slot.read(self._row, OPEN) + change)


class RequestCounter:
    """Counts the exchanges of this process, and shows its downloads on the board."""

    def __init__(self, meters: Meters, slot: WorkerSlot) -> None:
        self._meters = meters
        self._slot = slot
        self._pending_writes: list[Write] = []
        """Pending writes of counters, done once for a batch of exchanges or a piece of a body."""
        self._counters: dict[tuple[str, str, str, str], tuple[Add, Add, Add]] = {}
        # Finding a series by its labels takes longer than adding to it.
        self._timers = cache(self._create_timers)
        self._cache_bytes = cache(
            partial(build_counter_adder, meters.cache_bytes, pending=self._pending_writes)
        )
        self._sent_bytes = cache(
            partial(build_counter_adder, meters.sent_bytes, pending=self._pending_writes)
        )
        self._refusals = cache(
            partial(build_counter_adder, meters.refusals, pending=self._pending_writes)
        )
        self._active_downloads = cache(partial(_ActiveDownloads, slot))

    def reserve_row(self, registry: str) -> None:
        """Reserve the row for the number of a registry's downloads before other rows take it."""
        self._active_downloads(registry)

    def begin_download(self, exchange: Exchange, length: int | None) -> Download:
        """Show a body under way on the board, and return the `Download` that reports its progress.

        `length` is in bytes, or `None` if it is unknown.
        """
        exchange.is_progress_counted = True
        labels = {
            "registry": exchange.registry,
            "repository": exchange.repository[:_MAX_TEXT],
            "reference": exchange.reference[:_MAX_TEXT],
            "route": exchange.route,
            "cache": exchange.cache_outcome,
        }
        row = self._slot.acquire_row(DOWNLOAD, labels)
        if row is not None:
            self._slot.write(row, TOTAL, -1.0 if length is None else length)
            self._slot.write(row, BEGAN, time.time() - exchange.seconds_elapsed())
        self._active_downloads(exchange.registry).add(1)
        return _TrackedDownload(self, self._slot, row, exchange.registry)

    def record_end(self, exchanges: Sequence[Exchange]) -> None:
        """Count exchanges that have ended."""
        request_count = sent_bytes = 0
        for exchange in exchanges:
            method = exchange.method if exchange.method in _METHODS else "other"
            route, registry = exchange.route, exchange.registry
            key = (route, method, f"{exchange.status // 100}xx", registry)
            add_request, add_first_byte, add_total = self._counters.get(
                key
            ) or self._create_counters(key)
            add_request(1)
            add_first_byte(exchange.time_to_first_byte)
            add_total(exchange.duration)
            if exchange.refused_by:
                self._refusals(exchange.refused_by)(1)
            if exchange.cache_outcome:
                self._cache_bytes(registry, exchange.cache_outcome)(exchange.bytes_sent)
            if exchange.bytes_sent and not exchange.is_progress_counted:
                self._sent_bytes(registry)(exchange.bytes_sent)
                if registry:
                    sent_bytes += exchange.bytes_sent
            if registry:  # the page leaves out its own requests
                request_count += 1
        self._slot.add(_REQUESTS_SERIES, request_count)
        self._slot.add(_SENT_SERIES, sent_bytes)
        self._flush()

    def record_sent(self, registry: str, count: int) -> None:
        """Count `count` more bytes of a body under way."""
        self._sent_bytes(registry)(count)
        self._slot.add(_SENT_SERIES, count)
        self._flush()

    def record_download_end(self, registry: str) -> None:
        """Count one download of a registry less, because it has ended."""
        self._active_downloads(registry).add(-1)

    def _flush(self) -> None:
        while self._pending_writes:
            self._pending_writes.pop()()

    def _create_counters(self, key: tuple[str, str, str, str]) -> tuple[Add, Add, Add]:
        """Return the functions that count an exchange: requests, first byte and total time.

        `key` is the route, the method, the class of the status and the registry.
        """
        route, _, _, registry = key
        requests = build_counter_adder(self._meters.requests, *key, pending=self._pending_writes)
        adders = (requests, *self._timers(route, registry))
        self._counters[key] = adders
        return adders

    def _create_timers(self, route: str, registry: str) -> tuple[Add, Add]:
        meters, pending = self._meters, self._pending_writes
        add_first_byte = build_histogram_adder(
            meters.first_byte_seconds, route, registry, pending=pending
        )
        return add_first_byte, build_histogram_adder(
            meters.request_seconds, route, registry, pending=pending
        )


class _ActiveDownloads:
    """The number of bodies from a registry that are under way, in a row of the board."""

    def __init__(self, slot: WorkerSlot, registry: str) -> None:
        self._slot = slot
        self._row = slot.acquire_row(DOWNLOADS, {"registry": registry})
        self._count = 0

    def add(self, change: int) -> None:
        """Add `change` to the number; it may be negative."""
        self._count += change
        if self._row is not None:
            self._slot.write(self._row, 0, self._count)


class _TrackedDownload:
    """A body under way, which is added to the counters every MiB or twice a second.

    The board gets its progress at once: otherwise a stalled download would show too few bytes.
    """

    def __init__(
        self, request_counter: RequestCounter, slot: WorkerSlot, row: int | None, registry: str
    ) -> None:
        self._request_counter = request_counter
        self._slot = slot
        self._row = row
        self._registry = registry
        self._sent = 0
        self._reported = 0
        self._reported_at = 0.0
        self._is_over = False

    def record_sent(self, count: int) -> None:
        """Report that `count` more bytes were sent."""
        self._sent += count
        if self._row is not None:
            self._slot.write(self._row, SENT, self._sent)
        if (
            self._sent - self._reported >= _REPORT_BYTES
            or time.monotonic() - self._reported_at >= _REPORT_SECONDS
        ):
            self._report()

    def record_end(self) -> None:
        """Report that the body has ended; a second call does nothing."""
        if self._is_over:
            return
        self._is_over = True
        self._report()
        self._request_counter.record_download_end(self._registry)
        if self._row is not None:
            self._slot.release_row(self._row)

    def _report(self) -> None:
        if self._sent == self._reported:
            return
        self._request_counter.record_sent(self._registry, self._sent - self._reported)
        self._reported, self._reported_at = self._sent, time.monotonic()
