"""`Counting`, the `Observer` that turns the events of one registry's source into metrics."""

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Final

from app.metrics.board import SERIES, Seat
from app.metrics.meters import Meters
from app.metrics.multiprocess import adding, observing
from app.source import Budget, Event

REGISTRY: Final = "registry"
BUDGET: Final = "budget"

OPEN, ANSWERED, FAILED = range(3)
"""The numbers in the row of a registry: hosts whose circuit breaker is open, and the wall-clock
times, in seconds, of its last answer and its last failure."""
REMAINING, LIMIT, TOLD = range(3)
"""The numbers in the row of an identity: pulls that remain, the limit, and the wall-clock time, in
seconds, at which the registry reported them."""

_MOST_IDENTITIES: Final = 16
"""The most identities of a registry that one worker shows; a further one replaces the oldest."""

_UP: Final = SERIES.index("bytes_up")
_HITS: Final = SERIES.index("hits")
_MISSES: Final = SERIES.index("misses")
_ERRORS: Final = SERIES.index("errors")


class Counting:
    """Counts the events of one registry's source in this process and keeps its board rows."""

    def __init__(self, registry: str, meters: Meters, seat: Seat) -> None:
        self._registry = registry
        self._meters = meters
        self._seat = seat
        self._row = seat.take_row(REGISTRY, {"registry": registry})
        self._identities: dict[str, int] = {}
        self._received = adding(meters.up, registry)
        self._answer_seconds = observing(meters.answer_seconds, registry)
        # Finding a series by its labels takes longer than adding to it.
        self._answers, self._results = (
            cache(partial(adding, meter, registry)) for meter in (meters.answers, meters.cache)
        )
        counted = {
            Event.ASKED: meters.asked, Event.RETRIED: meters.retries,
            Event.RESUMED: meters.resumes, Event.PULL_SPENT: meters.pulls_spent,
            Event.PULL_SAVED: meters.pulls_saved,
        }  # fmt: skip
        self._plain = {event: adding(meter, registry) for event, meter in counted.items()}
        self._noted: dict[Event, Callable[[str, float], None]] = {
            Event.RECEIVED: self._received_bytes,
            Event.ANSWERED: self._answered,
            Event.FAILED: self._failed,
            Event.TOKEN: self._token,
            Event.CACHE: self._cached,
            Event.OPENED: partial(self._breaker, 1.0),
            Event.CLOSED: partial(self._breaker, -1.0),
        }

    def happened(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Count an event; `Event` defines what `about` and `amount` mean for each.

        Events that belong to no registry go to `Metrics.happened` instead.
        """
        if (plain := self._plain.get(event)) is not None:
            plain(amount)
        else:
            self._noted[event](about, amount)

    def told(self, budget: Budget) -> None:
        """Publish on the board how many pulls an identity has left, with the current time."""
        row = self._identities.get(budget.identity)
        if row is None:
            row = self._new_identity(budget)
        if row is not None:
            self._seat.write(row, REMAINING, budget.remaining)
            self._seat.write(row, LIMIT, budget.limit)
            self._seat.write(row, TOLD, time.time())

    def _new_identity(self, budget: Budget) -> int | None:
        if len(self._identities) >= _MOST_IDENTITIES:
            self._seat.give_row(self._identities.pop(next(iter(self._identities))))
        about = {
            "registry": self._registry,
            "identity": budget.identity,
            "window": budget.window,
        }
        row = self._seat.take_row(BUDGET, about)
        if row is not None:
            self._identities[budget.identity] = row
        return row

    def _received_bytes(self, _: str, amount: float) -> None:
        self._received(amount)
        self._seat.add(_UP, amount)

    def _answered(self, status: str, seconds: float) -> None:
        self._answers(f"{status[:1]}xx")(1)
        self._answer_seconds(seconds)
        self._heard(ANSWERED)

    def _failed(self, kind: str, _: float) -> None:
        self._meters.errors.labels(self._registry, kind).inc()
        self._seat.add(_ERRORS, 1)
        self._heard(FAILED)

    def _heard(self, place: int) -> None:
        if self._row is not None:
            self._seat.write(self._row, place, time.time())

    def _token(self, status: str, _: float) -> None:
        self._meters.tokens.labels(self._registry, f"{status[:1]}xx").inc()

    def _cached(self, result: str, _: float) -> None:
        self._results(result)(1)
        self._seat.add(_MISSES if result == "miss" else _HITS, 1)

    def _breaker(self, change: float, _: str, __: float) -> None:
        if self._row is not None:
            self._seat.write(self._row, OPEN, self._seat.read(self._row, OPEN) + change)
