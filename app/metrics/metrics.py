"""Metrics: one seat on the board and one set of meters, for all that happens in this process."""

from collections.abc import Mapping

from app.content import Budget, Event, Holder, Observer, Source
from app.exchange import Watcher
from app.metrics.board import Seat
from app.metrics.counting import Counting
from app.metrics.figures import Figures
from app.metrics.meters import Meters
from app.metrics.watching import Watching


class Metrics:
    """What counts, and what gives the counts away; itself the observer of what is no registry's."""

    def __init__(self) -> None:
        self._meters = Meters()
        self._seat = Seat()
        self._watching = Watching(self._meters, self._seat)
        self.watcher: Watcher = self._watching

    def of(self, registry: str) -> Observer:
        """Return who counts what happens in the source of one registry."""
        self._watching.expect(registry)
        return Counting(registry, self._meters, self._seat)

    def happened(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Count what goes to make room, and what cannot be kept."""
        if event is Event.EVICTED:
            self._meters.evictions.inc(amount)
        elif event is Event.CACHE_FAILED:
            self._meters.cache_errors.labels(about).inc(amount)

    def told(self, budget: Budget) -> None:
        """Count nothing: pulls are a registry's."""

    def figures(
        self,
        sources: Mapping[str, Source],
        default: str,
        cache: Holder | None,
    ) -> Figures:
        """Return what tells them."""
        return Figures(self._meters, sources, default, cache)
