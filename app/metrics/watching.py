"""Watching(Watcher): every exchange is counted, and what is on its way is shown."""

import time
from functools import cache, partial
from typing import Final

from app.exchange import Download, Exchange
from app.metrics.board import SERIES, Seat
from app.metrics.meters import Meters
from app.metrics.tally import Add, adding, observing

DOWNLOAD: Final = "download"
SENT, TOTAL, BEGAN = range(3)
"""What stands in the row of a download; a total of -1 is not known."""

_DOWN: Final = SERIES.index("bytes_down")
_REQUESTS: Final = SERIES.index("requests")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MOST_TEXT: Final = 160


class Watching:
    """Counts the exchanges of this process."""

    def __init__(self, meters: Meters, seat: Seat) -> None:
        self._meters = meters
        self._seat = seat
        self._known: dict[tuple[str, str, str, str], tuple[Add, Add, Add]] = {}
        # To find a series by its labels takes longer than to add to it.
        self._timed = cache(self._times)
        self._cached = cache(partial(adding, meters.cache_bytes))
        self._down = cache(partial(adding, meters.down))

    def begins(self, exchange: Exchange, length: int | None) -> Download:
        """Show a body on its way."""
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
        return _Moving(self._seat, row, self._down(exchange.registry))

    def ended(self, exchange: Exchange) -> None:
        """Count an exchange that is over."""
        method = exchange.method if exchange.method in _METHODS else "other"
        status = f"{exchange.status // 100}xx"
        route, registry = exchange.route, exchange.registry
        key = (route, method, status, registry)
        series = self._known.get(key)
        requests, first, whole = series or self._series(key)
        requests(1)
        first(exchange.first_byte)
        whole(exchange.seconds())
        if exchange.cache:
            self._cached(registry, exchange.cache)(exchange.sent)
        if exchange.sent and not exchange.watched:
            self._down(registry)(exchange.sent)
            self._seat.add(_DOWN, exchange.sent)
        self._seat.add(_REQUESTS, 1)

    def _series(self, key: tuple[str, str, str, str]) -> tuple[Add, Add, Add]:
        """Return what an exchange adds to."""
        route, _, _, registry = key
        found = (adding(self._meters.requests, *key), *self._timed(route, registry))
        self._known[key] = found
        return found

    def _times(self, route: str, registry: str) -> tuple[Add, Add]:
        meters = self._meters
        return observing(meters.first_byte, route, registry), observing(
            meters.seconds, route, registry
        )


class _Moving:
    """A body on its way."""

    def __init__(self, seat: Seat, row: int | None, down: Add) -> None:
        self._seat = seat
        self._row = row
        self._down = down
        self._sent = 0

    def moved(self, count: int) -> None:
        """So many bytes more went."""
        self._sent += count
        self._down(count)
        self._seat.add(_DOWN, count)
        if self._row is not None:
            self._seat.write(self._row, SENT, self._sent)

    def ended(self) -> None:
        """No more will go."""
        if self._row is not None:
            self._seat.give_row(self._row)
            self._row = None
