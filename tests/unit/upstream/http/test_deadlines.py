"""Bounds of time: what waits for an upstream ends with them, however its bytes drip."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from app.oci.errors import UpstreamTimeout
from app.upstream.http.body import Body, discard, read_whole
from app.upstream.http.connect import Connector
from app.upstream.http.deadlines import NO_LIMIT, SHARED_LIMIT, Call, bind_call, get_call
from app.upstream.http.redirects import Redirects
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from tests.unit.upstream.server import PATIENCE, Server, answering, request, serving

BOUND = 0.4
"""Seconds; whoever waits for each byte anew waits for much longer here."""

KEPT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
HEAD = KEPT.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


def dripping(*parts: bytes, every: float = 0.02) -> Callable[[socket.socket, Server], None]:
    """Return a script that answers with the first part at once, and drips the others."""

    def script(peer: socket.socket, server: Server) -> None:
        request(peer)
        peer.sendall(parts[0])
        for number in range(len(rest := b"".join(parts[1:]))):
            if server.go_on.wait(every):
                return
            peer.sendall(rest[number : number + 1])

    return script


def patient(timeout: float = PATIENCE) -> Session:
    """Return a session that waits so long for each byte."""
    return Session(
        ca_bundles=[],
        proxies=OutboundProxies(https=None, http=None, no_proxy=""),
        connect_timeout=timeout,
        read_timeout=timeout,
        connector=Connector(allow_private=True, prefer_ipv4=False),
    )


class Present:
    """A client that stays."""

    def is_gone(self) -> bool:
        """Tell."""
        return False


@contextlib.contextmanager
def taking(least: float, most: float) -> Iterator[None]:
    """Assert that a block takes so long."""
    began = time.monotonic()
    yield
    assert least <= time.monotonic() - began < most


def test_seconds_left() -> None:
    """A timeout is shortened, and only for the call."""
    assert NO_LIMIT.seconds_left(5) == 5
    assert NO_LIMIT.seconds_left(None) is None
    call = NO_LIMIT.limit_time(3)
    assert 2.9 < call.seconds_left(5) <= 3
    assert call.seconds_left(1) == 1
    left = call.seconds_left(None)
    assert left is not None
    assert 2.9 < left <= 3
    assert NO_LIMIT.seconds_left(5) == 5


def test_a_limit_within_a_limit() -> None:
    """The inner one can only be the shorter one."""
    call = NO_LIMIT.limit_time(1)
    assert call.limit_time(60).seconds_left(60) <= 1
    assert call.limit_time(0.5).seconds_left(60) <= 0.5
    assert 0.5 < call.seconds_left(60) <= 1


def test_a_shared_call() -> None:
    """It has its own time, no client, and the same fallback."""
    call = Call(Present(), has_fallback=lambda: True).limit_time(0)
    shared = call.share()
    assert SHARED_LIMIT - 0.1 < shared.seconds_left(60) <= SHARED_LIMIT
    assert shared.limit_time(0.5).seconds_left(60) <= 0.5
    assert (shared.client, shared.has_fallback) == (None, call.has_fallback)
    with pytest.raises(TimeoutError):
        call.seconds_left(60)


def test_nothing_is_left() -> None:
    """That is a timeout like any other."""
    with pytest.raises(TimeoutError):
        NO_LIMIT.limit_time(0).seconds_left(5)


def test_each_thread_has_its_own() -> None:
    """Nobody's time runs out with another one's."""
    seen: list[Call] = []
    mine = NO_LIMIT.limit_time(0)
    with bind_call(mine):
        thread = threading.Thread(target=lambda: seen.append(get_call()))
        thread.start()
        thread.join(PATIENCE)
        assert get_call() is mine
    assert seen == [get_call()] == [NO_LIMIT]


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((b"", HEAD), id="status line"),
        pytest.param((b"HTTP/1.1 200 OK\r\n", b"X-Slow: " + b"a" * 1000), id="field"),
        pytest.param((b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10), id="interim answers"),
    ],
)
def test_a_head_that_drips(parts: tuple[bytes, ...]) -> None:
    """It has a time as a whole, and its end is a timeout."""
    with serving(dripping(*parts)) as server, taking(BOUND, 4):
        own = patient()
        with pytest.raises(UpstreamTimeout):
            own.send("GET", server.url, [], call=NO_LIMIT.limit_time(BOUND))


def test_a_head_that_drips_without_a_bound() -> None:
    """A session has one of its own: twice the read timeout."""
    script = dripping(b"", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000)
    with serving(script) as server, taking(2 * BOUND, 4), pytest.raises(UpstreamTimeout):
        patient(BOUND).send("GET", server.url, [])


def test_a_body_that_drips() -> None:
    """Its time is that of whoever reads it, and not of the head."""
    with serving(dripping(HEAD, b"a" * 100)) as server:
        own = patient()
        response = own.send("GET", server.url, [], call=NO_LIMIT.limit_time(1.5))
        assert read_whole(response, 1000, NO_LIMIT) == b"a" * 100
        response = own.send("GET", server.url, [])
        with taking(BOUND, 3), pytest.raises(ConnectionResetError):
            list(Body(response, NO_LIMIT.limit_time(BOUND)))


def test_chunks_that_drip() -> None:
    """Also where nothing comes of them."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(dripping(chunked, b"1;" + b"a" * 4000)) as server:
        response = patient().send("GET", server.url, [])
        with taking(BOUND, 3), pytest.raises(ConnectionResetError):
            list(Body(response, NO_LIMIT.limit_time(BOUND)))


def test_redirects_that_drip() -> None:
    """All of them together have the time of one."""
    location = b"HTTP/1.1 307 X\r\nLocation: /again\r\nConnection: close\r\nContent-Length: 0\r\n"
    with serving(dripping(location, b"X: " + b"a" * 30 + b"\r\n\r\n")) as server:
        redirects = Redirects(patient(1))
        with taking(2, 6), pytest.raises(UpstreamTimeout):
            redirects.fetch("GET", server.url, [], NO_LIMIT)
        assert 2 <= len(server.peers) <= 4


def test_what_is_skipped_drips() -> None:
    """What follows it has its own time again."""
    with serving(dripping(HEAD, b"a" * 100)) as server:
        body = Body(patient().send("GET", server.url, []))
        with taking(BOUND, 3):
            assert not body.skip(90, NO_LIMIT.limit_time(BOUND))
        body = Body(patient().send("GET", server.url, []))
        assert body.skip(10, NO_LIMIT.limit_time(1))
        assert b"".join(body) == b"a" * 90


def test_what_nobody_reads_drips() -> None:
    """It is dropped after a second, with its connection."""
    with serving(dripping(KEPT, b"a" * 99)) as server:
        own = patient()
        response = own.send("GET", server.url, [])
        with taking(0.9, 3):
            discard(response)
        own.send("GET", server.url, []).close()
        assert len(server.peers) == 2


def test_what_nobody_reads_comes_soon() -> None:
    """Its connection is used again."""

    def script(peer: socket.socket, server: Server) -> None:
        while request(peer):
            peer.sendall(KEPT)
            assert not server.go_on.wait(0.05)
            peer.sendall(b"a" * 100)

    with serving(script) as server:
        own = patient()
        discard(own.send("GET", server.url, []))
        discard(own.send("GET", server.url, []))
        assert len(server.peers) == 1


def test_a_question_that_comes_too_late() -> None:
    """It is not asked, and the host is not to blame."""
    with serving(answering(HEAD)) as server:
        own = patient()
        for _ in range(10):
            with pytest.raises(UpstreamTimeout):
                own.send("GET", server.url, [], call=NO_LIMIT.limit_time(0))
        assert own.send("GET", server.url, []).status_code == 200
        assert len(server.peers) == 1
