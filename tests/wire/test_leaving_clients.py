import threading
import time
from collections.abc import Callable

import pytest

from tests.servers import wait_until
from tests.wire.client import Client, Ending
from tests.wire.upstream import PATIENCE, Connection, Script, chunk, head, silent
from tests.wire.wires import BLOB, MANIFEST, Wire

SOON = 1.0
"""Seconds within which a client that has left is noticed."""

PIECE = b"p" * 65536
ENDLESS = "Content-Length: 100000000000"


def flooding(connection: Connection) -> None:
    """Send without end."""
    connection.head()
    connection.send(head(ENDLESS))
    while True:
        connection.send(PIECE)


def trickling(connection: Connection) -> None:
    """Send a little now and then, without end."""
    connection.head()
    connection.send(head(ENDLESS))
    while not connection.left.wait(0.1):
        connection.send(b"drop")


def starting(frame: str, part: bytes) -> Script:
    """Send the beginning of a body, and then nothing."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head(frame), part)
        connection.until_left()

    return script


def read_some(client: Client) -> None:
    """Read the head and a few bytes."""
    client.head()
    assert client.exactly(4)


def read_nothing(client: Client) -> None:
    """Wait for no answer."""


@pytest.mark.parametrize(
    ("script", "read"),
    [
        pytest.param(flooding, read_some, id="while data flows"),
        pytest.param(trickling, read_some, id="while data trickles"),
        pytest.param(
            starting(ENDLESS, b"some"), read_some, id="while the upstream is silent in mid-body"
        ),
        pytest.param(
            starting("Transfer-Encoding: chunked", chunk(b"some")),
            read_some,
            id="in mid-body of chunks",
        ),
        pytest.param(
            starting("Connection: close", b"some"), read_some, id="in a body without length"
        ),
        pytest.param(silent, read_nothing, id="while there is no answer"),
        pytest.param(starting(ENDLESS, b""), read_nothing, id="while there is only a head"),
    ],
)
@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
def test_a_client_that_leaves_frees_the_upstream(
    any_worker_wire: Wire,
    script: Script,
    read: Callable[[Client], None],
    leave: Callable[[Client], None],
) -> None:
    """Within a second, whatever the upstream does meanwhile."""
    wire = any_worker_wire
    wire.play(script)
    with wire.client() as client:
        client.ask(BLOB)
        connection = wire.upstream.connection()
        read(client)
        assert not connection.left.is_set()
        leave(client)
        assert connection.left.wait(SOON)


@pytest.mark.parametrize("script", [silent, starting(ENDLESS, b"some")], ids=["head", "body"])
def test_a_client_that_leaves_frees_a_tls_upstream(tls_wire: Wire, script: Script) -> None:
    """TLS reads wait in another place of the stack."""
    tls_wire.play(script)
    with tls_wire.client() as client:
        client.ask(BLOB)
        connection = tls_wire.upstream.connection()
        if script is not silent:
            read_some(client)
        client.close()
        assert connection.left.wait(SOON)


def test_a_client_that_leaves_during_a_token_request_frees_the_upstream(wire: Wire) -> None:
    """Token services can be slow too."""
    with wire.client() as client:
        client.ask("/auth/token?scope=repository:library/alpine:pull")
        connection = wire.upstream.connection()
        client.close()
        assert connection.left.wait(SOON)


def test_a_client_that_waits_is_not_taken_for_one_that_left(wire: Wire) -> None:
    """Looking at its connection takes nothing from it: a pipelined request is answered."""
    release = threading.Event()

    def script(connection: Connection) -> None:
        while True:
            connection.head()
            assert release.wait(PATIENCE)
            connection.send(head("Content-Length: 2"), b"{}")

    wire.play(script)
    with wire.client() as client:
        client.ask(MANIFEST)
        wire.upstream.wait_for_requests(1)
        client.ask(MANIFEST)
        release.wait(0.7)  # two looks
        release.set()
        assert client.answer().body == b"{}"
        assert client.answer().body == b"{}"


def test_many_that_leave_leave_nothing_behind(wire: Wire) -> None:
    """Twenty downloads at once, given up in all ways: no connection is left over."""
    wire.play(flooding)
    clients = [wire.client() for _ in range(20)]
    for client in clients:
        client.ask(BLOB)
    for number, client in enumerate(clients):
        read_some(client)
        (client.close if number % 2 else client.reset)()
    for number in range(20):
        assert wire.upstream.connection(number).left.wait(3)


@pytest.mark.parametrize("frame", [ENDLESS, "Transfer-Encoding: chunked"])
def test_a_client_that_stops_reading_is_cut(impatient_wire: Wire, frame: str) -> None:
    """After the write timeout the upstream is free again, and the log has no traceback."""
    wire = impatient_wire
    piece = PIECE if frame == ENDLESS else chunk(PIECE)

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head(frame))
        while True:
            connection.send(piece)

    wire.play(script)
    with wire.client(receive_buffer=32768) as client:
        client.ask(BLOB, "X-Request-ID: stopped-reading")
        client.head()
        started = time.monotonic()
        assert wire.upstream.connection().left.wait(6)
        assert time.monotonic() - started > 1
        client.rest()
        assert client.ending is Ending.RESET
    wait_until(lambda: "stopped-reading" in wire.proxy.log, 3, "the log line")
    assert "Traceback" not in wire.proxy.log


@pytest.mark.parametrize(
    ("options", "gulp", "seconds"),
    [
        pytest.param({}, 40_000, 0.3, id="usual window"),
        pytest.param({"receive_buffer": 16384, "segment": 1400}, 10_000, 0.3, id="small window"),
        pytest.param({"receive_buffer": 16384, "segment": 1400}, 40_000, 1.1, id="long pauses"),
    ],
)
def test_a_client_that_is_merely_slow_is_not_cut(
    impatient_wire: Wire, options: dict[str, int], gulp: int, seconds: float
) -> None:
    """It takes less in a timeout than is written to it at once, and is served all the same.

    Its pauses may be as long as the timeout, however they fall between two looks.
    """
    wire = impatient_wire
    wire.play(flooding)
    pause = threading.Event()
    with wire.client(**options) as client:
        client.ask(BLOB)
        client.head()
        for _ in range(int(4.2 / seconds) + 3):
            assert client.some(gulp)
            pause.wait(seconds)
        assert not wire.upstream.connection().left.is_set()
        assert len(client.exactly(1_000_000)) == 1_000_000


def test_a_client_that_pauses_shorter_than_the_timeout_is_not_cut(impatient_wire: Wire) -> None:
    """A pause that ends in time costs nothing."""
    wire = impatient_wire

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head("Content-Length: 6553600"))
        for _ in range(100):
            connection.send(PIECE)

    wire.play(script)
    with wire.client(receive_buffer=32768) as client:
        client.ask(BLOB)
        client.head()
        threading.Event().wait(0.8)
        assert len(client.exactly(6_553_600)) == 6_553_600


def test_a_client_that_leaves_is_one_line_in_the_log(wire: Wire) -> None:
    """With what it got and that it was not all; no traceback."""
    wire.play(starting(ENDLESS, b"some"))
    with wire.client() as client:
        client.ask(BLOB, "X-Request-ID: one-that-left")
        read_some(client)
    wait_until(lambda: "one-that-left" in wire.proxy.log, 3, "the log line")
    (line,) = [line for line in wire.proxy.log.splitlines() if "one-that-left" in line]
    assert " bytes=4 " in line
    assert " incomplete=True" in line
    assert "Traceback" not in wire.proxy.log
