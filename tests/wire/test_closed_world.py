"""Nothing that a client sends names a host to dial, and what is not served is told by no list."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Final

import pytest

from tests.servers import Docxy, docxy
from tests.tables import write_config
from tests.wire.client import Answer, Client
from tests.wire.upstream import Upstream, always, playing, response

BASIC: Final = "Authorization: Basic YWxpY2U6c2VjcmV0"
EXPECTED: Final = (
    r"/(v2/owner/app/manifests/1$|v2/a/b/tags/list\?n=1000$|v2/$|token\?|v1/search\?q=)"
)
NAMES: Final = ("docker.io", "other.test", "hidden.test")


@pytest.fixture(scope="module")
def registry() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(registry: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docxy]:
    common = {"token_url": f"{registry.url}/token", "token_service": "s", "allow_private": True}
    hosts = {"other.test": ["other.proxy.test"]}
    rows = [
        {"name": name, "url": registry.url, "hosts": hosts.get(name, []), **common}
        for name in NAMES
    ]
    path = write_config(tmp_path_factory.mktemp("closed") / "docxy.toml", rows)
    with docxy(DOCXY_CONFIG=str(path), DOCXY_INDEX_URL=registry.url) as proxy:
        yield proxy


@pytest.fixture
def upstream(registry: Upstream) -> Iterator[Upstream]:
    with playing(registry):
        registry.play(always(response(b"{}", "Content-Type: application/json")))
        yield registry


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """Listen where nobody has any business; whoever came is seen at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


def send(proxy: Docxy, target: str, *fields: str, host: str | None = None) -> Answer:
    """Send a GET with this Host, or with the proxy's own."""
    with Client(proxy.host) as client:
        lines = [f"GET {target} HTTP/1.1", f"Host: {host or proxy.host}", *fields]
        client.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return client.answer()


UNKNOWN = [
    "/v2/evil.test/owner/app/manifests/1",
    "/v2/docker.io.evil.test/owner/app/manifests/1",
    "/v2/ghcr.io/owner/app/tags/list",
    "/v2/owner/app/manifests/1?ns=evil.test",
    "/v2/owner/app/manifests/1?ns=https://docker.io",
    "/v2/owner/app/manifests/1?ns=docker.io/",
    "/v2/owner/app/manifests/1?ns=docker.io@evil.test",
    "/v2/owner/app/manifests/1?ns=docker.io%23",
    "/v2/owner/app/manifests/1?ns=docker.io%20",
    "/v2/owner/app/manifests/1?ns=docker.io.",
    "/v2/owner/app/manifests/1?ns=docker.io:80",
    "/v2/owner/app/manifests/1?ns=docker.io:443:443",
    "/v2/owner/app/manifests/1?ns=*",
    "/v2/owner/app/manifests/1?ns=..",
    "/v2/owner/app/manifests/1?ns=%ff",
    "/v2/?ns=evil.test",
    "/auth/token?ns=evil.test",
    f"/v2/evil.test/owner/app/blobs/sha256:{'0' * 64}",
    f"/v2/evil.test/owner/app/referrers/sha256:{'0' * 64}",
]


def test_what_is_not_served(proxy: Docxy, upstream: Upstream) -> None:
    """It is 404 NAME_UNKNOWN, whoever asks; nobody is asked, and no served name is told."""
    for target in UNKNOWN:
        for fields in ((), (BASIC,), ("Authorization: Bearer x",)):
            answer = send(proxy, target, *fields)
            (error,) = json.loads(answer.body)["errors"]
            assert (answer.status, error["code"]) == (404, "NAME_UNKNOWN"), target
            said = answer.body.decode()
            assert [name for name in NAMES if name in said] == [], target
            assert not answer.head.values("WWW-Authenticate"), target
        assert upstream.asked == [], target


def test_refusals_do_not_differ(proxy: Docxy, upstream: Upstream) -> None:
    """Nobody learns from the words of a refusal what else there may be."""
    bodies = {send(proxy, target).body for target in UNKNOWN}
    assert len(bodies) == 1
    assert upstream.asked == []


@pytest.mark.parametrize("host", ["evil.test", "ghcr.io", "10.0.0.1", "localhost:1", "[::1]:443"])
def test_an_unknown_host_is_the_default(proxy: Docxy, upstream: Upstream, host: str) -> None:
    """It chooses nothing, and a challenge names what the client itself wrote."""
    answer = send(proxy, "/v2/owner/app/manifests/1", host=host)
    assert answer.status == 200
    assert [asked.target for asked in upstream.asked] == ["/v2/owner/app/manifests/1"]
    assert upstream.asked[0].value("Host") == f"127.0.0.1:{upstream.port}"


NO_HOSTS: Final = [
    "a/b",
    "a b",
    "a@b",
    "evil.test/v2",
    "a:b",
    "a,b",
    'a"b',
    "a\\b",
    "a:1:2",
    "[::1",
]


def test_a_host_that_is_none(proxy: Docxy, upstream: Upstream) -> None:
    """Nothing is asked for it."""
    for host in NO_HOSTS:
        answer = send(proxy, "/v2/owner/app/manifests/1", BASIC, host=host)
        assert answer.status == 400, host
        assert upstream.asked == [], host


@pytest.mark.parametrize("second", ["evil.test", "other.proxy.test", ""])
def test_two_hosts(proxy: Docxy, upstream: Upstream, second: str) -> None:
    """Who names two hosts has no login that could be either's."""
    answer = send(proxy, "/v2/owner/app/manifests/1", f"Host: {second}", BASIC)
    assert answer.status == 400
    assert upstream.asked == []


def test_nothing_is_dialled(proxy: Docxy, upstream: Upstream, trap: socket.socket) -> None:
    """A socket that every part of a request names sees no connection."""
    there = f"127.0.0.1:{trap.getsockname()[1]}"
    name = f"localhost:{trap.getsockname()[1]}"
    attempts: list[tuple[str, tuple[str, ...], str | None]] = [
        (f"/v2/owner/app/manifests/1?ns={there}", (), None),
        (f"/v2/owner/app/manifests/1?ns=http://{there}", (), None),
        (f"/v2/owner/app/manifests/1?ns=docker.io@{there}", (), None),
        (f"/v2/{there}/owner/app/manifests/1", (), None),
        (f"/v2/{name}/owner/app/manifests/1", (), None),
        (f"/v2/127.0.0.1/owner/app/manifests/1?ns={there}", (), None),
        (f"/v2/@{there}/owner/app/manifests/1", (), None),
        (f"//{there}/v2/owner/app/manifests/1", (), None),
        (f"/v2//{there}/manifests/1", (), None),
        (f"/v2/..//{there}/manifests/1", (), None),
        ("/v2/owner/app/manifests/1", (), there),
        ("/v2/owner/app/manifests/1", (), f"docker.io@{there}"),
        ("/v2/owner/app/manifests/1", (f"X-Forwarded-Host: {there}",), None),
        ("/v2/owner/app/manifests/1", (f"X-Forwarded-Host: docker.io, {there}",), None),
        ("/v2/owner/app/manifests/1", (f"Forwarded: host={there};proto=http",), None),
        ("/v2/owner/app/manifests/1", (f"X-Original-URL: http://{there}/",), None),
        ("/v2/owner/app/manifests/1", (f"Referer: http://{there}/",), None),
        ("/v2/owner/app/manifests/1", (f"Proxy: http://{there}",), None),
        (f"http://{there}/v2/owner/app/manifests/1", (), None),
        (f"http://{there}/v2/owner/app/manifests/1", (), there),
        (f"https://{there}/v2/?ns={there}", (), there),
        (f"/auth/token?realm=http://{there}/token&scope=repository:a/b:pull", (BASIC,), None),
        (f"/auth/token?service={there}&scope=repository:{there}/b:pull", (BASIC,), None),
        (f"/auth/token?ns={there}&scope=repository:a/b:pull", (BASIC,), None),
        (f"/auth/token?url=http://{there}&token_url=http://{there}", (BASIC,), None),
        (f"/page/tags?image={there}/a/b", (BASIC,), None),
        (f"/page/tags?image=http://{there}/a/b", (), None),
        (f"/page/tags?image=docker.io@{there}/a/b", (), None),
        (f"/page/tags?image={there}/a/b&ns={there}", (), there),
        (f"/config/docker?url=http://{there}", (), there),
    ]
    statuses = [send(proxy, target, *more, host=host).status for target, more, host in attempts]
    assert {status for status in statuses if status >= 500} == set()
    send(proxy, f"/v1/search?q=http://{there}&index={there}&url=http://{there}", BASIC, host=there)
    for asked in upstream.asked:
        assert asked.value("Host") == f"127.0.0.1:{upstream.port}"
        assert re.match(EXPECTED, asked.target)


def test_a_request_to_tunnel(proxy: Docxy, upstream: Upstream, trap: socket.socket) -> None:
    """CONNECT is no method of a registry, and nothing is connected."""
    with Client(proxy.host) as client:
        client.send(
            f"CONNECT 127.0.0.1:{trap.getsockname()[1]} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        assert client.head().status in {400, 404, 405}
    assert upstream.asked == []
