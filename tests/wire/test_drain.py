import contextlib
import json
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.servers import Docxy, docxy_on_its_own_socket
from tests.wire.client import Client, Ending
from tests.wire.upstream import Connection, Upstream, always, head, playing, response
from tests.wire.wires import BLOB, MANIFEST, Wire, upstream_settings


def own_docxy(upstream: Upstream, home: Path, **more: str) -> AbstractContextManager[Docxy]:
    """Run Docxy before this upstream."""
    return docxy_on_its_own_socket(**upstream_settings(upstream, home, **more))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream, playing(upstream):
        yield upstream


def refused(host: str) -> bool:
    """Tell whether a new connection is not let in."""
    try:
        Client(host, timeout=2).close()
    except OSError:
        return True
    return False


def test_a_stop_lets_downloads_finish_and_lets_nobody_in(upstream: Upstream, home: Path) -> None:
    """SIGTERM: what runs is completed, what comes is refused, idle connections hold up nothing."""

    def script(connection: Connection) -> None:
        while connection.head().target != BLOB:
            connection.send(response(b"{}"))
        connection.send(head("Content-Length: 12"), b"before")
        while not refused(proxy.host):
            connection.left.wait(0.05)
        connection.left.wait(1.5)
        connection.send(b"after.")

    upstream.play(script)
    with own_docxy(upstream, home) as proxy, contextlib.ExitStack() as stack:
        loading, fresh, *idle = (stack.enter_context(Client(proxy.host)) for _ in range(6))
        for client in idle:
            assert client.get(MANIFEST).body == b"{}"
        assert fresh.port
        loading.ask(BLOB)
        assert loading.head().status == 200
        assert loading.exactly(6) == b"before"
        proxy.server.process.send_signal(signal.SIGTERM)
        for client in idle:
            assert client.rest() == b""
            assert client.ending is Ending.FIN
        assert proxy.server.process.poll() is None
        assert loading.exactly(6) == b"after."
        assert loading.rest() == b""
        finished = time.monotonic()
        assert proxy.server.process.wait(10) == 0
        assert time.monotonic() - finished < 9
        assert refused(proxy.host)
        assert "Traceback" not in proxy.log


def test_idle_connections_do_not_delay_a_stop(upstream: Upstream, home: Path) -> None:
    """Neither kept ones, nor such as never said anything, nor half a request."""
    upstream.play(always(response(b"{}")))
    with own_docxy(upstream, home) as proxy, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(proxy.host)) for _ in range(9)]
        for client in clients[:3]:
            assert client.get(MANIFEST).status == 200
        for client in clients[3:6]:
            client.send(b"GET /v2/ HTTP/1.1\r\nHost: half")
        started = time.monotonic()
        proxy.server.process.send_signal(signal.SIGTERM)
        assert proxy.server.process.wait(10) == 0
        assert time.monotonic() - started < 10


LENGTH = "Content-Length: 100"
CHUNKED = "Transfer-Encoding: chunked"
HALF = b"grant_type=password&".ljust(50, b"x")
HALF_A_CHUNK = b"64\r\n" + HALF


@contextlib.contextmanager
def half_a_form(host: str, framing: str, half: bytes) -> Iterator[Client]:
    """Send half a form of which is known that it is being read, and no more."""
    with Client(host) as client:
        client.ask(
            "/auth/token",
            "Content-Type: application/x-www-form-urlencoded",
            "Expect: 100-continue",
            framing,
            method="POST",
        )
        assert client.head().status == 100  # so it is served, and no longer idle
        client.send(half)
        yield client


def test_a_form_without_its_end_does_not_hold_a_stop(upstream: Upstream, home: Path) -> None:
    """Who begins a form and goes silent is refused in JSON; then the stop goes on."""
    with (
        own_docxy(upstream, home, DOCXY_WRITE_TIMEOUT="1.5") as proxy,
        half_a_form(proxy.host, LENGTH, HALF) as one,
        half_a_form(proxy.host, CHUNKED, HALF_A_CHUNK) as other,
    ):
        started = time.monotonic()
        proxy.server.process.send_signal(signal.SIGTERM)
        for client in (other, one):
            answer = client.answer("POST")
            assert time.monotonic() - started > 1
            assert 400 <= answer.status < 500
            assert answer.head.value("Content-Type") == "application/json"
            (error,) = json.loads(answer.body)["errors"]
            assert set(error) == {"code", "message", "detail"}
        assert proxy.server.process.wait(10) == 0
        assert upstream.asked == []
        assert "Traceback" not in proxy.log


@pytest.mark.parametrize(
    ("framing", "half"),
    [pytest.param(LENGTH, HALF, id="length"), pytest.param(CHUNKED, HALF_A_CHUNK, id="chunked")],
)
def test_a_form_without_its_end_is_late(impatient_wire: Wire, framing: str, half: bytes) -> None:
    """The status says whose time ran out: 408."""
    with half_a_form(impatient_wire.proxy.host, framing, half) as client:
        answer = client.answer("POST")
    assert json.loads(answer.body)["errors"]
    assert answer.status == 408
