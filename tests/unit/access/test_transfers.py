"""Bodies on their way: counted while they go, and once."""

import pytest

from app.access.allowance import Allowance
from app.access.limits import Limits
from app.access.shared_redis import SharedRedis
from app.access.transfers import Transfer, Transfers
from app.oci.limit_errors import BytesReached, DownloadsReached
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
    transfer.begin_blob()
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
    transfer.begin_blob()
    with pytest.raises(DownloadsReached):
        Transfer(limits, "a").begin_blob()
    transfer.sent = lambda: 99
    transfers.add(transfer)
    transfer.look()
    transfers.end(transfer)
    assert not is_spent(limits)
    other = Transfer(limits, "a")
    other.begin_blob()
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
    transfer.begin_blob()
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
    other.begin_blob()
    other.look()
    assert len(redis.client.keys("*")) == 1
    other.end()
    assert redis.client.keys("*") == []
