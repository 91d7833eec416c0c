"""The settings of limits: what may be written, and what cannot be counted."""

import pytest

from app.access.downloads import Allowance
from app.access.shared_redis import SharedRedis
from app.config.load import SettingsError, load


def fault(environment: pytest.MonkeyPatch, **variables: str) -> str:
    """Return why a start is refused."""
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    return str(caught.value)


def test_nothing_is_limited(environment: pytest.MonkeyPatch) -> None:
    """Where nothing is set, with any number of workers."""
    environment.setenv("WEB_CONCURRENCY", "8")
    assert load().allowance.is_unlimited


def test_all_of_them(environment: pytest.MonkeyPatch) -> None:
    """Sizes are written as people write them."""
    environment.setenv("DOCXY_LIMIT_REQUESTS", "600")
    environment.setenv("DOCXY_LIMIT_DOWNLOADS", "6")
    environment.setenv("DOCXY_LIMIT_BYTES", "50GB")
    environment.setenv("DOCXY_LIMIT_PULLS", "200")
    expected = Allowance(requests=600, downloads=6, size=50 * 10**9, pulls=200)
    assert load().allowance == expected


@pytest.mark.parametrize("name", ["REQUESTS", "DOWNLOADS", "BYTES", "PULLS"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_no_limits(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Nobody is locked out by a zero."""
    variable = f"DOCXY_LIMIT_{name}"
    assert f"\n  {variable}: " in fault(environment, **{variable: value})


@pytest.mark.parametrize("name", ["REQUESTS", "DOWNLOADS", "BYTES", "PULLS"])
def test_several_workers(environment: pytest.MonkeyPatch, name: str) -> None:
    """Each would count by itself; the message says what to set."""
    variable = f"DOCXY_LIMIT_{name}"
    message = fault(environment, WEB_CONCURRENCY="2", **{variable: "9000000"})
    assert f"\n  {variable}: 2 workers would count separately" in message
    assert "set DOCXY_REDIS_URL" in message
    assert "WEB_CONCURRENCY=1" in message
    environment.setenv("DOCXY_REDIS_URL", "redis://redis.example")
    assert load().redis_url is not None
    environment.delenv("DOCXY_REDIS_URL")
    environment.setenv("WEB_CONCURRENCY", "1")
    assert load().redis_url is None


def test_a_redis_without_limits(environment: pytest.MonkeyPatch) -> None:
    """Somebody believes that something is limited."""
    message = fault(environment, DOCXY_REDIS_URL="redis://redis.example")
    assert "DOCXY_REDIS_URL: Redis counts limits, but no limit is set" in message


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis.example",
        "redis://:s3cr3t@redis.example:6379/0",
        "redis://user:s3cr3t@[2001:db8::1]:6379",
        "rediss://redis.example/3",
        "rediss://redis.example?ssl_ca_certs=/etc/ca.pem&db=3",
        "unix:///run/redis.sock",
        "unix://:s3cr3t@/run/redis.sock?db=2",
    ],
)
def test_addresses_of_redis(environment: pytest.MonkeyPatch, url: str) -> None:
    """Each can be made a connection of, and none is connected to yet."""
    environment.setenv("DOCXY_LIMIT_PULLS", "1")
    environment.setenv("DOCXY_REDIS_URL", url)
    secret = load().redis_url
    assert secret is not None
    assert "s3cr3t" not in repr(secret)
    SharedRedis(secret.get_secret_value())


NO_ADDRESSES = [
    "redis.example:6379",
    "http://redis.example",
    "redis://",
    "unix://",
    "redis://:s3cr3t@redis.example:port",
    "redis://:s3cr3t@[::1",
    "redis://:s3cr3t@redis.example/name",
    "redis://:s3cr3t#1@redis.example",
    "redis://:s3cr3t@redis.example?db=name",
    "redis://:s3cr3t@redis.example?db=",
    "redis://:s3cr3t@redis.example?decode=1",
    "redis://:s3cr3t@redis.example?ssl_ca_certs=/etc/ca.pem",
    "redis://:s3cr3t@redis.example?socket_timeout=900",
]


def test_no_addresses_of_redis(environment: pytest.MonkeyPatch) -> None:
    """It is said what to write, and no password is told."""
    for url in NO_ADDRESSES:
        message = fault(environment, DOCXY_LIMIT_PULLS="1", DOCXY_REDIS_URL=url)
        assert "DOCXY_REDIS_URL: write a URL like redis://" in message, url
        assert "s3cr3t" not in message, url
