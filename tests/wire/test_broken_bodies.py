import json
import struct
from collections.abc import Callable
from threading import Event

import pytest

from tests.servers import wait_until
from tests.wire.client import Answer, Ending
from tests.wire.upstream import PATIENCE, Connection, Script, chunk, head
from tests.wire.wires import BLOB, MANIFEST, Wire

PIECE = bytes(range(256)) * 40
"""10,240 bytes."""

LENGTH = "Content-Length: 1000000"
CHUNKED = "Transfer-Encoding: chunked"

End = Callable[[Connection], None]
ENDS = [
    pytest.param(Connection.close, id="fin"),
    pytest.param(Connection.reset, id="reset"),
    pytest.param(Connection.close_notify, id="close_notify"),
]


def breaking(end: End, *parts: bytes) -> tuple[Script, Event]:
    """Answer the first request with these parts, and end when the event is set."""
    arrived = Event()

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(*parts)
        assert arrived.wait(PATIENCE)
        end(connection)

    return script, arrived


def broken(wire: Wire, version: str, end: End, *parts: bytes) -> Answer:
    """Return what a client gets of an answer that ends as soon as its beginning has come."""
    script, arrived = breaking(end, *parts)
    wire.play(script)
    with wire.client() as client:
        client.ask(BLOB, version=version)
        client.ahead(10_000)
        arrived.set()
        return client.answer()


WITH_LENGTH = [
    pytest.param([head(LENGTH), PIECE], id="in mid-body"),
    pytest.param([head(LENGTH), PIECE * 60], id="after more than a buffer"),
    pytest.param([head("Content-Length: 10241"), PIECE], id="one byte missing"),
]
WITH_CHUNKS = [
    pytest.param([head(CHUNKED), chunk(PIECE)], id="between chunks"),
    pytest.param([head(CHUNKED), chunk(PIECE), b"2800\r\n", PIECE[:-1]], id="within a chunk"),
    pytest.param([head(CHUNKED), chunk(PIECE)[:-2]], id="before a chunk's end"),
    pytest.param([head(CHUNKED), chunk(PIECE), b"28"], id="within a size"),
    pytest.param([head(CHUNKED), chunk(PIECE), b"0"], id="after the first zero of a size"),
    pytest.param([head(CHUNKED), chunk(PIECE), b"xyz\r\n", PIECE], id="no size"),
    pytest.param([head(CHUNKED), chunk(PIECE), b"-5\r\n", PIECE], id="negative size"),
]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("parts", WITH_LENGTH)
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_a_short_body_never_looks_complete(
    either_wire: Wire, version: str, parts: list[bytes], end: End
) -> None:
    """The client gets fewer bytes than the length says, and the connection ends."""
    answer = broken(either_wire, version, end, *parts)
    assert (answer.status, answer.complete) == (200, False)
    assert answer.ending is not Ending.NONE
    assert b"".join(parts[1:]).startswith(answer.body)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("parts", WITH_CHUNKS)
def test_a_chunked_body_without_its_end_gets_no_end(
    either_wire: Wire, parts: list[bytes], end: End
) -> None:
    """No last chunk goes to the client."""
    answer = broken(either_wire, "HTTP/1.1", end, *parts)
    assert (answer.status, answer.complete) == (200, False)
    assert answer.ending is not Ending.NONE


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("parts", WITH_CHUNKS)
def test_http_1_0_without_a_length_sees_a_reset(
    either_wire: Wire, parts: list[bytes], end: End
) -> None:
    """A FIN would be the end of a whole body."""
    answer = broken(either_wire, "HTTP/1.0", end, *parts)
    assert answer.ending is Ending.RESET


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("frame", [LENGTH, CHUNKED])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_an_answer_that_breaks_before_its_body_is_not_whole(
    either_wire: Wire, version: str, frame: str, end: End
) -> None:
    """The client gets a transfer that breaks, or 503 where a reset took the head with it."""
    script, arrived = breaking(end, head(frame))
    arrived.set()
    either_wire.play(script)
    with either_wire.client() as client:
        client.ask(BLOB, version=version)
        answer = client.answer()
    if end is Connection.reset and answer.status == 503:
        assert answer.complete
        return
    cut = Ending.RESET if (version, frame) == ("HTTP/1.0", CHUNKED) else Ending.FIN
    assert (answer.status, answer.complete, answer.body) == (200, False, b"")
    assert answer.ending is cut


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_a_reset_is_no_end_of_a_body_without_length(either_wire: Wire, version: str) -> None:
    """Where the connection's end is the body's, only a clean one is."""
    answer = broken(either_wire, version, Connection.reset, head("Connection: close"), PIECE)
    assert (answer.status, answer.complete) == (200, False)


def test_tls_that_is_cut_is_no_end_of_a_body_without_length(tls_wire: Wire) -> None:
    """Without close_notify anyone on the way can have cut it (RFC 9112, section 9.8)."""
    answer = broken(tls_wire, "HTTP/1.1", Connection.close, head("Connection: close"), PIECE)
    assert (answer.status, answer.complete) == (200, False)


@pytest.mark.parametrize("path", [MANIFEST, "/auth/token?scope=repository:a/b:pull"])
def test_a_document_without_length_that_is_cut(wire: Wire, path: str) -> None:
    """A FIN ends it and a cut alike; what is left of it is no document."""
    script, arrived = breaking(Connection.close, head("Connection: close"), b'{"a": {}, ')
    arrived.set()
    wire.play(script)
    with wire.client() as client:
        answer = client.get(path)
    assert (answer.status, answer.complete) == (503, True)


def test_a_broken_manifest_is_no_manifest(wire: Wire) -> None:
    """What is small is read before it is answered: the client hears 503, and may ask again."""
    script, arrived = breaking(Connection.close, head("Content-Length: 500"), b"{" * 499)
    arrived.set()
    wire.play(script)
    with wire.client() as client:
        answer = client.get(MANIFEST)
    assert (answer.status, answer.complete) == (503, True)
    assert json.loads(answer.body)["errors"][0]["code"] == "UNAVAILABLE"


def test_what_came_before_the_break_arrives(either_wire: Wire) -> None:
    """A client that resumes needs every byte."""
    script, arrived = breaking(Connection.close, head(LENGTH), PIECE * 60)
    arrived.set()
    either_wire.play(script)
    with either_wire.client() as client:
        assert client.get(BLOB).body == PIECE * 60


def test_a_garbled_tls_record_breaks_the_body(tls_wire: Wire) -> None:
    """What fails its integrity check is not passed on, and ends the transfer."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head(LENGTH), PIECE)
        connection.send_plain(struct.pack("!BHH", 23, 0x0303, 64) + b"g" * 64)
        connection.until_left()

    tls_wire.play(script)
    with tls_wire.client() as client:
        answer = client.get(BLOB)
        assert (answer.body, answer.complete) == (PIECE, False)


def test_a_break_leaves_one_line_and_no_traceback(wire: Wire) -> None:
    """It is the upstream's fault, and a download that was not whole."""
    script, arrived = breaking(Connection.reset, head(LENGTH), PIECE)
    wire.play(script)
    with wire.client() as client:
        client.ask(BLOB, "X-Request-ID: a-broken-one")
        client.ahead(10_000)
        arrived.set()
        assert not client.answer().complete
    wait_until(lambda: "a-broken-one" in wire.proxy.log, 3, "the log line")
    (line,) = [line for line in wire.proxy.log.splitlines() if "a-broken-one" in line]
    assert " incomplete=True" in line
    assert f" bytes={len(PIECE)} " in line
    assert "Traceback" not in wire.proxy.log
