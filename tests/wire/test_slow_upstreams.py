import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.wire.client import Ending
from tests.wire.upstream import Connection, always, chunk, head, response
from tests.wire.wires import BLOB, MANIFEST, Wire

AT_ONCE = 1.0
"""Seconds within which what an upstream has sent is at the client."""

LENGTH = "Content-Length: 1000000"
CHUNKED = "Transfer-Encoding: chunked"


def framed(frame: str, data: bytes) -> bytes:
    """Return a piece of a body as its framing wants it."""
    return chunk(data) if frame == CHUNKED else data


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(LENGTH, id="length"),
        pytest.param(CHUNKED, id="chunked"),
        pytest.param("Connection: close", id="until close"),
    ],
)
def test_what_an_upstream_sends_arrives_at_once(either_wire: Wire, frame: str) -> None:
    """Nothing waits for a buffer to fill: not the first bytes, nor any later ones."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head(frame), framed(frame, b"0" * 10))
        for number in range(1, 4):
            assert more.acquire(timeout=20)
            connection.send(framed(frame, b"%d" % number * 10))
        connection.until_left()

    more = threading.Semaphore(0)
    either_wire.play(script)
    with either_wire.client() as client:
        client.ask(BLOB)
        client.settimeout(AT_ONCE)
        down = client.head()
        for number in range(4):
            data = b"%d" % number * 10
            if down.value("Transfer-Encoding") == "chunked":
                assert client.chunk() == data
            else:
                assert client.exactly(10) == data
            more.release()


def test_a_byte_after_a_burst_is_not_held_back(either_wire: Wire) -> None:
    """Gathering takes what is there and waits for nothing."""
    burst = b"b" * 700_001

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head(LENGTH), burst)
        connection.until_left()

    either_wire.play(script)
    with either_wire.client() as client:
        client.ask(BLOB)
        client.settimeout(AT_ONCE)
        client.head()
        assert client.exactly(len(burst)) == burst


@pytest.mark.parametrize("frame", [LENGTH, CHUNKED])
def test_the_head_does_not_wait_for_the_body(either_wire: Wire, frame: str) -> None:
    """An upstream that has answered but has no byte yet: the client knows the answer."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head(frame))
        connection.until_left()

    either_wire.play(script)
    with either_wire.client() as client:
        client.ask(BLOB)
        client.settimeout(AT_ONCE)
        assert client.head().status == 200


def test_silence_before_the_answer_is_a_504(impatient_wire: Wire) -> None:
    """With Retry-After and OCI JSON; containerd tries a 504 again."""
    started = time.monotonic()
    with impatient_wire.client() as client:
        answer = client.get(MANIFEST)
        seconds = time.monotonic() - started
        assert (answer.status, answer.complete) == (504, True)
        assert int(answer.head.value("Retry-After")) > 0
        assert answer.head.value("Content-Type") == "application/json"
        (error,) = json.loads(answer.body)["errors"]
        assert error["code"] == "UNAVAILABLE"
        assert 0.9 < seconds < 3
        assert client.get("/health").status == 200
    (connection,) = impatient_wire.upstream.connections
    assert connection.left.wait(2)


@pytest.mark.parametrize("part", [b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\nX-Half: "])
def test_half_a_head_and_then_silence_is_a_504(impatient_wire: Wire, part: bytes) -> None:
    """Bytes that are no answer yet do not count as one."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(part)
        connection.until_left()

    impatient_wire.play(script)
    with impatient_wire.client() as client:
        assert client.get(MANIFEST).status == 504


@pytest.mark.parametrize(
    ("frame", "version", "ending"),
    [
        pytest.param(LENGTH, "HTTP/1.1", None, id="length"),
        pytest.param(CHUNKED, "HTTP/1.1", None, id="chunked"),
        pytest.param("Connection: close", "HTTP/1.1", None, id="until close"),
        pytest.param(CHUNKED, "HTTP/1.0", Ending.RESET, id="to HTTP/1.0"),
    ],
)
def test_silence_in_mid_body_breaks_the_transfer(
    impatient_wire: Wire, frame: str, version: str, ending: Ending | None
) -> None:
    """After the read timeout the client sees a body that is not whole."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head(frame), framed(frame, b"some"))
        connection.until_left()

    impatient_wire.play(script)
    with impatient_wire.client() as client:
        started = time.monotonic()
        client.ask(BLOB, version=version)
        answer = client.answer()
        assert 0.9 < time.monotonic() - started < 3
        assert not answer.complete
        assert ending in {None, answer.ending}
    assert impatient_wire.upstream.connections[0].left.wait(2)


def test_an_upstream_that_is_only_slow_may_take_longer_than_the_timeout(
    impatient_wire: Wire,
) -> None:
    """The timeout is for silence; there is none on the whole."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head("Content-Length: 6"))
        for number in range(6):
            connection.left.wait(0.4)
            connection.send(b"%d" % number)

    impatient_wire.play(script)
    with impatient_wire.client() as client:
        assert client.get(BLOB).body == b"012345"


def test_a_slow_upstream_delays_nobody_else(wire: Wire) -> None:
    """Ten downloads that wait, in two workers, and the eleventh is served at once."""

    def script(connection: Connection) -> None:
        if connection.head().target == BLOB:
            connection.until_left()
        connection.send(response(b"quick"))
        always(response(b"quick"))(connection)

    wire.play(script)
    waiting = [wire.client() for _ in range(10)]
    try:
        for client in waiting:
            client.ask(BLOB)
        wire.upstream.wait_for_requests(10)
        for _ in range(4):
            with wire.client(timeout=2) as client:
                assert client.get(MANIFEST).body == b"quick"
    finally:
        for client in waiting:
            client.close()


@pytest.mark.soak
def test_a_head_that_drips_ends_in_time(impatient_wire: Wire, wire: Wire) -> None:
    """The read timeout is for silence; this never is silent. Clients wait less for a ping."""

    def drip(connection: Connection) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not connection.left.wait(0.2):
            connection.send(b"x")

    def ask(wire: Wire, path: str, *fields: str) -> tuple[int, float]:
        started = time.monotonic()
        with wire.client() as client:
            return client.get(path, *fields).status, time.monotonic() - started

    impatient_wire.play(drip)
    wire.play(drip)
    with ThreadPoolExecutor(2) as pool:
        manifest = pool.submit(ask, impatient_wire, MANIFEST)
        ping = pool.submit(ask, wire, "/v2/", "Authorization: Bearer token")
    for (status, seconds), most in ((manifest.result(), 15), (ping.result(), 9)):
        assert status == 504
        assert seconds < most
