"""Watching(Watcher): every exchange is counted, and what is on its way is shown."""

import time
from typing import Any, Final

from prometheus_client import Counter

from app.exchange import Download, Exchange
from app.metrics.board import SERIES, Seat
from app.metrics.meters import Meters

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
        self._known: dict[tuple[str, ...], Any] = {}

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
        return _Moving(self._seat, row, self._meters.down.labels(exchange.registry))

    def ended(self, exchange: Exchange) -> None:
        """Count an exchange that is over."""
        method = exchange.method if exchange.method in _METHODS else "other"
        status = f"{exchange.status // 100}xx"
        route, registry = exchange.route, exchange.registry
        requests, first, whole = self._series(route, method, status, registry)
        requests.inc()
        first.observe(exchange.first_byte)
        whole.observe(exchange.seconds())
        if exchange.cache:
            self._meters.cache_bytes.labels(registry, exchange.cache).inc(exchange.sent)
        if exchange.sent and not exchange.watched:
            self._meters.down.labels(registry).inc(exchange.sent)
            self._seat.add(_DOWN, exchange.sent)
        self._seat.add(_REQUESTS, 1)

    def _series(self, route: str, method: str, status: str, registry: str) -> Any:  # noqa: ANN401 - three kinds
        """Return what an exchange adds to; `labels` takes as long as all else."""
        key = (route, method, status, registry)
        if (known := self._known.get(key)) is None:
            meters = self._meters
            known = self._known[key] = (
                meters.requests.labels(*key),
                meters.first_byte.labels(route, registry),
                meters.seconds.labels(route, registry),
            )
        return known


class _Moving:
    """A body on its way."""

    def __init__(self, seat: Seat, row: int | None, down: Counter) -> None:
        self._seat = seat
        self._row = row
        self._down = down
        self._sent = 0

    def moved(self, count: int) -> None:
        """So many bytes more went."""
        self._sent += count
        self._down.inc(count)
        self._seat.add(_DOWN, count)
        if self._row is not None:
            self._seat.write(self._row, SENT, self._sent)

    def ended(self) -> None:
        """No more will go."""
        if self._row is not None:
            self._seat.give_row(self._row)
            self._row = None
