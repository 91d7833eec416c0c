"""Connections to a Redis: each step of one has its time, and TLS is for the name that was given."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme
from redis import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.access.shared_redis import SharedRedis, build_pool
from tests.redis_server import RedisServer, redis_server
from tests.servers import free_port

LONG = 10.0
"""Seconds that nobody has waited who was told to wait a second for each step."""


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the URL of what takes connections and never says anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        yield f"redis://:hidden@127.0.0.1:{listener.getsockname()[1]}/0"


def test_one_that_is_silent(silent: str, caplog: pytest.LogCaptureFixture) -> None:
    """Many at once wait for it, a moment each, and nobody afterwards."""
    redis = SharedRedis(silent, lambda: 1000.0)
    asked = []

    def question() -> bool:
        asked.append(1)
        return bool(redis.connection.ping())

    began = time.monotonic()
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda _: redis.call(question, otherwise=True), range(60)))
    assert answers == [True] * 60
    assert time.monotonic() - began < LONG
    asked.clear()
    for _ in range(1000):
        assert redis.call(question, otherwise=True)
    assert not asked
    assert len(caplog.records) == 1
    assert "hidden" not in caplog.text


def test_a_name_that_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for either, though the C library waits, and others may look meanwhile."""
    over, asked = threading.Event(), threading.Semaphore(0)

    def look_up(*_arguments: object) -> list[object]:
        asked.release()
        over.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    redis = SharedRedis("redis://slow.example")
    began = time.monotonic()
    assert not redis.call(lambda: bool(redis.connection.ping()), otherwise=False)
    assert time.monotonic() - began < LONG
    assert asked.acquire(timeout=LONG)
    over.set()


def test_a_name_that_is_not_answered_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many connections need it: it keeps one thread, and each of them gets a timeout."""
    over, asked = threading.Event(), list[str]()

    def look_up(host: str, *_arguments: object) -> list[object]:
        asked.append(host)
        over.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    pool = build_pool("redis://slow.example", 0.05)
    with ThreadPoolExecutor(10) as callers:
        waiting = [callers.submit(Redis(connection_pool=pool).ping) for _ in range(10)]
        for one in waiting:
            with pytest.raises(RedisTimeoutError):
                one.result(LONG)
    assert asked == ["slow.example"]
    over.set()


def test_each_address_of_a_name_is_tried(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at which nobody listens is not the end."""
    port = free_port()
    redis.client.config_set("bind", "127.0.0.1")
    redis.client.config_set("port", str(port))
    usual = socket.getaddrinfo

    def look_up(host: str, *arguments: object, **more: object) -> object:
        if host != "redis.example":
            return usual(host, *arguments, **more)  # type: ignore[arg-type] # as they came
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (at, port))
            for at in ("127.0.0.2", "127.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    pool = build_pool(f"redis://:{redis.password}@redis.example:{port}", 2)
    assert Redis(connection_pool=pool).ping()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> Iterator[str]:
    """Return what stands behind the host in the URL of a Redis with TLS."""
    certificate, both, port = tmp_path / "ca.pem", tmp_path / "both.pem", str(free_port())
    authority.cert_pem.write_to_path(str(certificate))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(both))
    with redis_server(
        "--tls-port", port, "--tls-cert-file", both, "--tls-key-file", both,
        "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no",
    ):  # fmt: skip
        yield f":{port}/0?ssl_ca_certs={certificate}"


def test_tls(tls: str) -> None:
    """Its certificate has to be of the authority, and for the name; databases are told apart."""
    login = "rediss://:s3cr3t-of-redis@"
    assert Redis(connection_pool=build_pool(f"{login}localhost{tls}", 2)).ping()
    wrong_name = f"{login}127.0.0.1{tls}"
    no_authority = f"{login}localhost{tls.partition('?')[0]}"
    for url in (wrong_name, no_authority):
        with pytest.raises(RedisError, match="CERTIFICATE_VERIFY_FAILED"):
            Redis(connection_pool=build_pool(url, 2)).ping()
