"""One exchange: a client's request and its answer, as it is logged, counted and shown."""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Protocol

from app.registries import Address
from app.source import Budget, Event, Observer

LOW: Final = 0.1
"""The part of a limit below which pulls run low."""


@dataclass(slots=True, kw_only=True)
class Exchange:
    """What is known of it so far; `route` is one of few words, `registry` a row of the table.

    `registry`, `repository` and `reference` are empty where the request addresses none.
    """

    method: str = "GET"
    route: str = "other"
    registry: str = ""
    repository: str = ""
    reference: str = ""
    began: float = field(default_factory=monotonic)
    status: int = 0
    sent: int = 0
    """Bytes of the body that went to the client."""
    watched: bool = False
    """Whether its bytes were counted while they went."""
    first_byte: float = 0.0
    """Seconds until there was something to send."""
    took: float = 0.0
    """Seconds in all, once it is over."""
    attempts: int = 0
    """Requests to upstreams that were made for it."""
    cache: str = ""
    """What the cache did, in one word; "" without one."""
    user: str = ""
    """Who has logged in at this proxy."""
    client: tuple[str, bool] | None = None
    """The address that asks, and whether it is the client's own; None until somebody wants it."""
    address: Address | None = None
    """What its path addresses; None until somebody wants it."""
    refused_by: str = ""
    """The number of the rule that refused it, or in one word what else did."""
    budget: Budget | None = None
    """What the registry has said of pulls while it was served."""

    def seconds(self) -> float:
        """Return how long it has been going on."""
        return monotonic() - self.began


current: Final[ContextVar[Exchange | None]] = ContextVar("exchange", default=None)
"""The exchange that this thread, or greenlet, serves."""


class Noting:
    """An observer that notes on the present exchange what belongs on its line."""

    def happened(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Note what was asked for it, and what the cache did."""
        del amount
        exchange = current.get()
        if exchange is None:
            return
        if event is Event.ASKED:
            exchange.attempts += 1
        elif event is Event.CACHE:
            exchange.cache = about

    def told(self, budget: Budget) -> None:
        """Note what is left."""
        if (exchange := current.get()) is not None:
            exchange.budget = budget


class Observers:
    """Several, told one after the other."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def happened(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.happened(event, about, amount)

    def told(self, budget: Budget) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.told(budget)


def is_low(budget: Budget) -> bool:
    """Tell whether so few pulls are left that somebody should hear of it."""
    return budget.remaining < budget.limit * LOW


class Download(Protocol):
    """A body on its way to a client, for others to see how far it is."""

    def moved(self, count: int) -> None:
        """So many bytes more went."""

    def ended(self) -> None:
        """No more will go."""


class Watcher(Protocol):
    """Is told of every exchange; neither method raises anything or waits for anything."""

    def begins(self, exchange: Exchange, length: int | None) -> Download:
        """Watch a body whose bytes come one after the other, so many in all where that is known."""

    def ended(self, exchanges: Sequence[Exchange]) -> None:
        """Count exchanges that are over."""


class _Unwatched:
    """A watcher, and a download, for where nobody looks."""

    def begins(self, exchange: Exchange, length: int | None) -> Download:
        """Watch nothing."""
        del exchange, length
        return self

    def ended(self, exchanges: Sequence[Exchange] = ()) -> None:
        """Count nothing."""

    def moved(self, count: int) -> None:
        """Count nothing."""


UNWATCHED: Final = _Unwatched()
