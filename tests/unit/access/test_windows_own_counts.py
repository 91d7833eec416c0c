"""Counts in memory: a window begins with the first use, and nothing of it stays when it is over."""

import pytest
from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter

from app.access.windows import LocalStorage


class Clock:
    """A clock that goes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counts(clock: Clock) -> LocalStorage:
    return LocalStorage(clock)


def test_a_window(counts: LocalStorage, clock: Clock) -> None:
    """It is over a minute after its first use, however late the last one was."""
    assert counts.incr("a", 60, 5) == 5
    clock.now += 59
    assert counts.incr("a", 60, 2) == 7
    assert (counts.get("a"), counts.get_expiry("a")) == (7, 1060)
    clock.now += 1
    assert counts.get("a") == 0
    assert counts.incr("a", 60, 1) == 1
    assert counts.get_expiry("a") == 1119 + 1


def test_each_has_its_own(counts: LocalStorage) -> None:
    """One is forgotten, or all are."""
    for key in ("a", "b", "c"):
        counts.incr(key, 60)
    counts.clear("b")
    assert [counts.get(key) for key in ("a", "b", "c")] == [1, 0, 1]
    assert counts.reset() == 2
    assert counts.get("a") == 0


def test_what_is_over_takes_no_memory(counts: LocalStorage, clock: Clock) -> None:
    """Addresses come and go; once a minute those that have gone are forgotten."""
    for number in range(1000):
        counts.incr(str(number), 60)
    clock.now += 61
    counts.incr("last", 60)
    assert list(counts._windows) == ["last"]  # noqa: SLF001 - what is not to be seen is the point


def test_a_flood_of_addresses(clock: Clock) -> None:
    """It takes so much memory and no more; those that began last are counted on."""
    counts = LocalStorage(clock, max_windows=1000)
    counts.incr("before", 86400)
    for number in range(5000):
        counts.incr(f"2001:db8:{number:x}::/64", 86400)
    assert len(counts._windows) == 1000  # noqa: SLF001 - what is not to be seen is the point
    assert counts.get("before") == 0
    assert counts.get(f"2001:db8:{4999:x}::/64") == 1


def test_one_that_begins_anew_is_young(clock: Clock) -> None:
    """Its new window is no older than it is, though its name has long been there."""
    counts = LocalStorage(clock, max_windows=2)
    counts.incr("a", 60)
    counts.incr("b", 86400)
    clock.now += 60
    counts.incr("a", 60)
    counts.incr("c", 60)
    assert [counts.get(key) for key in ("a", "b", "c")] == [1, 0, 1]


def test_the_library_counts_there(counts: LocalStorage) -> None:
    """It is a storage of the limits library."""
    limiter, limit = FixedWindowRateLimiter(counts), RateLimitItemPerMinute(2)
    assert [limiter.hit(limit, "a") for _ in range(3)] == [True, True, False]
    assert counts.check()
