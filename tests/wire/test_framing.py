import pytest

from tests.wire.client import Ending
from tests.wire.upstream import (
    LAST_CHUNK,
    Asked,
    Connection,
    Upstream,
    always,
    answering,
    chunk,
    head,
    playing,
    response,
)
from tests.wire.wires import BLOB, DIGEST, MANIFEST, Start, Wire, location, manifest

BODY = b"0123456789" * 1000


def by_method(asked: Asked) -> bytes:
    """Answer as a registry does: to HEAD, the head of the GET's answer."""
    if asked.method == "HEAD":
        return head(f"Content-Length: {len(BODY)}", "Content-Type: application/x")
    return response(BODY, "Content-Type: application/x")


@pytest.mark.parametrize("path", [MANIFEST, BLOB])
def test_head_stays_head_and_keeps_the_length(wire: Wire, path: str) -> None:
    """A GET in its place would be billed as a pull."""
    wire.play(answering(by_method))
    with wire.client() as client:
        answer = client.get(path, method="HEAD")
    assert [asked.method for asked in wire.upstream.asked] == ["HEAD"]
    assert answer.head.values("Content-Length") == [str(len(BODY))]
    assert answer.head.values("Transfer-Encoding") == []


def test_no_stray_byte_follows_a_head(wire: Wire) -> None:
    """The next answer on the connection begins where the head ended, however often."""
    wire.play(answering(by_method))
    with wire.client() as client:
        for _ in range(3):
            assert client.get(MANIFEST, method="HEAD").head.version == "HTTP/1.1"
            answer = client.get(MANIFEST)
            assert (answer.head.version, answer.body) == ("HTTP/1.1", BODY)
        assert client.ending is Ending.NONE


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(head(), id="no length"),
        pytest.param(head("Transfer-Encoding: chunked"), id="chunked"),
        pytest.param(response(b'{"errors":[]}', status="404 Not Found"), id="error with a body"),
        pytest.param(response(b"stray body"), id="with a body"),
        pytest.param(
            head("Content-Length: 300000", status="401 Unauthorized"), id="refused, long body"
        ),
    ],
)
def test_a_head_of_any_kind_leaves_both_connections_usable(wire: Wire, answer: bytes) -> None:
    """Also where the upstream says no length, or sends a body that does not belong there."""

    def by_method(asked: Asked) -> bytes:
        return answer if asked.method == "HEAD" else response(b"right")

    wire.play(answering(by_method))
    with wire.client() as client:
        for _ in range(3):
            first = client.get(MANIFEST, method="HEAD")
            assert first.head.version == "HTTP/1.1"
            second = client.get(MANIFEST)
            assert (second.status, second.body) == (200, b"right")


def test_a_head_by_http_1_0_has_the_length(wire: Wire) -> None:
    """And nothing after it."""
    wire.play(answering(by_method))
    with wire.client() as client:
        client.ask(MANIFEST, method="HEAD", version="HTTP/1.0")
        answer = client.head()
        assert answer.values("Content-Length") == [str(len(BODY))]
        assert client.rest() == b""
        assert client.ending is Ending.FIN


@pytest.mark.parametrize("fields", [(), ("Content-Length: 1234",)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_304_has_no_body(wire: Wire, method: str, fields: tuple[str, ...]) -> None:
    """With a Content-Length or without: the next answer follows at once."""
    not_modified = head('ETag: "abc"', *fields, status="304 Not Modified")
    wire.play(
        answering(lambda asked: not_modified if asked.value("If-None-Match") else BODY_ANSWER)
    )
    with wire.client() as client:
        answer = client.get(MANIFEST, 'If-None-Match: "abc"', method=method)
        assert (answer.status, answer.head.value("ETag")) == (304, '"abc"')
        assert answer.head.values("Transfer-Encoding") == []
        assert client.get(MANIFEST).body == BODY
    assert len(wire.upstream.connections) == 1


BODY_ANSWER = response(BODY)


def test_a_204_has_neither_body_nor_length(wire: Wire) -> None:
    """A 204 carries no Content-Length (RFC 9110, section 8.6)."""
    nothing = head("Content-Length: 0", status="204 No Content")
    wire.play(answering(lambda asked: nothing if "nothing" in asked.target else BODY_ANSWER))
    with wire.client() as client:
        answer = client.get(manifest("nothing"))
        assert answer.status == 204
        assert not answer.head.names & {"content-length", "transfer-encoding"}
        assert client.get(MANIFEST).body == BODY


def cdn_without_head(asked: Asked) -> bytes:
    """Answer as an object store does to a URL that was signed for GET."""
    if asked.method == "HEAD":
        return head("Content-Length: 200", status="403 Forbidden")
    assert asked.values("Range") == ["bytes=0-0"]
    assert asked.values("Authorization") == []
    return response(
        b"x", "Content-Range: bytes 0-0/123456", "Content-Type: application/octet-stream",
        status="206 Partial Content",
    )  # fmt: skip


def test_a_head_that_the_redirects_target_refuses_is_answered(wire: Wire) -> None:
    """By asking for the first byte: the client gets 200 with the whole length, and no byte."""
    with Upstream() as cdn, playing(cdn):
        cdn.play(answering(cdn_without_head))
        wire.play(always(location(f"{cdn.url}/layer")))
        with wire.client() as client:
            for _ in range(2):
                answer = client.get(BLOB, "Authorization: Bearer mine", method="HEAD")
                assert answer.status == 200
                assert answer.head.values("Content-Length") == ["123456"]
                assert answer.head.values("Docker-Content-Digest") == [DIGEST]
                assert "content-range" not in answer.head.names
        assert [asked.method for asked in cdn.asked] == ["HEAD", "GET"] * 2
    assert {asked.method for asked in wire.upstream.asked} == {"HEAD"}


def test_a_head_where_the_target_ignores_range_reads_no_body(wire: Wire) -> None:
    """The connection on which a whole layer would come is closed at once."""
    with Upstream() as cdn, playing(cdn):

        def script(connection: Connection) -> None:
            while connection.head().method == "HEAD":
                connection.send(head("Content-Length: 0", status="405 Method Not Allowed"))
            connection.send(head("Content-Length: 1000000000"), b"x" * 100_000)
            connection.until_left()

        cdn.play(script)
        wire.play(always(location(f"{cdn.url}/layer")))
        with wire.client() as client:
            answer = client.get(BLOB, method="HEAD")
            assert (answer.status, answer.head.value("Content-Length")) == (200, "1000000000")
            assert cdn.connections[-1].left.wait(2)


def test_a_length_is_kept_exactly(either_wire: Wire) -> None:
    """What an upstream declares is declared to the client, and just so much is sent."""
    either_wire.play(always(response(BODY)))
    with either_wire.client() as client:
        answer = client.get(BLOB)
        assert answer.head.values("Content-Length") == [str(len(BODY))]
        assert answer.head.values("Transfer-Encoding") == []
        assert answer.body == BODY
        assert client.get(BLOB).body == BODY


def test_an_empty_body_has_length_zero(wire: Wire) -> None:
    """Zero is a length as well."""
    wire.play(always(response(b"")))
    with wire.client() as client:
        answer = client.get(BLOB)
        assert answer.head.values("Content-Length") == ["0"]
        assert client.get(BLOB).status == 200


def chunked(body: bytes) -> bytes:
    """Return a chunked answer, in uneven pieces, with an extension and a trailer."""
    return b"".join([
        head("Transfer-Encoding: chunked"),
        chunk(body[:1]),
        b"%X;name=value\r\n%b\r\n" % (len(body[1:5000]), body[1:5000]),
        chunk(body[5000:]),
        b"0\r\nX-Trailer: 1\r\n\r\n",
    ])  # fmt: skip


def test_a_chunked_body_is_chunked_to_http_1_1(either_wire: Wire) -> None:
    """Without a length, the last chunk says that it is whole."""
    either_wire.play(always(chunked(BODY)))
    with either_wire.client() as client:
        for _ in range(2):
            answer = client.get(BLOB)
            assert answer.head.values("Transfer-Encoding") == ["chunked"]
            assert answer.head.values("Content-Length") == []
            assert (answer.body, answer.complete) == (BODY, True)
        assert client.ending is Ending.NONE
    assert len(either_wire.upstream.connections) == 1


@pytest.mark.parametrize("fields", [(), ("Connection: keep-alive",)])
def test_a_chunked_body_ends_with_the_connection_to_http_1_0(
    either_wire: Wire, fields: tuple[str, ...]
) -> None:
    """HTTP/1.0 knows no chunks: the end is a FIN, and only where the body is whole."""
    either_wire.play(always(chunked(BODY)))
    with either_wire.client() as client:
        answer = client.get(BLOB, *fields, version="HTTP/1.0")
    assert not answer.head.names & {"transfer-encoding", "content-length"}
    assert answer.head.value("Connection") == "close"
    assert (answer.body, answer.ending) == (BODY, Ending.FIN)


def test_http_1_0_with_a_length_may_keep_its_connection(wire: Wire) -> None:
    """As nginx does without proxy_http_version."""
    wire.play(always(response(BODY)))
    with wire.client() as client:
        for _ in range(2):
            answer = client.get(BLOB, "Connection: keep-alive", version="HTTP/1.0")
            assert answer.head.values("Content-Length") == [str(len(BODY))]
            assert answer.body == BODY


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_body_that_ends_with_the_upstreams_connection_is_whole(
    start: Start,
    tls: bool,  # noqa: FBT001 - a table
) -> None:
    """Neither length nor chunks: a FIN, or TLS's own end, is the end (RFC 9112, section 6.3).

    It is asked for once more, since a cut looks the same.
    """

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head("Connection: close"), BODY)
        connection.close_notify()

    wire = start(tls=tls, DOCXY_RESUME_BUDGET="10")
    with playing(wire.upstream), wire.client() as client:
        wire.play(script)
        answer = client.get(BLOB)
        assert (answer.body, answer.complete) == (BODY, True)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(("Content-Length: 5", "Content-Length: 7"), id="conflict"),
        pytest.param(("Content-Length: 5", "Content-Length: 5"), id="twice"),
        pytest.param(("Content-Length: 5, 5",), id="twice in a list"),
        pytest.param(("Content-Length: 5, 7",), id="conflict in a list"),
        pytest.param(("Content-Length: five",), id="no number"),
        pytest.param(("Content-Length: -5",), id="negative"),
        pytest.param(("Content-Length: +5",), id="plus"),
        pytest.param(("Content-Length: 0x5",), id="hexadecimal"),
        pytest.param(("Content-Length: 5_0",), id="underscore"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_length_that_cannot_be_read_is_refused(
    wire: Wire, method: str, fields: tuple[str, ...]
) -> None:
    """So nothing is smuggled into the next answer; the client hears of it as 502."""
    wire.play(always(head(*fields) + b"1234567"))
    with wire.client() as client:
        answer = client.get(BLOB, method=method)
        assert answer.status == 502
        assert client.get("/health").status == 200
    assert wire.upstream.connections[0].left.wait(2)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(("Content-Length: 3", "Transfer-Encoding: chunked"), id="length first"),
        pytest.param(("Transfer-Encoding: chunked", "Content-Length: 30000"), id="chunked first"),
        pytest.param(("Transfer-Encoding: CHUNKED", "Content-Length: 3"), id="capitals"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_chunks_of_a_length_are_refused(wire: Wire, method: str, fields: tuple[str, ...]) -> None:
    """Some readers go by the one, and some by the other (RFC 9112, section 6.3)."""
    wire.play(always(head(*fields) + chunk(b"chunk") + LAST_CHUNK))
    with wire.client() as client:
        assert client.get(BLOB, method=method).status == 502
        assert client.get("/health").status == 200
    assert wire.upstream.connections[0].left.wait(2)


def test_an_unknown_transfer_coding_is_refused(wire: Wire) -> None:
    """What cannot be decoded cannot be passed on as the body (RFC 9112, section 6.1)."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head("Transfer-Encoding: gzip, chunked"), chunk(b"zipped"), LAST_CHUNK)

    wire.play(script)
    with wire.client() as client:
        assert client.get(BLOB).status == 502


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_interim_answer_is_not_the_answer(wire: Wire, method: str, status: str) -> None:
    """Any number of 1xx may come before it (RFC 9110, section 15.2)."""
    interim = head("Link: </style.css>; rel=preload", status=status)

    def answer(asked: Asked) -> bytes:
        return interim + interim + by_method(asked)

    wire.play(answering(answer))
    with wire.client() as client:
        for _ in range(2):
            answer_ = client.get(MANIFEST, method=method)
            assert answer_.status == 200
            assert answer_.head.values("Content-Length") == [str(len(BODY))]
            assert answer_.body == (b"" if method == "HEAD" else BODY)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="status"),
        pytest.param(b"HTTP/1.1 999999 OK\r\n\r\n", id="long status"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_answer_becomes_an_error(either_wire: Wire, garbage: bytes) -> None:
    """The client gets 502 or 503 as OCI JSON, and keeps its connection."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(garbage)

    either_wire.play(script)
    with either_wire.client() as client:
        answer = client.get(BLOB)
        assert answer.status in {502, 503}
        assert b'"UNAVAILABLE"' in answer.body
        assert client.get("/health").status == 200


@pytest.mark.parametrize("status", ["200", "299 Unusual", "200 " + "r" * 500])
def test_an_unusual_status_line_passes(wire: Wire, status: str) -> None:
    """A reason may be missing, long or unheard of."""
    wire.play(always(response(b"{}", status=status)))
    with wire.client() as client:
        answer = client.get(MANIFEST)
        assert (answer.status, answer.body) == (int(status[:3]), b"{}")
