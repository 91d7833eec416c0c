"""One exchange: a client's request and its response, as they are logged, counted and shown."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import Final, Protocol


class Event(StrEnum):
    """An event inside a source that is worth counting.

    The text below each member says what `about` and `amount` of `Observer.observe` mean for it.
    """

    REQUEST_SENT = "asked"
    """A request was sent to an upstream: a registry, its token service or its CDN."""
    RESPONSE_RECEIVED = "answered"
    """The head of the response arrived. `about`: its status; `amount`: the seconds it took."""
    REQUEST_FAILED = "failed"
    """No response arrived. `about`: the error, in one word."""
    BODY_RECEIVED = "received"
    """Part of a body arrived. `amount`: its bytes."""
    RETRIED = "retried"
    """A request is retried."""
    RESUMED = "resumed"
    """A body broke off and was resumed."""
    CIRCUIT_OPENED = "opened"
    """The circuit breaker of a host opened."""
    CIRCUIT_CLOSED = "closed"
    """The circuit breaker of a host closed."""
    TOKEN_RESPONSE = "token"  # noqa: S105 - no password
    """A token service answered. `about`: its status."""
    PULL_SPENT = "pull spent"
    """A registry answered a GET with a manifest, which Docker Hub counts as a pull."""
    PULL_SAVED = "pull saved"
    """A client's GET of a manifest was answered without spending a pull."""
    CACHE_OUTCOME = "cache"
    """The cache answered. `about`: how, in the words of `Cache-Status`."""
    FETCH_OPENED = "fetch opened"
    """A connection over which the cache fetches parts of a blob was added to a fetch."""
    FETCH_CLOSED = "fetch closed"
    """Such a connection ended. `about`: how, in one word."""
    FETCH_RECEIVED = "fetch received"
    """Such a connection has ended. `about`: "first" or "added"; `amount`: the bytes it brought."""
    HEAD_START = "head start"
    """The blobs of an image were begun before a client asked. `about`: "used" or "wasted"."""
    EVICTED = "evicted"
    """Entries were evicted to make room. `amount`: how many."""
    CACHE_FAILED = "cache failed"
    """The cache could not store or find an entry. `about`: the fault, in one word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The number of pulls that an identity has left, as reported by a registry.

    `identity` distinguishes identities without revealing who they are. `window` is in seconds.
    """

    identity: str
    limit: int
    remaining: int
    window: int


class Observer(Protocol):
    """Receives the events in the source of one registry, each once, where it happens.

    Neither method raises or blocks.
    """

    def observe(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Record an event.

        `about` takes only a small set of values, whatever clients and registries send.
        """

    def record_budget(self, budget: Budget) -> None:
        """Record how many pulls an identity has left, as a registry has just reported."""


class _NullObserver:
    """An observer that ignores everything."""

    def observe(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Ignore the event."""

    def record_budget(self, budget: Budget) -> None:
        """Ignore the budget."""


NOBODY: Final[Observer] = _NullObserver()


LOW: Final = 0.1
"""The fraction of its limit below which an identity is low on pulls."""


@dataclass(slots=True, kw_only=True)
class Exchange:
    """The facts about one request and its response, as far as they are known.

    `request_id` is the id in the log lines of the request. `route` is one of a few words;
    `registry` is the name of a row of the table. `registry`, `repository` and `reference` are empty
    if the request addresses none. `started_at` is monotonic.
    """

    request_id: str = ""
    method: str = "GET"
    route: str = "other"
    registry: str = ""
    repository: str = ""
    reference: str = ""
    started_at: float = field(default_factory=monotonic)
    status: int = 0
    bytes_sent: int = 0
    """Bytes of the body sent to the client."""
    is_progress_counted: bool = False
    """Whether the bytes of the body were counted as they were sent."""
    time_to_first_byte: float = 0.0
    """Seconds from `started_at` until there was something to send."""
    duration: float = 0.0
    """Seconds in all, set when the exchange is over."""
    attempts: int = 0
    """Requests sent to upstreams for this exchange."""
    cache_outcome: str = ""
    """The cache's outcome, in one word; "" if there is no cache."""
    refused_by: str = ""
    """The number of the rule that refused the request, or one word for any other cause."""
    budget: Budget | None = None
    """The pulls left, as the registry reported them during this exchange."""

    def seconds_elapsed(self) -> float:
        """Return the seconds since the exchange began."""
        return monotonic() - self.started_at

    @contextmanager
    def keep_cache_outcome(self) -> Iterator[None]:
        """Leave `cache_outcome` as it is, whatever the cache does in the block.

        The log line says how the cache served the request, and not those that were made to judge
        it.
        """
        outcome = self.cache_outcome
        try:
            yield
        finally:
            self.cache_outcome = outcome


current: Final[ContextVar[Exchange | None]] = ContextVar("exchange", default=None)
"""The exchange that the current thread or greenlet serves, or None outside a request.

This is a context variable because a log record does not say which request it belongs to, and the
`Observer` of a registry serves all requests. All other code gets the exchange as an argument.
"""


def keep_request_id(run: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls `run` in another thread, for the request of this one.

    Its log lines have the id of the request. It counts nothing for the exchange, which may be over.
    """
    current_exchange = current.get()
    exchange = (
        Exchange(request_id=current_exchange.request_id) if current_exchange is not None else None
    )

    def run_for_request() -> None:
        current.set(exchange)
        run()

    return run_for_request


class ExchangeObserver:
    """An observer that notes on the current exchange what its log line needs.

    It passes everything on to the `inner` observer.
    """

    def __init__(self, inner: Observer = NOBODY) -> None:
        self._inner = inner

    def observe(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Count requests to upstreams, note what the cache did, and pass the event on."""
        if event is Event.REQUEST_SENT:
            if (exchange := current.get()) is not None:
                exchange.attempts += 1
        elif event is Event.CACHE_OUTCOME and (exchange := current.get()) is not None:
            exchange.cache_outcome = about
        self._inner.observe(event, about, amount)

    def record_budget(self, budget: Budget) -> None:
        """Note the pulls left, and pass them on."""
        if (exchange := current.get()) is not None:
            exchange.budget = budget
        self._inner.record_budget(budget)


def is_low(budget: Budget) -> bool:
    """Return whether less than `LOW` of the limit is left, so that the operator should know."""
    return budget.remaining < budget.limit * LOW


class Download(Protocol):
    """A body on its way to a client, whose progress others can see."""

    def record_sent(self, count: int) -> None:
        """Record that `count` more bytes were sent."""

    def record_end(self) -> None:
        """Record that nothing more will be sent."""


class Watcher(Protocol):
    """Receives every exchange. Neither method raises or blocks."""

    def begin_download(self, exchange: Exchange, length: int | None) -> Download:
        """Return a Download for a body that is sent piece by piece.

        `length` is its total in bytes, or None if that is not known.
        """

    def record_end(self, exchanges: Sequence[Exchange]) -> None:
        """Count exchanges that have ended."""


class _NullWatcher:
    """A watcher and a download that ignore everything."""

    def begin_download(self, exchange: Exchange, length: int | None) -> Download:
        """Return this object, which counts nothing."""
        del exchange, length
        return self

    def record_end(self, exchanges: Sequence[Exchange] = ()) -> None:
        """Ignore the end of exchanges, or of a download."""

    def record_sent(self, count: int) -> None:
        """Ignore the bytes."""


UNWATCHED: Final = _NullWatcher()
