"""`EventCounter`, the `Observer` that turns the events of one registry's source into metrics."""

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Final

from app.metrics.board import SERIES, WorkerSlot
from app.metrics.meters import Meters
from app.metrics.multiprocess import build_counter_adder, build_histogram_adder
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

_UP: Final = SERIES.index("bytes_received")
_HITS: Final = SERIES.index("hits")
_MISSES: Final = SERIES.index("misses")
_ERRORS: Final = SERIES.index("errors")


class EventCounter:
    """Counts the events of one registry's source in this process and keeps its board rows."""

    def __init__(self, registry: str, meters: Meters, seat: WorkerSlot) -> None:
        self._registry = registry
        self._meters = meters
        self._slot = seat
        self._row = seat.acquire_row(REGISTRY, {"registry": registry})
        self._identities: dict[str, int] = {}
        self._add_received = build_counter_adder(meters.received_bytes, registry)
        self._answer_seconds = build_histogram_adder(meters.upstream_answer_seconds, registry)
        # Finding a series by its labels takes longer than adding to it.
        self._answers, self._results = (
            cache(partial(build_counter_adder, meter, registry))
            for meter in (meters.upstream_answers, meters.cache_answers)
        )
        counted = {
            Event.REQUEST_SENT: meters.upstream_requests, Event.RETRIED: meters.retries,
            Event.RESUMED: meters.resumes, Event.PULL_SPENT: meters.pulls_spent,
            Event.PULL_SAVED: meters.pulls_saved,
        }  # fmt: skip
        self._counters = {
            event: build_counter_adder(meter, registry) for event, meter in counted.items()
        }
        self._handlers: dict[Event, Callable[[str, float], None]] = {
            Event.BODY_RECEIVED: self._record_received,
            Event.RESPONSE_RECEIVED: self._record_answer,
            Event.REQUEST_FAILED: self._record_failure,
            Event.TOKEN_RESPONSE: self._record_token_answer,
            Event.CACHE_OUTCOME: self._record_cache_result,
            Event.CIRCUIT_OPENED: partial(self._record_breaker_change, 1.0),
            Event.CIRCUIT_CLOSED: partial(self._record_breaker_change, -1.0),
        }

    def observe(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Count an event; `Event` defines what `about` and `amount` mean for each.

        Events that belong to no registry go to `Metrics.observe` instead.
        """
        if (plain := self._counters.get(event)) is not None:
            plain(amount)
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
        if len(self._identities) >= _MOST_IDENTITIES:
            self._slot.release_row(self._identities.pop(next(iter(self._identities))))
        about = {
            "registry": self._registry,
            "identity": budget.identity,
            "window": budget.window,
        }
        row = self._slot.acquire_row(BUDGET, about)
        if row is not None:
            self._identities[budget.identity] = row
        return row

    def _record_received(self, _: str, amount: float) -> None:
        self._add_received(amount)
        self._slot.add(_UP, amount)

    def _record_answer(self, status: str, seconds: float) -> None:
        self._answers(f"{status[:1]}xx")(1)
        self._answer_seconds(seconds)
        self._record_contact(ANSWERED)

    def _record_failure(self, error: str, _: float) -> None:
        self._meters.upstream_errors.labels(self._registry, error).inc()
        self._slot.add(_ERRORS, 1)
        self._record_contact(FAILED)

    def _record_contact(self, place: int) -> None:
        if self._row is not None:
            self._slot.write(self._row, place, time.time())

    def _record_token_answer(self, status: str, _: float) -> None:
        self._meters.token_answers.labels(self._registry, f"{status[:1]}xx").inc()

    def _record_cache_result(self, result: str, _: float) -> None:
        self._results(result)(1)
        self._slot.add(_MISSES if result == "miss" else _HITS, 1)

    def _record_breaker_change(self, change: float, _: str, __: float) -> None:
        if self._row is not None:
            self._slot.write(self._row, OPEN, self._slot.read(self._row, OPEN) + change)
