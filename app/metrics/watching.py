"""`RequestCounter`, the `Watcher` that counts every exchange and shows the downloads under way."""

import time
from collections.abc import Sequence
from functools import cache, partial
from typing import Final

from app.events import Download, Exchange
from app.metrics.board import SERIES, WorkerSlot
from app.metrics.meters import Meters
from app.metrics.multiprocess import Add, Write, build_counter_adder, build_histogram_adder

DOWNLOAD: Final = "download"
DOWNLOADS: Final = "downloads"
"""The kind of row with the number of a registry's downloads, since rows for each may run out."""
SENT, TOTAL, BEGAN = range(3)
"""The numbers in the row of a download: bytes sent, bytes in all or -1 if that is unknown, and the
wall-clock time at which it began, in seconds."""

_DOWN: Final = SERIES.index("bytes_sent")
_REQUESTS: Final = SERIES.index("requests")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MOST_TEXT: Final = 160

_MUCH: Final = 1024 * 1024
_LONG: Final = 0.5
"""Bytes, and seconds, after which a download adds its progress to the counters."""


class RequestCounter:
    """Counts the exchanges of this process, and shows its downloads on the board."""

    def __init__(self, meters: Meters, seat: WorkerSlot) -> None:
        self._meters = meters
        self._slot = seat
        self._pending_writes: list[Write] = []
        """Pending writes of counters, done once for a batch of exchanges or a piece of a body."""
        self._counters: dict[tuple[str, str, str, str], tuple[Add, Add, Add]] = {}
        # Finding a series by its labels takes longer than adding to it.
        self._timers = cache(self._create_timers)
        self._cache_bytes = cache(
            partial(build_counter_adder, meters.cache_bytes, later=self._pending_writes)
        )
        self._sent_bytes = cache(
            partial(build_counter_adder, meters.sent_bytes, later=self._pending_writes)
        )
        self._refusals = cache(
            partial(build_counter_adder, meters.refusals, later=self._pending_writes)
        )
        self._active_downloads = cache(partial(_ActiveDownloads, seat))

    def reserve_row(self, registry: str) -> None:
        """Reserve the row for the number of a registry's downloads before other rows take it."""
        self._active_downloads(registry)

    def begin_download(self, exchange: Exchange, length: int | None) -> Download:
        """Show a body under way on the board, and return the `Download` that reports its progress.

        `length` is in bytes, or `None` if it is unknown.
        """
        exchange.is_progress_counted = True
        about = {
            "registry": exchange.registry,
            "repository": exchange.repository[:_MOST_TEXT],
            "reference": exchange.reference[:_MOST_TEXT],
            "route": exchange.route,
            "cache": exchange.cache_outcome,
        }
        row = self._slot.acquire_row(DOWNLOAD, about)
        if row is not None:
            self._slot.write(row, TOTAL, -1.0 if length is None else length)
            self._slot.write(row, BEGAN, time.time() - exchange.seconds_elapsed())
        self._active_downloads(exchange.registry).add(1)
        return _TrackedDownload(self, self._slot, row, exchange.registry)

    def record_end(self, exchanges: Sequence[Exchange]) -> None:
        """Count exchanges that have ended."""
        asked = down = 0
        for exchange in exchanges:
            method = exchange.method if exchange.method in _METHODS else "other"
            route, registry = exchange.route, exchange.registry
            key = (route, method, f"{exchange.status // 100}xx", registry)
            requests, first, whole = self._counters.get(key) or self._create_counters(key)
            requests(1)
            first(exchange.time_to_first_byte)
            whole(exchange.duration)
            if exchange.refused_by:
                self._refusals(exchange.refused_by)(1)
            if exchange.cache_outcome:
                self._cache_bytes(registry, exchange.cache_outcome)(exchange.bytes_sent)
            if exchange.bytes_sent and not exchange.is_progress_counted:
                self._sent_bytes(registry)(exchange.bytes_sent)
                if registry:
                    down += exchange.bytes_sent
            if registry:  # the page leaves out its own requests
                asked += 1
        self._slot.add(_REQUESTS, asked)
        self._slot.add(_DOWN, down)
        self._flush()

    def record_sent(self, registry: str, count: int) -> None:
        """Count `count` more bytes of a body under way."""
        self._sent_bytes(registry)(count)
        self._slot.add(_DOWN, count)
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
        requests = build_counter_adder(self._meters.requests, *key, later=self._pending_writes)
        found = (requests, *self._timers(route, registry))
        self._counters[key] = found
        return found

    def _create_timers(self, route: str, registry: str) -> tuple[Add, Add]:
        meters, later = self._meters, self._pending_writes
        first = build_histogram_adder(meters.first_byte_seconds, route, registry, later=later)
        return first, build_histogram_adder(meters.request_seconds, route, registry, later=later)


class _ActiveDownloads:
    """The number of bodies from a registry that are under way, in a row of the board."""

    def __init__(self, seat: WorkerSlot, registry: str) -> None:
        self._slot = seat
        self._row = seat.acquire_row(DOWNLOADS, {"registry": registry})
        self._count = 0

    def add(self, more: int) -> None:
        """Add `more` to the number; it may be negative."""
        self._count += more
        if self._row is not None:
            self._slot.write(self._row, 0, self._count)


class _TrackedDownload:
    """A body under way, which is added to the counters every MiB or twice a second.

    The board gets its progress at once: otherwise a stalled download would show too few bytes.
    """

    def __init__(
        self, watching: RequestCounter, seat: WorkerSlot, row: int | None, registry: str
    ) -> None:
        self._request_counter = watching
        self._slot = seat
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
        if self._sent - self._reported >= _MUCH or time.monotonic() - self._reported_at >= _LONG:
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
