"""What is noted on the exchange that is served, and on none that is over."""

import threading

import pytest

from app.events import Budget, Event, Exchange, ExchangeObserver, current, keep_request_id
from tests.unit.observing import Remembering

BUDGET = Budget(identity="account-1", limit=100, remaining=9, window=21600)


def tell(observer: ExchangeObserver) -> None:
    """Tell an observer of each kind of thing that it notes, and of one that it does not."""
    observer.observe(Event.REQUEST_SENT)
    observer.observe(Event.CACHE_OUTCOME, "hit")
    observer.observe(Event.BODY_RECEIVED, amount=7)
    observer.record_budget(BUDGET)


def test_what_the_line_needs_is_noted() -> None:
    """On the exchange that is served, and on no other."""
    served, other = Exchange(), Exchange()
    current.set(served)
    tell(ExchangeObserver())
    assert (served.attempts, served.cache_outcome, served.budget) == (1, "hit", BUDGET)
    assert (other.attempts, other.cache_outcome, other.budget) == (0, "", None)


def test_everything_is_passed_on() -> None:
    """In a request and outside of one."""
    for exchange in (Exchange(), None):
        current.set(exchange)
        inner = Remembering()
        tell(ExchangeObserver(inner))
        assert inner.counts == {
            (Event.REQUEST_SENT, ""): 1,
            (Event.CACHE_OUTCOME, "hit"): 1,
            (Event.BODY_RECEIVED, ""): 1,
        }
        assert inner.amounts[Event.BODY_RECEIVED] == 7
        assert inner.budgets == [BUDGET]


def test_a_thread_for_a_request() -> None:
    """Its lines have the id of the request, and it adds nothing to what was counted."""
    served, seen = Exchange(request_id="abc"), list[str]()

    def work() -> None:
        exchange = current.get()
        assert exchange is not None
        seen.append(exchange.request_id)
        tell(ExchangeObserver())

    current.set(served)
    thread = threading.Thread(target=keep_request_id(work))
    current.set(None)
    thread.start()
    thread.join()
    assert seen == ["abc"]
    assert (served.attempts, served.cache_outcome, served.budget) == (0, "", None)


def test_what_is_asked_only_to_judge() -> None:
    """It does not change how the client's own request was served, even if it fails."""
    served = Exchange()
    current.set(served)
    tell(ExchangeObserver())

    def judge() -> None:
        with served.keep_cache_outcome():
            ExchangeObserver().observe(Event.CACHE_OUTCOME, "miss")
            raise LookupError

    with pytest.raises(LookupError):
        judge()
    assert served.cache_outcome == "hit"
