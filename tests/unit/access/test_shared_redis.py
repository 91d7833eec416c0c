"""A Redis that goes away and comes back: nobody waits for it long, and the log says it once."""

import logging
import socket
from collections.abc import Iterator

import pytest

from app.access.allowance import Allowance
from app.access.limits import Limits
from app.access.places import LEASE, SharedPlaces
from app.access.shared_redis import SharedRedis
from app.oci.limit_errors import DownloadsReached, RequestsReached
from tests.redis_server import RedisServer


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
def silent() -> Iterator[str]:
    """Return the URL of what takes connections and never says anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        yield f"redis://:hidden@127.0.0.1:{listener.getsockname()[1]}/0"


def test_replicas_count_together(redis: RedisServer) -> None:
    """What one has counted counts for the other, which began later."""
    one, other = (
        Limits(Allowance(requests=2, downloads=1), SharedRedis(redis.url), users_are_known=False)
        for _ in range(2)
    )
    one.request("a")
    other.request("a")
    with pytest.raises(RequestsReached):
        one.request("a")
    one.blob("a", "1")
    with pytest.raises(DownloadsReached):
        other.blob("a", "2")
    one.ended("a", "1")
    other.blob("a", "2")


def test_it_goes_and_comes(
    redis: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """While it is away all pass; it is asked again after some seconds; two lines are logged."""
    caplog.set_level(logging.INFO, "app.access.shared_redis")
    limits = Limits(
        Allowance(requests=1, downloads=1, size=1, pulls=1),
        SharedRedis(redis.url, clock),
        users_are_known=False,
    )
    limits.request("a")
    redis.stop()
    for number in range(20):
        limits.request("a")
        limits.manifest("a")
        limits.pulled("a")
        limits.blob("a", str(number))
        limits.sent("a", 100)
        limits.goes_on("a", str(number))
        limits.ended("a", str(number))
        clock.now += 1
    redis.start()
    clock.now += 5
    limits.request("a")
    with pytest.raises(RequestsReached):
        limits.request("a")
    away, back = caplog.records
    assert (away.levelname, back.levelname) == ("WARNING", "INFO")
    assert "s3cr3t" not in caplog.text
    assert str(redis.socket) not in caplog.text


def test_one_that_is_silent(silent: str, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Only the first request waits for it, and then one every five seconds."""
    redis = SharedRedis(silent, clock)
    asked = []

    def question() -> bool:
        asked.append(clock.now)
        return bool(redis.connection.ping())

    for _ in range(12):
        assert redis.ask(question, otherwise=True)
        clock.now += 1
    assert asked == [1000, 1005, 1010]
    assert len(caplog.records) == 1
    assert "hidden" not in caplog.text


def test_a_wrong_password(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """It is as if Redis were away."""
    wrong = SharedRedis(redis.url.replace("s3cr3t", "other"))
    limits = Limits(Allowance(requests=1), wrong, users_are_known=False)
    for _ in range(3):
        limits.request("a")
    (line,) = caplog.records
    assert vars(line)["fields"] == {"kind": "AuthenticationError"}


def test_a_worker_that_died(redis: RedisServer) -> None:
    """Its downloads are over a minute later, and those that somebody speaks of are not."""
    places = SharedPlaces(SharedRedis(redis.url), 2)
    assert places.take("a", "dead")
    assert places.take("a", "alive")
    assert not places.take("a", "new")
    (key,) = redis.client.keys("*downloads*")
    assert 0 < redis.client.ttl(key) <= LEASE
    for name in ("dead", "alive"):
        redis.client.zincrby(key, -LEASE - 1, name)  # so much time goes by
    places.keep("a", "alive")
    assert places.take("a", "new")
    assert not places.take("a", "another")


def test_nothing_stays_for_ever(redis: RedisServer) -> None:
    """Every key ends by itself, and has this program's name."""
    limits = Limits(
        Allowance(requests=9, downloads=9, size=9, pulls=9),
        SharedRedis(redis.url),
        users_are_known=False,
    )
    limits.request("a")
    limits.blob("a", "1")
    limits.pulled("a")
    limits.sent("a", 3)
    keys = redis.client.keys("*")
    assert len(keys) == 4
    for key in keys:
        assert key.startswith(b"docxy:")
        assert 0 < redis.client.ttl(key) <= 86400
