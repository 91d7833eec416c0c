"""Wrong passwords: after a few an address has to wait, each time twice as long."""

import pytest

from app.access.slowing import EVERYBODY, FREE, LONGEST, Slowing


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
def slowing(clock: Clock) -> Slowing:
    return Slowing(clock)


def fail(slowing: Slowing, address: str, times: int, name: str | None = EVERYBODY) -> None:
    """Send wrong passwords."""
    for _ in range(times):
        slowing.failed(address, name)


def wait(slowing: Slowing, address: str, name: str = "anybody") -> float:
    """Return how long one has to wait."""
    return slowing.wait(address, name)


def test_waits_double(slowing: Slowing, clock: Clock) -> None:
    """The first few are free; in the end it is a quarter of an hour."""
    fail(slowing, "192.0.2.1", FREE - 1)
    assert wait(slowing, "192.0.2.1") == 0
    waits = []
    for _ in range(10):
        slowing.failed("192.0.2.1", EVERYBODY)
        waits.append(wait(slowing, "192.0.2.1"))
        clock.now += waits[-1]
        assert wait(slowing, "192.0.2.1") == 0
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, LONGEST, LONGEST]


def test_others_do_not_wait(slowing: Slowing) -> None:
    """An address is for itself; an IPv4 one that is written as IPv6 is the same."""
    fail(slowing, "192.0.2.1", FREE)
    assert wait(slowing, "192.0.2.2") == 0
    assert wait(slowing, "::ffff:192.0.2.1") > 0


def test_a_name_is_for_itself(slowing: Slowing) -> None:
    """At its address; who else is there does not wait with it, nor does it elsewhere."""
    fail(slowing, "192.0.2.1", FREE, "alice")
    assert wait(slowing, "192.0.2.1", "alice") == 5
    assert wait(slowing, "192.0.2.1", "bob") == 0
    assert wait(slowing, "192.0.2.2", "alice") == 0
    fail(slowing, "192.0.2.1", FREE + 1)
    assert wait(slowing, "192.0.2.1", "alice") == wait(slowing, "192.0.2.1", "bob") == 10


def test_a_site_is_one(slowing: Slowing) -> None:
    """Who has a /64 has no more tries than who has one address."""
    for number in range(FREE):
        slowing.failed(f"2001:db8:1:1::{number}", EVERYBODY)
    assert wait(slowing, "2001:db8:1:1:ffff::1") > 0
    assert wait(slowing, "2001:db8:1:2::1") == 0


def test_it_is_forgotten(slowing: Slowing, clock: Clock) -> None:
    """A few mistakes over a day are none."""
    for _ in range(3 * FREE):
        slowing.failed("192.0.2.1", EVERYBODY)
        clock.now += 61
        assert wait(slowing, "192.0.2.1") == 0


def test_it_is_not_forgotten_while_it_goes_on(slowing: Slowing, clock: Clock) -> None:
    """Who guesses right after each wait gets slower and slower, and not from the beginning."""
    fail(slowing, "192.0.2.1", FREE)
    for _ in range(20):
        clock.now += wait(slowing, "192.0.2.1") + 59
        slowing.failed("192.0.2.1", EVERYBODY)
    assert wait(slowing, "192.0.2.1") == LONGEST


def test_it_is_bounded(slowing: Slowing) -> None:
    """Addresses beyond some thousands push out those that failed longest ago."""
    fail(slowing, "192.0.2.1", FREE)
    fail(slowing, "192.0.2.2", FREE)
    for number in range(4095):
        slowing.failed(f"10.1.{number // 256}.{number % 256}", EVERYBODY)
    assert wait(slowing, "192.0.2.1") == 0
    assert wait(slowing, "192.0.2.2") > 0
    slowing.failed("192.0.2.2", EVERYBODY)
    slowing.failed("10.2.0.1", EVERYBODY)
    assert wait(slowing, "192.0.2.2") > 0
