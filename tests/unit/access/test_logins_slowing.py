"""Wrong passwords: after a few an address has to wait, each time twice as long."""

import pytest

from app.access.logins import EVERYBODY, FREE, LONGEST, MOST, LoginThrottle
from app.access.networks import derive_prefixes


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
def slowing(clock: Clock) -> LoginThrottle:
    return LoginThrottle(clock)


def fail(
    slowing: LoginThrottle, address: str, times: int = 1, name: str | None = EVERYBODY
) -> None:
    """Send wrong passwords from a site."""
    for _ in range(times):
        slowing.record_failure(derive_prefixes(address)[0], name)


def fail_in_all(slowing: LoginThrottle, address: str, times: int = 1) -> None:
    """Send wrong passwords that count in each network that an address is in."""
    for _ in range(times):
        for prefix in derive_prefixes(address):
            slowing.record_failure(prefix, EVERYBODY)


def wait(slowing: LoginThrottle, address: str, name: str = "anybody") -> float:
    """Return how long one has to wait."""
    return slowing.seconds_left(derive_prefixes(address), name)


def test_waits_double(slowing: LoginThrottle, clock: Clock) -> None:
    """The first few are free; in the end it is a quarter of an hour."""
    fail(slowing, "192.0.2.1", FREE - 1)
    assert wait(slowing, "192.0.2.1") == 0
    waits = []
    for _ in range(10):
        fail(slowing, "192.0.2.1")
        waits.append(wait(slowing, "192.0.2.1"))
        clock.now += waits[-1]
        assert wait(slowing, "192.0.2.1") == 0
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, LONGEST, LONGEST]


def test_others_do_not_wait(slowing: LoginThrottle) -> None:
    """An address is for itself; an IPv4 one that is written as IPv6 is the same."""
    fail(slowing, "192.0.2.1", FREE)
    assert wait(slowing, "192.0.2.2") == 0
    assert wait(slowing, "::ffff:192.0.2.1") > 0


def test_a_name_is_for_itself(slowing: LoginThrottle) -> None:
    """At its address; who else is there does not wait with it, nor does it elsewhere."""
    fail(slowing, "192.0.2.1", FREE, "alice")
    assert wait(slowing, "192.0.2.1", "alice") == 5
    assert wait(slowing, "192.0.2.1", "bob") == 0
    assert wait(slowing, "192.0.2.2", "alice") == 0
    fail(slowing, "192.0.2.1", FREE + 1)
    assert wait(slowing, "192.0.2.1", "alice") == wait(slowing, "192.0.2.1", "bob") == 10


def test_a_site_is_one(slowing: LoginThrottle) -> None:
    """Who has a /64 has no more tries than who has one address."""
    for number in range(FREE):
        fail(slowing, f"2001:db8:1:1::{number}")
    assert wait(slowing, "2001:db8:1:1:ffff::1") > 0
    assert wait(slowing, "2001:db8:1:2::1") == 0


@pytest.mark.parametrize(
    ("sites", "free", "longest"),
    [
        pytest.param("2001:db8:1:1{:02x}::1", 10, 300, id="/56"),
        pytest.param("2001:db8:1:{:x}00::1", 20, 60, id="/48"),
        pytest.param("192.0.2.{}", 40, 60, id="/24"),
    ],
)
def test_who_has_many_sites_waits(
    slowing: LoginThrottle, sites: str, free: int, longest: float
) -> None:
    """One wrong password from each of many: the wider a network is, the more of them are free.

    The more others there may be in it, the shorter they wait.
    """
    another = sites.format(255)
    for number in range(free):
        assert wait(slowing, another) == 0
        fail_in_all(slowing, sites.format(number))
    assert wait(slowing, another) == 5
    assert wait(slowing, "2001:db8:2::1") == wait(slowing, "192.0.3.1") == 0
    for number in range(free, free + 10):
        fail_in_all(slowing, sites.format(number))
    assert wait(slowing, another) == longest


def test_a_home_slows_no_other_one(slowing: LoginThrottle) -> None:
    """A /56 waits before the /48 around it does."""
    for number in range(19):
        fail_in_all(slowing, f"2001:db8:1:1{number:02x}::1")
    assert wait(slowing, "2001:db8:1:1ff::1") == 300
    assert wait(slowing, "2001:db8:1:200::1") == 0


@pytest.mark.parametrize(("address", "neighbour"), [
    ("192.0.2.1", "192.0.2.2"), ("2001:db8:1:1::1", "2001:db8:1:2::1"),
])  # fmt: skip
def test_one_guesser_slows_no_neighbour(
    slowing: LoginThrottle, clock: Clock, address: str, neighbour: str
) -> None:
    """However patiently one site guesses, those beside it in the wider networks do not wait."""
    for _ in range(50):
        clock.now += wait(slowing, address)
        fail_in_all(slowing, address)
        assert wait(slowing, neighbour) == 0


def test_who_is_not_concerned(slowing: LoginThrottle) -> None:
    """The first prefix alone asks for the site alone."""
    for number in range(60):
        fail_in_all(slowing, f"192.0.2.{number}")
    prefixes = derive_prefixes("192.0.2.200")
    assert slowing.seconds_left(prefixes, "alice") > 0
    assert slowing.seconds_left(prefixes[:1], "alice") == 0


def test_who_has_failed(slowing: LoginThrottle, clock: Clock) -> None:
    """Known of a site and of what is around it, until it is forgotten."""
    fail_in_all(slowing, "2001:db8:1:1::1")
    for address, known in [
        ("2001:db8:1:1::2", True), ("2001:db8:1:2::1", True), ("2001:db8:1:200::1", True),
        ("2001:db8:2::1", False), ("192.0.2.1", False), ("", False),
    ]:  # fmt: skip
        assert slowing.has_failed(derive_prefixes(address)) is known
    clock.now += 61
    assert not slowing.has_failed(derive_prefixes("2001:db8:1:1::1"))


def test_it_is_forgotten(slowing: LoginThrottle, clock: Clock) -> None:
    """A few mistakes over a day are none."""
    for _ in range(3 * FREE):
        fail(slowing, "192.0.2.1")
        clock.now += 61
        assert wait(slowing, "192.0.2.1") == 0


def test_it_is_not_forgotten_while_it_goes_on(slowing: LoginThrottle, clock: Clock) -> None:
    """Who guesses right after each wait gets slower and slower, and not from the beginning."""
    fail(slowing, "192.0.2.1", FREE)
    for _ in range(20):
        clock.now += wait(slowing, "192.0.2.1") + 59
        fail(slowing, "192.0.2.1")
    assert wait(slowing, "192.0.2.1") == LONGEST


def test_it_is_bounded(slowing: LoginThrottle) -> None:
    """Addresses beyond some thousands push out those that failed longest ago."""
    fail(slowing, "192.0.2.1", FREE)
    fail(slowing, "192.0.2.2", FREE)
    for number in range(MOST - 1):
        fail(slowing, f"10.1.{number // 256}.{number % 256}")
    assert wait(slowing, "192.0.2.1") == 0
    assert wait(slowing, "192.0.2.2") > 0
    fail(slowing, "192.0.2.2")
    fail(slowing, "10.2.0.1")
    assert wait(slowing, "192.0.2.2") > 0
