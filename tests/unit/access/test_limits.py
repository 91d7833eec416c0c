"""How much each may have, whether it is counted in memory or in a Redis."""

from collections.abc import Callable

import pytest

from app.access.downloads import Allowance
from app.access.limits import ClientLimits
from app.access.networks import ClientIdentity
from app.access.shared_redis import SharedRedis
from app.oci.errors import (
    ByteLimitReached,
    DownloadLimitReached,
    LimitReached,
    PullLimitReached,
    RequestLimitReached,
)

ALICE = ClientIdentity("192.0.2.1", user="alice")


@pytest.fixture(params=["in memory", "in Redis"])
def limited(request: pytest.FixtureRequest) -> Callable[[Allowance], ClientLimits]:
    """Return what makes limits that count in either place."""
    if request.param == "in memory":
        return lambda allowance: ClientLimits(allowance, users_are_known=True)
    redis = SharedRedis(request.getfixturevalue("redis").url)
    return lambda allowance: ClientLimits(allowance, redis, users_are_known=True)


def refused(kind: type[LimitReached], action: Callable[[], None]) -> int:
    """Return the seconds that a refusal of this kind says; no client is to wait for hours."""
    with pytest.raises(kind) as caught:
        action()
    told = int(caught.value.extra_headers["Retry-After"])
    assert caught.value.detail["rule"] == kind.refused_by
    seconds: int = caught.value.detail.get("reset_seconds", told)
    assert told == min(seconds, 60)
    return seconds


def test_requests(limited: Callable[[Allowance], ClientLimits]) -> None:
    """Each has a minute of its own; no other limit is there."""
    limits = limited(Allowance(requests=3))
    for _ in range(3):
        limits.charge_request("a")
    assert 1 <= refused(RequestLimitReached, lambda: limits.charge_request("a")) <= 60
    limits.charge_request("b")
    for number in range(10):
        limits.charge_pull("b")
        limits.begin_download("b", str(number))
        limits.charge_bytes("b", 1 << 40)


def test_pulls(limited: Callable[[Allowance], ClientLimits]) -> None:
    """Those of which nothing has come, and those that were refused, are none; blobs neither."""
    limits = limited(Allowance(pulls=2))
    for _ in range(5):
        limits.charge_pull("a")
        limits.refund_pull("a")
    limits.charge_pull("a")
    limits.charge_pull("a")
    for _ in range(3):
        assert 3600 < refused(PullLimitReached, lambda: limits.charge_pull("a")) <= 86400
    limits.refund_pull("a")
    limits.charge_pull("a")
    refused(PullLimitReached, lambda: limits.charge_pull("a"))
    limits.begin_download("a", "1")
    limits.charge_pull("b")


def test_bytes(limited: Callable[[Allowance], ClientLimits]) -> None:
    """Who has had them gets neither layers nor manifests; sizes beyond 32 bits count."""
    limits = limited(Allowance(size=10**13))
    limits.charge_bytes("a", 10**13 - 1)
    limits.begin_download("a", "1")
    limits.charge_bytes("a", 0)
    limits.charge_pull("a")
    limits.charge_bytes("a", 5)
    assert 3600 < refused(ByteLimitReached, lambda: limits.begin_download("a", "2")) <= 86400
    refused(ByteLimitReached, lambda: limits.charge_pull("a"))
    limits.begin_download("b", "3")


def test_downloads(limited: Callable[[Allowance], ClientLimits]) -> None:
    """A place is free again when its download is over, and only once."""
    limits = limited(Allowance(downloads=2))
    limits.begin_download("a", "1")
    limits.begin_download("a", "2")
    assert refused(DownloadLimitReached, lambda: limits.begin_download("a", "3")) == 10
    limits.begin_download("b", "1")
    limits.renew_download("a", "2")
    limits.end_download("a", "1")
    limits.end_download("a", "1")
    limits.begin_download("a", "4")
    refused(DownloadLimitReached, lambda: limits.begin_download("a", "5"))


@pytest.mark.parametrize(
    ("client", "who"),
    [
        pytest.param(ALICE, "user alice", id="a user"),
        pytest.param(ClientIdentity("192.0.2.1"), "address 192.0.2.1", id="IPv4"),
        pytest.param(
            ClientIdentity("::ffff:192.0.2.1"), "address 192.0.2.1", id="IPv4 written as IPv6"
        ),
        pytest.param(ClientIdentity("2001:db8:1:2:3::4"), "address 2001:db8:1:2::/64", id="IPv6"),
        pytest.param(ClientIdentity("", is_known=False), "address ", id="a Unix socket"),
        pytest.param(
            ClientIdentity("10.0.0.1", is_known=False), "address 10.0.0.1", id="a hidden one"
        ),
    ],
)
def test_whose(client: ClientIdentity, who: str) -> None:
    """A user from anywhere, or a site."""
    assert ClientLimits(Allowance(requests=1), users_are_known=True).identify(client) == who


def test_names_that_anybody_may_take() -> None:
    """By a shared password one is whoever one likes, and so an address."""
    limits = ClientLimits(Allowance(requests=1), users_are_known=False)
    assert limits.identify(ALICE) == "address 192.0.2.1"


def test_an_address_is_no_user() -> None:
    """No name of a user can be an address's."""
    limits = ClientLimits(Allowance(requests=1), users_are_known=True)
    assert limits.identify(ClientIdentity("x", user="address 192.0.2.1")) != limits.identify(
        ClientIdentity("192.0.2.1")
    )
