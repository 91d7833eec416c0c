"""Bodies on their way: counted while they go, and once."""

import contextlib
import threading
from collections.abc import Callable

import pytest

from app.access.downloads import Allowance
from app.access.limits import ClientLimits, Transfer, Transfers
from app.access.shared_redis import SharedRedis
from app.oci.errors import ByteLimitReached, DownloadLimitReached
from tests.redis_server import RedisServer
from tests.servers import wait_until


@pytest.fixture
def limits() -> ClientLimits:
    return ClientLimits(Allowance(downloads=1, size=100), users_are_known=False)


def is_spent(limits: ClientLimits) -> bool:
    """Tell whether the bytes of a day have gone."""
    try:
        limits.charge_pull("a")
    except ByteLimitReached:
        return True
    return False


def test_long_ones_count_while_they_go(limits: ClientLimits) -> None:
    """Not only at their end, which may be hours away."""
    transfers, transfer = Transfers(interval=0.01), Transfer(limits, "a")
    transfer.begin_blob("d")
    sent = [60]
    transfer.count_sent = lambda: sent[0]
    transfers.add(transfer)
    assert not is_spent(limits)
    sent[0] = 100
    wait_until(lambda: is_spent(limits), what="the bytes to be counted")
    transfers.end(transfer)
    wait_until(lambda: not transfers._is_scheduled, what="nobody to look any more")  # noqa: SLF001


def test_the_end_counts_the_rest(limits: ClientLimits) -> None:
    """Each byte once, and the place is free."""
    transfers, transfer = Transfers(), Transfer(limits, "a")
    transfer.begin_blob("d")
    with pytest.raises(DownloadLimitReached):
        Transfer(limits, "a").begin_blob("d")
    transfer.count_sent = lambda: 99
    transfers.add(transfer)
    transfer.update()
    transfers.end(transfer)
    assert not is_spent(limits)
    other = Transfer(limits, "a")
    other.begin_blob("d")
    other.count_sent = lambda: 1
    transfers.end(other)
    assert is_spent(limits)


def test_one_that_ends_while_it_is_looked_at() -> None:
    """Its place is not kept by who looks at it."""
    given: list[str] = []

    class Watched(ClientLimits):
        def renew_download(self, who: str, name: str) -> None:
            transfer.end()
            super().renew_download(who, name)

        def end_download(self, who: str, name: str) -> None:
            given.append(name)
            super().end_download(who, name)

    transfer = Transfer(Watched(Allowance(downloads=1), users_are_known=False), "a")
    transfer.begin_blob("d")
    transfer.update()
    assert given == [transfer.name] * 2


def test_a_manifest_takes_no_place(redis: RedisServer) -> None:
    """However long it is on its way."""
    shared = ClientLimits(Allowance(downloads=1), SharedRedis(redis.url), users_are_known=False)
    transfer = Transfer(shared, "a")
    transfer.update()
    transfer.end()
    assert redis.client.keys("*") == []
    other = Transfer(shared, "a")
    other.begin_blob("d")
    other.update()
    assert len(redis.client.keys("*")) == 1
    other.end()
    assert redis.client.keys("*") == []


Make = Callable[[Allowance], ClientLimits]


@pytest.fixture(params=["in memory", "in Redis"])
def counting(request: pytest.FixtureRequest) -> Make:
    """Return what makes limits that count in either place."""
    if request.param == "in memory":
        return lambda allowance: ClientLimits(allowance, users_are_known=False)
    redis = SharedRedis(request.getfixturevalue("redis").url)
    return lambda allowance: ClientLimits(allowance, redis, users_are_known=False)


def test_what_is_fetched_for_nobody_else(counting: Make) -> None:
    """It counts as if it had been sent, as far as it is more, and a fetch ends with the bytes."""
    limits = counting(Allowance(size=100))
    transfer = Transfer(limits, "a")
    transfer.begin_blob("d")
    sent = [0]
    transfer.count_sent = lambda: sent[0]
    fetch = transfer.open_account("d")
    fetch.charge(40)
    sent[0] = 50
    transfer.end()
    fetch.charge(59)
    assert fetch.try_acquire()
    assert not is_spent(limits)
    fetch.charge(1)
    assert not fetch.try_acquire()
    assert is_spent(limits)
    fetch.settle()


def test_the_end_of_a_fetch_counts(counting: Make) -> None:
    """Also of one that was over before anybody looked whether it may go on."""
    limits = counting(Allowance(size=100))
    transfer = Transfer(limits, "a")
    fetch = transfer.open_account("d")
    transfer.end()
    fetch.charge(100)
    fetch.settle()
    assert is_spent(limits)


def test_a_fetch_holds_the_place(counting: Make) -> None:
    """From the client's leaving until it is read again, or over; its own client may come back."""
    limits = counting(Allowance(downloads=1))

    def begins(digest: str) -> Transfer | None:
        transfer = Transfer(limits, "a")
        with contextlib.suppress(DownloadLimitReached):
            transfer.begin_blob(digest)
            return transfer
        return None

    transfer = begins("d")
    assert transfer is not None
    fetch = transfer.open_account("d")
    transfer.end()
    assert begins("another") is None
    again = begins("d")  # in place of the fetch that it has left
    assert again is not None
    assert begins("another") is None
    fetch.release()
    assert begins("another") is None
    again.end()
    assert fetch.try_acquire()
    assert begins("another") is None
    fetch.settle()
    last = begins("another")
    assert last is not None
    last.end()


def test_a_fetch_that_ends_while_it_is_held(counting: Make) -> None:
    """Its place is not kept by the client that leaves at that moment."""
    limits = counting(Allowance(downloads=1))
    transfer = Transfer(limits, "a")
    transfer.begin_blob("d")
    fetch = transfer.open_account("d")
    fetch.settle()
    fetch.try_acquire()
    transfer.end()
    Transfer(limits, "a").begin_blob("another")


def test_a_fetch_that_ends_while_its_place_is_taken() -> None:
    """A Redis may take its time for either: the place is free in the end."""
    begun, going_on = threading.Event(), threading.Event()

    class Slow(ClientLimits):
        def renew_download(self, who: str, name: str) -> None:
            begun.set()
            assert going_on.wait(30)
            super().renew_download(who, name)

    def is_over() -> None:
        fetch.release()
        fetch.settle()

    limits = Slow(Allowance(downloads=1), users_are_known=False)
    transfer = Transfer(limits, "a")
    fetch = transfer.open_account("d")
    leaving, ending = threading.Thread(target=transfer.end), threading.Thread(target=is_over)
    leaving.start()
    assert begun.wait(30)
    ending.start()
    ending.join(0.2)  # as far as it comes
    going_on.set()
    leaving.join(30)
    ending.join(30)
    Transfer(limits, "a").begin_blob("another")
