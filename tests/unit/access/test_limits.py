"""How much each may have, whether it is counted in memory or in a Redis."""

from collections.abc import Callable

import pytest

from app.access.limits import Allowance, Limits
from app.access.networks import Client
from app.access.shared_redis import SharedRedis
from app.oci.errors import (
    BytesReached,
    DownloadsReached,
    LimitReached,
    PullsReached,
    RequestsReached,
)

ALICE = Client("192.0.2.1", user="alice")


@pytest.fixture(params=["in memory", "in Redis"])
def limited(request: pytest.FixtureRequest) -> Callable[[Allowance], Limits]:
    """Return what makes limits that count in either place."""
    if request.param == "in memory":
        return lambda allowance: Limits(allowance, users_are_known=True)
    redis = SharedRedis(request.getfixturevalue("redis").url)
    return lambda allowance: Limits(allowance, redis, users_are_known=True)


def refused(kind: type[LimitReached], action: Callable[[], None]) -> int:
    """Return the seconds that a refusal of this kind says; no client is to wait for hours."""
    with pytest.raises(kind) as caught:
        action()
    told = int(caught.value.added["Retry-After"])
    assert caught.value.detail["rule"] == kind.refused_by
    seconds: int = caught.value.detail.get("seconds", told)
    assert told == min(seconds, 60)
    return seconds


def test_requests(limited: Callable[[Allowance], Limits]) -> None:
    """Each has a minute of its own; no other limit is there."""
    limits = limited(Allowance(requests=3))
    for _ in range(3):
        limits.request("a")
    assert 1 <= refused(RequestsReached, lambda: limits.request("a")) <= 60
    limits.request("b")
    for number in range(10):
        limits.manifest("b")
        limits.blob("b", str(number))
        limits.sent("b", 1 << 40)


def test_pulls(limited: Callable[[Allowance], Limits]) -> None:
    """Those of which nothing has come, and those that were refused, are none; blobs neither."""
    limits = limited(Allowance(pulls=2))
    for _ in range(5):
        limits.manifest("a")
        limits.not_pulled("a")
    limits.manifest("a")
    limits.manifest("a")
    for _ in range(3):
        assert 3600 < refused(PullsReached, lambda: limits.manifest("a")) <= 86400
    limits.not_pulled("a")
    limits.manifest("a")
    refused(PullsReached, lambda: limits.manifest("a"))
    limits.blob("a", "1")
    limits.manifest("b")


def test_bytes(limited: Callable[[Allowance], Limits]) -> None:
    """Who has had them gets neither layers nor manifests; sizes beyond 32 bits count."""
    limits = limited(Allowance(size=10**13))
    limits.sent("a", 10**13 - 1)
    limits.blob("a", "1")
    limits.sent("a", 0)
    limits.manifest("a")
    limits.sent("a", 5)
    assert 3600 < refused(BytesReached, lambda: limits.blob("a", "2")) <= 86400
    refused(BytesReached, lambda: limits.manifest("a"))
    limits.blob("b", "3")


def test_downloads(limited: Callable[[Allowance], Limits]) -> None:
    """A place is free again when its download is over, and only once."""
    limits = limited(Allowance(downloads=2))
    limits.blob("a", "1")
    limits.blob("a", "2")
    assert refused(DownloadsReached, lambda: limits.blob("a", "3")) == 10
    limits.blob("b", "1")
    limits.goes_on("a", "2")
    limits.ended("a", "1")
    limits.ended("a", "1")
    limits.blob("a", "4")
    refused(DownloadsReached, lambda: limits.blob("a", "5"))


@pytest.mark.parametrize(
    ("client", "who"),
    [
        pytest.param(ALICE, "user alice", id="a user"),
        pytest.param(Client("192.0.2.1"), "address 192.0.2.1", id="IPv4"),
        pytest.param(Client("::ffff:192.0.2.1"), "address 192.0.2.1", id="IPv4 written as IPv6"),
        pytest.param(Client("2001:db8:1:2:3::4"), "address 2001:db8:1:2::/64", id="IPv6"),
        pytest.param(Client("", is_known=False), "address ", id="a Unix socket"),
        pytest.param(Client("10.0.0.1", is_known=False), "address 10.0.0.1", id="a hidden one"),
    ],
)
def test_whose(client: Client, who: str) -> None:
    """A user from anywhere, or a site."""
    assert Limits(Allowance(requests=1), users_are_known=True).whose(client) == who


def test_names_that_anybody_may_take() -> None:
    """By a shared password one is whoever one likes, and so an address."""
    limits = Limits(Allowance(requests=1), users_are_known=False)
    assert limits.whose(ALICE) == "address 192.0.2.1"


def test_an_address_is_no_user() -> None:
    """No name of a user can be an address's."""
    limits = Limits(Allowance(requests=1), users_are_known=True)
    assert limits.whose(Client("x", user="address 192.0.2.1")) != limits.whose(Client("192.0.2.1"))
