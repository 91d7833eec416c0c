"""Connections that ask for nothing make room for those that do; each has a share of the places.

tests/unit/server/test_connections.py has the rules, tests/integration/test_crowds.py a crowd.
"""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.servers import docxy, wait_until
from tests.wire.client import Answer, Client, Ending
from tests.wire.upstream import Connection, Script, Upstream, always, head, playing, response
from tests.wire.wires import BLOB, MANIFEST, Start, Wire, upstream_settings

PLACES: Final = 24
SHARE: Final = 3
RESERVE: Final = 16
"""What of so few places each address may have, and what is kept beyond them."""
LARGE: Final = 12_000_000
"""Bytes: more than the buffers of a connection hold."""
CROWD: Final = 120
"""More than two workers have places, and reserves."""
NO_FRONT: Final = {"FORWARDED_ALLOW_IPS": "192.0.2.1"}
"""So that connections from this machine are those of clients."""
FEW: Final = ("--worker-connections", str(PLACES))


def lent(wire: Wire) -> Iterator[Wire]:
    with playing(wire.upstream):
        wire.play(always(response(b"{}")))
        yield wire


@pytest.fixture(params=["client", "front"])
def wire(request: pytest.FixtureRequest, start: Start) -> Iterator[Wire]:
    """Return a proxy with few places; this machine is a client of it, then a server in front."""
    yield from lent(start(*FEW, **(NO_FRONT if request.param == "client" else {})))


@pytest.fixture
def lone_wire(start: Start) -> Iterator[Wire]:
    """Return one with one worker, of which this machine is a client."""
    yield from lent(start(*FEW, workers=1, **NO_FRONT))


def assert_served(wire: Wire) -> None:
    """Assert that either worker answers, a registry's answer and its own."""
    for target in ("/health", MANIFEST) * 4:
        with wire.client(timeout=10) as client:
            assert client.get(target).status == 200


BEGINNINGS = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"G", id="a byte"),
    pytest.param(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX-A: ", id="half a head"),
    pytest.param(b"POST /auth/token HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\ng", id="form"),
    pytest.param(
        b"POST /page/rewrite HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ng",
        id="chunks",
    ),
    pytest.param(
        b"PUT /v2/a/manifests/b HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na", id="push"
    ),
    pytest.param(
        b"PUT /v2/a/manifests/b HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\na",
        id="long push",
    ),
    pytest.param(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", id="kept alive"),
    pytest.param(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nG", id="kept alive, and a byte"),
]


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_crowd_that_asks_for_nothing(wire: Wire, beginning: bytes) -> None:
    """It takes no place from who asks, whether it comes from one address or through a front."""
    with contextlib.ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(wire.client()).send(beginning)
        assert_served(wire)
    assert_served(wire)


def test_others_keep_theirs(lone_wire: Wire) -> None:
    """What an address opens beyond its share ends its own connections, and those in their turn."""
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(lone_wire.client(source="127.0.0.2"))
        assert other.get(MANIFEST).status == 200
        many = [stack.enter_context(lone_wire.client()) for _ in range(2 * SHARE)]
        for client in many[:SHARE]:
            assert client.rest() == b""
            assert client.ending is Ending.FIN
        for client in [*many[SHARE:], other]:
            assert client.get(MANIFEST).status == 200


def test_a_request_that_has_arrived_is_answered(lone_wire: Wire) -> None:
    """Also if its connection makes room before anybody has looked at it."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(lone_wire.client()) for _ in range(10 * SHARE)]
        for client in clients:
            client.ask("/health")
        answered = [client for client in clients if _answers(client)]
    # Those whose request came after they had made room find their connection ended.
    assert clients[-SHARE:] == answered[-SHARE:]


def _answers(client: Client) -> bool:
    with contextlib.suppress(ConnectionError):
        return client.answer().status == 200
    return False


def refusal(answer: Answer) -> tuple[int, str]:
    """Return the status and the code of a refusal in OCI JSON that says when to come again."""
    (error,) = json.loads(answer.body)["errors"]
    assert set(error) == {"code", "message", "detail"}
    assert int(answer.head.value("Retry-After")) > 0
    return answer.status, error["code"]


def endless(over: threading.Event) -> Script:
    """Return a registry's part: blobs of which the second half comes when `over` is set."""

    def script(connection: Connection) -> None:
        while connection.head().target != BLOB:
            connection.send(response(b"{}"))
        connection.send(head("Content-Length: 2"), b"a")
        over.wait(20)
        connection.send(b"b")

    return script


def take_all_places(wire: Wire, stack: contextlib.ExitStack) -> Iterator[Client]:
    """Begin as many downloads as a worker has places."""
    for number in range(PLACES):  # no address may have more than a quarter of them
        client = stack.enter_context(wire.client(source=f"127.0.2.{number + 1}"))
        client.ask(BLOB)
        assert client.head().status == 200
        yield client


def test_a_full_worker_leaves_the_rest_to_the_other(start: Start) -> None:
    """It refuses nobody whom the other one has places for; if neither has, both answer /health."""
    wire, over = start(*FEW, **NO_FRONT), threading.Event()
    wire.proxy.await_workers()
    first, second = wire.proxy.workers
    with playing(wire.upstream), contextlib.ExitStack() as stack:
        wire.play(endless(over))
        with wire.proxy.only(first):
            downloads = list(take_all_places(wire, stack))
        for _ in range(3 * RESERVE):
            with wire.client() as client:
                assert client.get(MANIFEST).status == 200
        with wire.proxy.only(second):
            downloads += take_all_places(wire, stack)
        for _ in range(RESERVE):
            with wire.client() as client:
                assert client.get("/health").status == 200
                assert refusal(client.get(MANIFEST)) == (503, "UNAVAILABLE")
        over.set()
        for client in downloads:
            assert client.exactly(2) == b"ab"


def test_health_keeps_a_place(lone_wire: Wire) -> None:
    """When all places have downloads it is answered; others are told to come again."""
    over = threading.Event()
    lone_wire.play(endless(over))
    with contextlib.ExitStack() as stack:
        downloads = list(take_all_places(lone_wire, stack))
        for number in range(2 * RESERVE):  # no address has more than its share
            stack.enter_context(lone_wire.client(source=f"127.0.1.{number + 1}")).send(b"G")
        asked = len(lone_wire.upstream.asked)
        with lone_wire.client() as client:
            assert client.get("/health").status == 200
            assert refusal(client.get(MANIFEST)) == (503, "UNAVAILABLE")
            assert client.rest() == b""
        assert len(lone_wire.upstream.asked) == asked
        over.set()
        for client in downloads:
            assert client.exactly(2) == b"ab"
        lone_wire.play(always(response(b"{}")))
        with lone_wire.client() as client:
            assert client.get(MANIFEST).status == 200


def test_slow_readers_have_a_share(start: Start) -> None:
    """Downloads of one client count until their last byte, though a front has brought them."""
    wire = start(workers=1, DOCXY_CLIENT_CONNECTIONS=str(SHARE))
    one, other = "X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 198.51.100.8"
    with playing(wire.upstream), contextlib.ExitStack() as stack:
        wire.play(always(response(bytes(LARGE))))
        slow = [stack.enter_context(wire.client(receive_buffer=4096)) for _ in range(SHARE)]
        for client in slow:
            client.ask(BLOB, one)
            assert client.head().status == 200
        asked = len(wire.upstream.asked)
        with wire.client() as client:
            assert refusal(client.get(MANIFEST, one)) == (429, "TOOMANYREQUESTS")
            assert len(wire.upstream.asked) == asked
            assert client.get("/health", one).status == 200
            wire.play(always(response(b"{}")))
            assert client.get(MANIFEST, other).status == 200
            slow[0].close()
            wait_until(lambda: client.get(MANIFEST, one).status == 200, what="a place")


def test_no_share_is_larger_than_the_worker(start: Start) -> None:
    """One client has a quarter of the places at most, and the log says that this is less."""
    wire = start(*FEW, workers=1)
    assert "a quarter of a worker's connections at most. limit=6 configured=500" in wire.proxy.log
    one, other = "X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 198.51.100.8"
    over = threading.Event()
    with playing(wire.upstream), contextlib.ExitStack() as stack:
        wire.play(endless(over))
        downloads = [stack.enter_context(wire.client()) for _ in range(PLACES // 4)]
        for client in downloads:
            client.ask(BLOB, one)
            assert client.head().status == 200
        client = stack.enter_context(wire.client())
        assert refusal(client.get(MANIFEST, one)) == (429, "TOOMANYREQUESTS")
        assert client.get(MANIFEST, other).status == 200
        over.set()
        for client in downloads:
            assert client.exactly(2) == b"ab"


def test_the_log_tells_of_it(lone_wire: Wire) -> None:
    """How many made room, and which address had most of them."""
    line = re.compile(r"to accept new ones\. closed=\d+ client=127\.0\.0\.3 of_client=\d+")
    with contextlib.ExitStack() as stack:

        def is_told() -> bool:
            for _ in range(2 * SHARE):
                stack.enter_context(lone_wire.client(source="127.0.0.3")).send(b"G")
            return line.search(lone_wire.proxy.log) is not None

        wait_until(is_told, what="a line")


def test_few_open_files(home: Path) -> None:
    """A low limit of open files is a limit of places: accept would fail, and go on to fail."""
    with Upstream() as upstream, contextlib.ExitStack() as stack:
        settings = upstream_settings(upstream, home)
        proxy = stack.enter_context(docxy(workers=1, files="200", **settings))
        assert "open files (ulimit -n) is low. connections=24 configured=2000" in proxy.log
        for _ in range(300):
            stack.enter_context(Client(proxy.host)).send(b"G")
        with Client(proxy.host, timeout=10) as client:
            assert client.get("/health").status == 200
        assert "Too many open files" not in proxy.log


def test_an_idle_connection_has_its_own_time(start: Start) -> None:
    """A head has all of its time, however late in a pause between two requests it begins."""
    wire = start("--keep-alive", "2", workers=1)
    with playing(wire.upstream):
        wire.play(always(response(b"{}")))
        with wire.client() as client:
            assert client.get(MANIFEST).status == 200
            client.settimeout(1.5)
            with pytest.raises(TimeoutError):
                client.ahead(1)
            client.send(b"GET /health HTTP/1.1\r\n")
            client.settimeout(1.2)
            with pytest.raises(TimeoutError):
                client.ahead(1)
            client.settimeout(20)
            client.send(b"Host: a\r\n\r\n")
            assert client.answer().status == 200
