"""Bodies on their way: counted while they go, and once."""

import contextlib
import threading
from collections.abc import Callable

import pytest

from app.access.limits import Allowance, Limits, Transfer, Transfers
from app.access.shared_redis import SharedRedis
from app.oci.errors import BytesReached, DownloadsReached
from tests.redis_server import RedisServer
from tests.servers import wait_until


@pytest.fixture
def limits() -> Limits:
    return Limits(Allowance(downloads=1, size=100), users_are_known=False)


def is_spent(limits: Limits) -> bool:
    """Tell whether the bytes of a day have gone."""
    try:
        limits.manifest("a")
    except BytesReached:
        return True
    return False


def test_long_ones_count_while_they_go(limits: Limits) -> None:
    """Not only at their end, which may be hours away."""
    transfers, transfer = Transfers(every=0.01), Transfer(limits, "a")
    transfer.begin_blob("d")
    sent = [60]
    transfer.sent = lambda: sent[0]
    transfers.add(transfer)
    assert not is_spent(limits)
    sent[0] = 100
    wait_until(lambda: is_spent(limits), what="the bytes to be counted")
    transfers.end(transfer)
    wait_until(lambda: not transfers._is_coming, what="nobody to look any more")  # noqa: SLF001


def test_the_end_counts_the_rest(limits: Limits) -> None:
    """Each byte once, and the place is free."""
    transfers, transfer = Transfers(), Transfer(limits, "a")
    transfer.begin_blob("d")
    with pytest.raises(DownloadsReached):
        Transfer(limits, "a").begin_blob("d")
    transfer.sent = lambda: 99
    transfers.add(transfer)
    transfer.look()
    transfers.end(transfer)
    assert not is_spent(limits)
    other = Transfer(limits, "a")
    other.begin_blob("d")
    other.sent = lambda: 1
    transfers.end(other)
    assert is_spent(limits)


def test_one_that_ends_while_it_is_looked_at() -> None:
    """Its place is not kept by who looks at it."""
    given: list[str] = []

    class Watched(Limits):
        def goes_on(self, who: str, name: str) -> None:
            transfer.end()
            super().goes_on(who, name)

        def ended(self, who: str, name: str) -> None:
            given.append(name)
            super().ended(who, name)

    transfer = Transfer(Watched(Allowance(downloads=1), users_are_known=False), "a")
    transfer.begin_blob("d")
    transfer.look()
    assert given == [transfer.name] * 2


def test_a_manifest_takes_no_place(redis: RedisServer) -> None:
    """However long it is on its way."""
    shared = Limits(Allowance(downloads=1), SharedRedis(redis.url), users_are_known=False)
    transfer = Transfer(shared, "a")
    transfer.look()
    transfer.end()
    assert redis.client.keys("*") == []
    other = Transfer(shared, "a")
    other.begin_blob("d")
    other.look()
    assert len(redis.client.keys("*")) == 1
    other.end()
    assert redis.client.keys("*") == []


Make = Callable[[Allowance], Limits]


@pytest.fixture(params=["in memory", "in Redis"])
def counting(request: pytest.FixtureRequest) -> Make:
    """Return what makes limits that count in either place."""
    if request.param == "in memory":
        return lambda allowance: Limits(allowance, users_are_known=False)
    redis = SharedRedis(request.getfixturevalue("redis").url)
    return lambda allowance: Limits(allowance, redis, users_are_known=False)


def test_what_is_fetched_for_nobody_else(counting: Make) -> None:
    """It counts as if it had been sent, as far as it is more, and a fetch ends with the bytes."""
    limits = counting(Allowance(size=100))
    transfer = Transfer(limits, "a")
    transfer.begin_blob("d")
    sent = [0]
    transfer.sent = lambda: sent[0]
    fetch = transfer.begin_fetch("d")
    fetch.received(40)
    sent[0] = 50
    transfer.end()
    fetch.received(59)
    assert fetch.go_on_unread()
    assert not is_spent(limits)
    fetch.received(1)
    assert not fetch.go_on_unread()
    assert is_spent(limits)
    fetch.end()


def test_the_end_of_a_fetch_counts(counting: Make) -> None:
    """Also of one that was over before anybody looked whether it may go on."""
    limits = counting(Allowance(size=100))
    transfer = Transfer(limits, "a")
    fetch = transfer.begin_fetch("d")
    transfer.end()
    fetch.received(100)
    fetch.end()
    assert is_spent(limits)


def test_a_fetch_holds_the_place(counting: Make) -> None:
    """From the client's leaving until it is read again, or over; its own client may come back."""
    limits = counting(Allowance(downloads=1))

    def begins(digest: str) -> Transfer | None:
        transfer = Transfer(limits, "a")
        with contextlib.suppress(DownloadsReached):
            transfer.begin_blob(digest)
            return transfer
        return None

    transfer = begins("d")
    assert transfer is not None
    fetch = transfer.begin_fetch("d")
    transfer.end()
    assert begins("another") is None
    again = begins("d")  # in place of the fetch that it has left
    assert again is not None
    assert begins("another") is None
    fetch.release()
    assert begins("another") is None
    again.end()
    assert fetch.go_on_unread()
    assert begins("another") is None
    fetch.end()
    last = begins("another")
    assert last is not None
    last.end()


def test_a_fetch_that_ends_while_it_is_held(counting: Make) -> None:
    """Its place is not kept by the client that leaves at that moment."""
    limits = counting(Allowance(downloads=1))
    transfer = Transfer(limits, "a")
    transfer.begin_blob("d")
    fetch = transfer.begin_fetch("d")
    fetch.end()
    fetch.go_on_unread()
    transfer.end()
    Transfer(limits, "a").begin_blob("another")


def test_a_fetch_that_ends_while_its_place_is_taken() -> None:
    """A Redis may take its time for either: the place is free in the end."""
    begun, going_on = threading.Event(), threading.Event()

    class Slow(Limits):
        def goes_on(self, who: str, name: str) -> None:
            begun.set()
            assert going_on.wait(30)
            super().goes_on(who, name)

    def is_over() -> None:
        fetch.release()
        fetch.end()

    limits = Slow(Allowance(downloads=1), users_are_known=False)
    transfer = Transfer(limits, "a")
    fetch = transfer.begin_fetch("d")
    leaving, ending = threading.Thread(target=transfer.end), threading.Thread(target=is_over)
    leaving.start()
    assert begun.wait(30)
    ending.start()
    ending.join(0.2)  # as far as it comes
    going_on.set()
    leaving.join(30)
    ending.join(30)
    Transfer(limits, "a").begin_blob("another")
