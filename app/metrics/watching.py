"""`Watching`, the `Watcher` that counts every exchange and shows the downloads under way."""

import time
from collections.abc import Sequence
from functools import cache, partial
from typing import Final

from app.events import Download, Exchange
from app.metrics.board import SERIES, Seat
from app.metrics.meters import Meters
from app.metrics.multiprocess import Add, Write, adding, observing

DOWNLOAD: Final = "download"
DOWNLOADS: Final = "downloads"
"""The kind of row with the number of a registry's downloads, since rows for each may run out."""
SENT, TOTAL, BEGAN = range(3)
"""The numbers in the row of a download: bytes sent, bytes in all or -1 if that is unknown, and the
wall-clock time at which it began, in seconds."""

_DOWN: Final = SERIES.index("bytes_down")
_REQUESTS: Final = SERIES.index("requests")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MOST_TEXT: Final = 160

_MUCH: Final = 1024 * 1024
_LONG: Final = 0.5
"""Bytes, and seconds, after which a download adds its progress to the counters."""


class Watching:
    """Counts the exchanges of this process, and shows its downloads on the board."""

    def __init__(self, meters: Meters, seat: Seat) -> None:
        self._meters = meters
        self._seat = seat
        self._later: list[Write] = []
        """Pending writes of counters, done once for a batch of exchanges or a piece of a body."""
        self._known: dict[tuple[str, str, str, str], tuple[Add, Add, Add]] = {}
        # Finding a series by its labels takes longer than adding to it.
        self._timed = cache(self._times)
        self._cached = cache(partial(adding, meters.cache_bytes, later=self._later))
        self._down = cache(partial(adding, meters.down, later=self._later))
        self._refused = cache(partial(adding, meters.refusals, later=self._later))
        self._crowd = cache(partial(_Crowd, seat))

    def expect(self, registry: str) -> None:
        """Reserve the row for the number of a registry's downloads before other rows take it."""
        self._crowd(registry)

    def begins(self, exchange: Exchange, length: int | None) -> Download:
        """Show a body under way on the board, and return the `Download` that reports its progress.

        `length` is in bytes, or `None` if it is unknown.
        """
        exchange.watched = True
        about = {
            "registry": exchange.registry,
            "repository": exchange.repository[:_MOST_TEXT],
            "reference": exchange.reference[:_MOST_TEXT],
            "route": exchange.route,
            "cache": exchange.cache,
        }
        row = self._seat.take_row(DOWNLOAD, about)
        if row is not None:
            self._seat.write(row, TOTAL, -1.0 if length is None else length)
            self._seat.write(row, BEGAN, time.time() - exchange.seconds())
        self._crowd(exchange.registry).grow(1)
        return _Moving(self, self._seat, row, exchange.registry)

    def ended(self, exchanges: Sequence[Exchange]) -> None:
        """Count exchanges that have ended."""
        asked = down = 0
        for exchange in exchanges:
            method = exchange.method if exchange.method in _METHODS else "other"
            route, registry = exchange.route, exchange.registry
            key = (route, method, f"{exchange.status // 100}xx", registry)
            requests, first, whole = self._known.get(key) or self._series(key)
            requests(1)
            first(exchange.first_byte)
            whole(exchange.took)
            if exchange.refused_by:
                self._refused(exchange.refused_by)(1)
            if exchange.cache:
                self._cached(registry, exchange.cache)(exchange.sent)
            if exchange.sent and not exchange.watched:
                self._down(registry)(exchange.sent)
                if registry:
                    down += exchange.sent
            if registry:  # the page leaves out its own requests
                asked += 1
        self._seat.add(_REQUESTS, asked)
        self._seat.add(_DOWN, down)
        self._write()

    def moved(self, registry: str, count: int) -> None:
        """Count `count` more bytes of a body under way."""
        self._down(registry)(count)
        self._seat.add(_DOWN, count)
        self._write()

    def over(self, registry: str) -> None:
        """Count one download of a registry less, because it has ended."""
        self._crowd(registry).grow(-1)

    def _write(self) -> None:
        while self._later:
            self._later.pop()()

    def _series(self, key: tuple[str, str, str, str]) -> tuple[Add, Add, Add]:
        """Return the functions that count an exchange: requests, first byte and total time.

        `key` is the route, the method, the class of the status and the registry.
        """
        route, _, _, registry = key
        requests = adding(self._meters.requests, *key, later=self._later)
        found = (requests, *self._timed(route, registry))
        self._known[key] = found
        return found

    def _times(self, route: str, registry: str) -> tuple[Add, Add]:
        meters, later = self._meters, self._later
        first = observing(meters.first_byte, route, registry, later=later)
        return first, observing(meters.seconds, route, registry, later=later)


class _Crowd:
    """The number of bodies from a registry that are under way, in a row of the board."""

    def __init__(self, seat: Seat, registry: str) -> None:
        self._seat = seat
        self._row = seat.take_row(DOWNLOADS, {"registry": registry})
        self._count = 0

    def grow(self, more: int) -> None:
        """Add `more` to the number; it may be negative."""
        self._count += more
        if self._row is not None:
            self._seat.write(self._row, 0, self._count)


class _Moving:
    """A body under way, which is added to the counters every MiB or twice a second.

    The board gets its progress at once: otherwise a stalled download would show too few bytes.
    """

    def __init__(self, watching: Watching, seat: Seat, row: int | None, registry: str) -> None:
        self._watching = watching
        self._seat = seat
        self._row = row
        self._registry = registry
        self._sent = 0
        self._told = 0
        self._told_at = 0.0
        self._is_over = False

    def moved(self, count: int) -> None:
        """Report that `count` more bytes were sent."""
        self._sent += count
        if self._row is not None:
            self._seat.write(self._row, SENT, self._sent)
        if self._sent - self._told >= _MUCH or time.monotonic() - self._told_at >= _LONG:
            self._tell()

    def ended(self) -> None:
        """Report that the body has ended; a second call does nothing."""
        if self._is_over:
            return
        self._is_over = True
        self._tell()
        self._watching.over(self._registry)
        if self._row is not None:
            self._seat.give_row(self._row)

    def _tell(self) -> None:
        if self._sent == self._told:
            return
        self._watching.moved(self._registry, self._sent - self._told)
        self._told, self._told_at = self._sent, time.monotonic()
