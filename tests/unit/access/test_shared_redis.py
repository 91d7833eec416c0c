"""A Redis that goes away and comes back: nobody waits for it long, and the log says it once."""

import logging
from collections.abc import Iterator

import pytest

from app.access.downloads import Allowance
from app.access.limits import ClientLimits
from app.access.shared_redis import LEASE, RedisConcurrencyLimiter, SharedRedis
from app.oci.errors import DownloadLimitReached, RequestLimitReached
from tests.redis_server import RedisServer
from tests.servers import wait_until


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
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Return what is logged; never a password, nor where Redis is."""
    caplog.set_level(logging.INFO, "app.access.shared_redis")
    yield caplog
    told = caplog.text + "".join(str(vars(line)) for line in caplog.records)
    assert "s3cr3t" not in told
    assert "docxy-redis-" not in told


def limited(redis: SharedRedis, requests: int = 1) -> ClientLimits:
    """Return limits of all kinds."""
    allowance = Allowance(requests=requests, downloads=1, size=1, pulls=1)
    return ClientLimits(allowance, redis, users_are_known=False)


def all_of(limits: ClientLimits, name: str) -> None:
    """Do all that is counted."""
    limits.charge_request("a")
    limits.charge_pull("a")
    limits.refund_pull("a")
    limits.begin_download("a", name)
    limits.charge_bytes("a", 100)
    limits.renew_download("a", name)
    limits.end_download("a", name)


def is_refused(limits: ClientLimits) -> bool:
    """Tell whether requests are counted."""
    try:
        limits.charge_request("a")
    except RequestLimitReached:
        return True
    return False


def test_replicas_count_together(redis: RedisServer) -> None:
    """What one has counted counts for the other, which began later."""
    one, other = (
        ClientLimits(
            Allowance(requests=2, downloads=1), SharedRedis(redis.url), users_are_known=False
        )
        for _ in range(2)
    )
    one.charge_request("a")
    other.charge_request("a")
    with pytest.raises(RequestLimitReached):
        one.charge_request("a")
    one.begin_download("a", "1")
    with pytest.raises(DownloadLimitReached):
        other.begin_download("a", "2")
    one.end_download("a", "1")
    other.begin_download("a", "2")


def test_it_goes_and_comes(redis: RedisServer, clock: Clock, log: pytest.LogCaptureFixture) -> None:
    """While it is away all pass; it is looked at after some seconds; two lines are logged."""
    limits = limited(SharedRedis(redis.url, clock))
    limits.charge_request("a")
    redis.stop()
    for number in range(20):
        all_of(limits, str(number))
        clock.now += 1
    redis.start()
    clock.now += 5
    wait_until(lambda: is_refused(limits), what="it to count again")
    away, back = log.records
    assert (away.levelname, back.levelname) == ("WARNING", "INFO")


def test_it_is_not_looked_at_for_each_request(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many come while it is away, each look is some seconds after the one before."""
    redis, looks = SharedRedis("redis://127.0.0.1:1", clock), list[None]()

    def fail(*_: object) -> bool:
        looks.append(None)
        raise ConnectionRefusedError

    assert redis.call(fail, otherwise=True)
    monkeypatch.setattr(redis.storage, "incr", fail)
    looks.clear()
    for _ in range(15):
        clock.now += 1
        assert redis.call(fail, otherwise=True)
    wait_until(lambda: len(looks) >= 3, what="three looks")
    assert len(looks) == 3


def test_one_that_was_started_anew(redis: RedisServer, log: pytest.LogCaptureFixture) -> None:
    """Connections that have ended meanwhile are no failure."""
    limits = limited(SharedRedis(redis.url))
    limits.charge_request("a")
    assert is_refused(limits)
    redis.stop()
    redis.start()
    assert not is_refused(limits)  # it has forgotten
    assert is_refused(limits)
    assert not log.records


@pytest.mark.parametrize(
    ("breaks", "mends", "kind"),
    [
        pytest.param(
            "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OutOfMemoryError", id="full"
        ),
        pytest.param(
            "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "ReadOnlyError", id="a replica"
        ),
        pytest.param(
            "ACL SETUSER default -@write", "ACL SETUSER default +@all", "ResponseError",
            id="may not write",
        ),
    ],
)  # fmt: skip
def test_one_that_refuses(
    log: pytest.LogCaptureFixture, redis: RedisServer, breaks: str, mends: str, kind: str
) -> None:
    """It is as if it were away, also where it still answers who only reads."""
    clock = Clock()
    limits = limited(SharedRedis(redis.url, clock))
    limits.charge_request("a")
    redis.client.execute_command(*breaks.split())
    for number in range(12):
        all_of(limits, str(number))
        clock.now += 1
    (line,) = log.records
    assert vars(line)["fields"] == {"error_type": kind}
    redis.client.execute_command(*mends.split())
    clock.now += 5
    wait_until(lambda: is_refused(limits), what="it to count again")
    assert [line.levelname for line in log.records] == ["WARNING", "INFO"]


def test_one_without_the_password(redis: RedisServer, log: pytest.LogCaptureFixture) -> None:
    """The URL has none, and one is needed."""
    limits = limited(SharedRedis(f"unix://{redis.socket}"))
    all_of(limits, "1")
    assert not is_refused(limits)
    (line,) = log.records
    assert vars(line)["fields"] == {"error_type": "AuthenticationError"}


def test_a_worker_that_died(redis: RedisServer) -> None:
    """Its downloads are over a minute later, and those that somebody speaks of are not."""
    places = RedisConcurrencyLimiter(SharedRedis(redis.url), 2)
    assert places.try_acquire("a", "dead")
    assert places.try_acquire("a", "alive")
    assert not places.try_acquire("a", "new")
    (key,) = redis.client.keys("*downloads*")
    assert 0 < redis.client.ttl(key) <= LEASE
    for name in ("dead", "alive"):
        redis.client.zincrby(key, -LEASE - 1, name)  # so much time goes by
    places.renew("a", "alive")
    assert places.try_acquire("a", "new")
    assert not places.try_acquire("a", "another")


def test_nothing_stays_for_ever(redis: RedisServer) -> None:
    """Every key ends by itself, and has this program's name."""
    limits = ClientLimits(
        Allowance(requests=9, downloads=9, size=9, pulls=9),
        SharedRedis(redis.url),
        users_are_known=False,
    )
    limits.charge_request("a")
    limits.begin_download("a", "1")
    limits.charge_pull("a")
    limits.charge_bytes("a", 3)
    keys = redis.client.keys("*")
    assert len(keys) == 4
    for key in keys:
        assert key.startswith(b"docxy:")
        assert 0 < redis.client.ttl(key) <= 86400
