import itertools
import json
import struct
from collections.abc import Callable, Mapping
from threading import Event

import pytest

from tests.pairs import pairs
from tests.servers import wait_until
from tests.wire.client import Answer, Ending
from tests.wire.upstream import PATIENCE, Connection, Script, chunk, head
from tests.wire.wires import BLOB, MANIFEST, Wire

PIECE = bytes(range(256)) * 40
"""10,240 bytes."""

LENGTH = "Content-Length: 1000000"
CHUNKED = "Transfer-Encoding: chunked"

End = Callable[[Connection], None]
ENDS: Mapping[str, End] = {
    "fin": Connection.close,
    "reset": Connection.reset,
    "close_notify": Connection.close_notify,
}
WIRES = ["plain", "tls"]
VERSIONS = ["HTTP/1.1", "HTTP/1.0"]


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


WITH_LENGTH: Mapping[str, list[bytes]] = {
    "in mid-body": [head(LENGTH), PIECE],
    "after more than a buffer": [head(LENGTH), PIECE * 60],
    "one byte missing": [head("Content-Length: 10241"), PIECE],
}
WITH_CHUNKS: Mapping[str, list[bytes]] = {
    "between chunks": [head(CHUNKED), chunk(PIECE)],
    "within a chunk": [head(CHUNKED), chunk(PIECE), b"2800\r\n", PIECE[:-1]],
    "before a chunk's end": [head(CHUNKED), chunk(PIECE)[:-2]],
    "within a size": [head(CHUNKED), chunk(PIECE), b"28"],
    "after the first zero of a size": [head(CHUNKED), chunk(PIECE), b"0"],
    "no size": [head(CHUNKED), chunk(PIECE), b"xyz\r\n", PIECE],
    "negative size": [head(CHUNKED), chunk(PIECE), b"-5\r\n", PIECE],
}


@pytest.mark.parametrize(
    ("either_wire", "version", "shape", "end"),
    pairs(WIRES, VERSIONS, [*WITH_LENGTH], [*ENDS]),
    indirect=["either_wire"],
)
def test_a_short_body_never_looks_complete(
    either_wire: Wire, version: str, shape: str, end: str
) -> None:
    """The client gets fewer bytes than the length says, and the connection ends."""
    parts = WITH_LENGTH[shape]
    answer = broken(either_wire, version, ENDS[end], *parts)
    assert (answer.status, answer.complete) == (200, False)
    assert answer.ending is not Ending.NONE
    assert b"".join(parts[1:]).startswith(answer.body)


@pytest.mark.parametrize(
    ("either_wire", "shape", "end"),
    pairs(WIRES, [*WITH_CHUNKS], [*ENDS]),
    indirect=["either_wire"],
)
def test_a_chunked_body_without_its_end_gets_no_end(
    either_wire: Wire, shape: str, end: str
) -> None:
    """No last chunk goes to the client."""
    answer = broken(either_wire, "HTTP/1.1", ENDS[end], *WITH_CHUNKS[shape])
    assert (answer.status, answer.complete) == (200, False)
    assert answer.ending is not Ending.NONE


@pytest.mark.parametrize(
    ("either_wire", "shape", "end"),
    [*zip(itertools.cycle(WIRES), WITH_CHUNKS, itertools.cycle(ENDS), strict=False)],
    indirect=["either_wire"],
)
def test_http_1_0_without_a_length_sees_a_reset(either_wire: Wire, shape: str, end: str) -> None:
    """A FIN would be the end of a whole body."""
    answer = broken(either_wire, "HTTP/1.0", ENDS[end], *WITH_CHUNKS[shape])
    assert answer.ending is Ending.RESET


@pytest.mark.parametrize(
    ("either_wire", "version", "frame", "end"),
    pairs(WIRES, VERSIONS, [LENGTH, CHUNKED], [*ENDS]),
    indirect=["either_wire"],
)
def test_an_answer_that_breaks_before_its_body_is_not_whole(
    either_wire: Wire, version: str, frame: str, end: str
) -> None:
    """The client gets a transfer that breaks, or 503 where a reset took the head with it."""
    script, arrived = breaking(ENDS[end], head(frame))
    arrived.set()
    either_wire.play(script)
    with either_wire.client() as client:
        client.ask(BLOB, version=version)
        answer = client.answer()
    if end == "reset" and answer.status == 503:
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
