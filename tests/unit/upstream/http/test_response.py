"""Connections to upstreams: real sockets, for what no stub can show."""

import socket
import ssl
import threading

import pytest
import trustme
from urllib3.util.ssltransport import SSLTransport

from app.oci.errors import ClientGone, UpstreamMisbehaved, UpstreamTimeout, UpstreamUnavailable
from app.source import BodyBroken
from app.upstream.http.body import Body, discard
from app.upstream.http.connect import Connector
from app.upstream.http.deadlines import Call, bind_call
from app.upstream.http.pools import PoolFactories, Pools, build_trusted_context
from app.upstream.http.response import UpstreamResponse
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from tests.unit.upstream.server import PATIENCE, Server, answering, request, serving

OPEN = Pools.for_connector(Connector(allow_private=True, prefer_ipv4=False))


class Leaving:
    """A client that is there until it is told to leave."""

    def __init__(self) -> None:
        self.looked = threading.Event()
        self.left = threading.Event()

    def is_gone(self) -> bool:
        """Tell, and tell that it was asked."""
        self.looked.set()
        return self.left.is_set()


def session(read_timeout: float = PATIENCE, ca_bundle: str | None = None) -> Session:
    """Return a Session with a timeout of its own."""
    return Session(
        ca_bundles=[ca_bundle] if ca_bundle else [],
        proxies=OutboundProxies(https=None, http=None, no_proxy=""),
        connect_timeout=PATIENCE,
        read_timeout=read_timeout,
        connector=Connector(allow_private=True, prefer_ipv4=False),
    )


def test_what_is_there_is_handed_on_at_once() -> None:
    """A slow upstream's first bytes do not wait for a buffer to fill."""

    def script(peer: socket.socket, server: Server) -> None:
        request(peer)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
        assert server.go_on.wait(PATIENCE)
        peer.sendall(b"last")

    with serving(script) as server:
        pieces = iter(Body(session().send("GET", server.url, [])))
        assert next(pieces) == b"first"
        server.go_on.set()
        assert b"".join(pieces) == b"last"


@pytest.mark.parametrize("framing", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
def test_a_client_that_leaves_ends_the_wait(framing: bytes) -> None:
    """While an upstream is silent in mid-body, the client is looked at."""

    def script(peer: socket.socket, server: Server) -> None:
        request(peer)
        first = b"first" if framing.endswith(b"9") else b"5\r\nfirst\r\n"
        peer.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + first)
        assert server.go_on.wait(PATIENCE)

    client = Leaving()
    with serving(script) as server:
        pieces = iter(Body(session().send("GET", server.url, [], call=Call(client))))
        assert next(pieces) == b"first"
        client.left.set()
        with pytest.raises(ConnectionResetError):
            next(pieces)
        assert client.looked.is_set()


def test_a_client_that_leaves_before_the_answer() -> None:
    """Nobody waits for headers that nobody will read."""

    def script(peer: socket.socket, server: Server) -> None:
        request(peer)
        assert server.go_on.wait(PATIENCE)

    client = Leaving()
    client.left.set()
    with serving(script) as server, pytest.raises(ClientGone):
        session().send("GET", server.url, [], call=Call(client))


def test_an_upstream_that_is_silent() -> None:
    """The idle timeout ends the wait for the headers, with the client still there."""

    def script(peer: socket.socket, server: Server) -> None:
        request(peer)
        assert server.go_on.wait(PATIENCE)

    with serving(script) as server, pytest.raises(UpstreamTimeout):
        session(read_timeout=0.2).send("GET", server.url, [], call=Call(Leaving()))


@pytest.mark.parametrize(
    "script_end",
    [pytest.param(b"", id="end"), pytest.param(b"HTTP", id="half a line")],
)
def test_a_short_body_breaks(script_end: bytes) -> None:
    """Fewer bytes than were promised are never a whole body."""

    def script(peer: socket.socket, server: Server) -> None:
        del server
        request(peer)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + script_end)

    with serving(script) as server:
        body = Body(session().send("GET", server.url, []))
        with pytest.raises(ConnectionResetError):
            list(body)


def test_a_connection_is_used_again() -> None:
    """What was read to its end goes back, and the next request is sent on it whole."""

    def script(peer: socket.socket, server: Server) -> None:
        del server
        while asked := request(peer):
            length = str(len(asked)).encode()
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n" + asked)

    with serving(script) as server:
        own = session()
        for size in (10, 500_000, 10):
            fields = [("Authorization", "x" * size)]
            echoed = b"".join(Body(own.send("GET", server.url, fields)))
            assert echoed.count(b"x") == size
        assert len(server.peers) == 1


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        pytest.param("HEAD", b"200 OK\r\nContent-Length: 99999999", id="HEAD of a layer"),
        pytest.param("GET", b"304 Not Modified", id="not modified"),
        pytest.param("GET", b"307 Temporary Redirect\r\nContent-Length: 0", id="redirect"),
    ],
)
def test_an_answer_without_a_body_keeps_its_connection(method: str, answer: bytes) -> None:
    """A revalidation costs no new TLS handshake."""

    def script(peer: socket.socket, server: Server) -> None:
        del server
        while request(peer):
            peer.sendall(b"HTTP/1.1 " + answer + b"\r\n\r\n")

    with serving(script) as server:
        own = session()
        for _ in range(3):
            discard(own.send(method, server.url, []))
        assert len(server.peers) == 1


def test_a_body_left_unread_closes_its_connection() -> None:
    """The rest of one body is never the beginning of the next answer."""

    def script(peer: socket.socket, server: Server) -> None:
        del server
        request(peer)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
        assert peer.recv(1) == b""

    with serving(script) as server:
        own = session()
        for _ in range(2):
            body = Body(own.send("GET", server.url, []))
            assert next(iter(body)) == b"first"
            body.close()
        assert len(server.peers) == 2


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        pytest.param("GET", b"200 OK\r\nContent-Length: 2\r\n\r\nok", id="length"),
        pytest.param("GET", b"200 OK\r\nContent-Length: 0\r\n\r\n", id="nothing"),
        pytest.param(
            "GET", b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", id="chunks"
        ),
        pytest.param("GET", b"204 No Content\r\n\r\n", id="204"),
        pytest.param("GET", b"304 Not Modified\r\nContent-Length: 9\r\n\r\n", id="304"),
        pytest.param("HEAD", b"200 OK\r\nContent-Length: 9\r\n\r\n", id="HEAD"),
    ],
)
@pytest.mark.parametrize("more", [b"x", b"HTTP/1.1 200 OK\r\n", b"\r\n", b"x" * 20_000])
def test_more_than_the_answer(method: str, answer: bytes, more: bytes) -> None:
    """What is left over is nobody's answer: its connection is not used again."""

    def script(peer: socket.socket, server: Server) -> None:
        del server
        while request(peer):
            peer.sendall(b"HTTP/1.1 " + answer + more)

    with serving(script) as server:
        own = session()
        for _ in range(3):
            discard(own.send(method, server.url, []))
        assert len(server.peers) == 3


def test_waiting_ends_with_its_block() -> None:
    """The client of one request is not looked at for the next."""
    client = Leaving()
    client.left.set()

    def script(peer: socket.socket, server: Server) -> None:
        request(peer)
        assert not server.go_on.wait(0.6)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with serving(script) as server:
        with bind_call(Call(client)):
            pass
        assert b"".join(Body(session().send("GET", server.url, []))) == b"ok"
        assert not client.looked.is_set()


INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 199 Whatever\r\n\r\n",
]
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    "interim",
    [
        *(pytest.param(one, id=one[9:12].decode()) for one in INTERIM),
        pytest.param(b"".join(INTERIM), id="all"),
        pytest.param(INTERIM[2] * 15, id="many"),
    ],
)
def test_interim_answers_are_skipped(interim: bytes) -> None:
    """The answer is the final one, with its own headers only (RFC 9110, section 15.2)."""
    with serving(answering(interim + WHOLE)) as server:
        response = session().send("GET", server.url, [])
        assert response.status_code == 200
        assert "Link" not in response.headers
        assert response.headers["Content-Length"] == "2"
        assert b"".join(Body(response)) == b"ok"


def test_interim_answers_without_end() -> None:
    """Whoever never comes to the point has not answered."""
    with serving(answering(INTERIM[2] * 1000)) as server, pytest.raises(UpstreamMisbehaved):
        session().send("GET", server.url, [])


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"Content-Length : 2\r\n", id="space before the colon"),
        pytest.param(b"Content-Length\r\n", id="no colon"),
        pytest.param(b" X: y\r\nContent-Length: 2\r\n", id="begins with a continuation"),
        pytest.param(b"X: y\r\n: z\r\n", id="no name"),
        pytest.param(b"Transfer-Encoding: gzip\r\n", id="gzip"),
        pytest.param(b"Transfer-Encoding: gzip, chunked\r\n", id="gzip in chunks"),
        pytest.param(b"Transfer-Encoding: chunked, chunked\r\n", id="chunks in chunks"),
        pytest.param(b"Transfer-Encoding: chunked\r\n" * 2, id="chunked twice"),
        pytest.param(b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n", id="identity"),
        pytest.param(b"Transfer-Encoding: xchunked\r\n", id="a name that ends so"),
        pytest.param(b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", id="both"),
        pytest.param(b"Content-Length: 2\r\n" * 2, id="one length twice"),
        pytest.param(b"Content-Length: 2\r\nContent-Length: 3\r\n", id="two lengths"),
        pytest.param(b"Content-Length: +2\r\n", id="no plain number"),
        pytest.param(b"X: \x00\r\n", id="NUL"),
        pytest.param(b"Transfer-Encoding:\r\nContent-Length: 2\r\n", id="nothing"),
    ],
)
def test_heads_that_others_may_read_otherwise(head: bytes) -> None:
    """They are how answers are smuggled: none is passed on."""
    answer = b"HTTP/1.1 200 OK\r\n" + head + b"\r\nok"
    with serving(answering(answer)) as server, pytest.raises(UpstreamMisbehaved):
        session().send("GET", server.url, [])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n", id="behind the status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nETag: x\r\n", id="behind a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-", id="in a name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nETag: x", id="in a value"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_head_that_is_cut(method: str, answer: bytes) -> None:
    """What could have followed is not known: a cut head is no answer, and no empty body."""
    with (
        serving(answering(answer)) as server,
        pytest.raises((UpstreamMisbehaved, UpstreamUnavailable)),
    ):
        session().send(method, server.url, [])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"ok", id="no HTTP"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 ok\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="a status beyond"),
    ],
)
def test_what_is_no_answer(answer: bytes) -> None:
    """Whatever listens there, it is no registry."""
    with serving(answering(answer)) as server, pytest.raises(UpstreamMisbehaved):
        session().send("GET", server.url, [])


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(CHUNKED + b"2\r\nok\r\n0\r\n\r\n", id="plain"),
        pytest.param(CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", id="two"),
        pytest.param(CHUNKED + b"0002\r\nok\r\n000\r\n\r\n", id="zeros"),
        pytest.param(CHUNKED + b"2;x=1\r\nok\r\n0;y\r\n\r\n", id="extensions"),
        pytest.param(CHUNKED + b"2 \r\nok\r\n0\r\n\r\n", id="space behind a size"),
        pytest.param(CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n\r\n", id="trailer"),
        pytest.param(CHUNKED + b"2\r\nok\r\n0\r\n" + b"X: y\r\n" * 64 + b"\r\n", id="64 of them"),
        *(
            pytest.param(
                b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n", id=str(field)
            )
            for field in (
                b"Transfer-Encoding: Chunked",
                b"transfer-encoding:chunked",
                b"Transfer-Encoding: \t chunked",
                b"Transfer-Encoding: chunked ",
                b"Transfer-Encoding: chunked\t",
            )
        ),
    ],
)
def test_chunks(answer: bytes) -> None:
    """However the coding and the sizes are written, the content is what is in the chunks."""
    with serving(answering(answer)) as server:
        assert b"".join(Body(session().send("GET", server.url, []))) == b"ok"


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"2\r\no", id="in a chunk"),
        pytest.param(b"2\r\nok\r\n", id="before the last"),
        pytest.param(b"2\r\nok\r\n0", id="in the size of the last, or of a longer one"),
        pytest.param(b"2\r\nok\r\n0\r", id="in the end of a line"),
        pytest.param(b"2\r\nok\r\n00", id="zeros"),
        pytest.param(b"2\r\nok\r\n0\r\n", id="before the end of the trailer"),
        pytest.param(b"2\r\nok\r\n0\r\nX: y\r\n", id="in the trailer"),
        pytest.param(b"2\r\nok\r\n0\r\nX y\r\n\r\n", id="no trailer"),
        pytest.param(b"2\r\nok\r\n0\r\n" + b"X: y\r\n" * 65 + b"\r\n", id="a long trailer"),
        pytest.param(b"2\r\nok\r\n0\r\nX: " + b"y" * 16 * 1024 + b"\r\n\r\n", id="a wide trailer"),
        pytest.param(b"2\r\nokxx0\r\n\r\n", id="no end of a chunk"),
        pytest.param(b"2\r\nok\n\n0\r\n\r\n", id="another end of a chunk"),
        pytest.param(b"2\r\nok!\r\n0\r\n\r\n", id="more than its size"),
        pytest.param(b"2\nok\r\n0\r\n\r\n", id="a bare LF"),
        pytest.param(b"2;\x00\r\nok\r\n0\r\n\r\n", id="NUL in an extension"),
        pytest.param(b"2;\r\r\nok\r\n0\r\n\r\n", id="CR in an extension"),
        pytest.param(b" 2\r\nok\r\n0\r\n\r\n", id="space before a size"),
        pytest.param(b"2\r\nok\r\n\r\n", id="no size"),
        pytest.param(b"x\r\nok\r\n", id="not hexadecimal"),
        pytest.param(b"0x2\r\nok\r\n0\r\n\r\n", id="0x"),
        pytest.param(b"+2\r\nok\r\n0\r\n\r\n", id="plus"),
        pytest.param(b"-2\r\nok\r\n0\r\n\r\n", id="minus"),
        pytest.param(b"0_2\r\nok\r\n0\r\n\r\n", id="underscore"),
        pytest.param(b"2 2\r\nok\r\n0\r\n\r\n", id="two sizes"),
        pytest.param(b"1" * 16 + b"\r\nok\r\n", id="a size beyond measure"),
        pytest.param(b"2;" + b"x" * 5000 + b"\r\nok\r\n0\r\n\r\n", id="a line without end"),
    ],
)
def test_chunks_that_break(chunks: bytes) -> None:
    """A cut is never an end, and a size that others may read otherwise is none."""
    with serving(answering(CHUNKED + chunks)) as server:
        body = Body(session().send("GET", server.url, []))
        with pytest.raises(BodyBroken):
            list(body)


@pytest.fixture
def authority() -> trustme.CA:
    """Return a certificate authority of our own."""
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA) -> str:
    """Return the PEM text in which the authority is trusted."""
    return authority.cert_pem.bytes().decode()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """Return what a server on loopback needs for TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


UNTIL_THE_END = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf"


def test_a_tls_connection_that_is_closed(tls: ssl.SSLContext, bundle: str) -> None:
    """Without a length, the end of TLS is the end of the body."""

    def script(peer: socket.socket, server: Server) -> None:
        del server
        assert isinstance(peer, ssl.SSLSocket)
        request(peer)
        peer.sendall(UNTIL_THE_END)
        peer.unwrap()

    with serving(script, tls) as server:
        body = Body(session(ca_bundle=bundle).send("GET", server.url, []))
        assert b"".join(body) == b"half"


def test_a_tls_connection_that_is_cut(tls: ssl.SSLContext, bundle: str) -> None:
    """Anybody on the way may cut it: that is no end (RFC 8446, section 6.1)."""
    with serving(answering(UNTIL_THE_END), tls) as server:
        body = iter(Body(session(ca_bundle=bundle).send("GET", server.url, [])))
        assert next(body) == b"half"
        with pytest.raises(BodyBroken):
            next(body)


def test_tls_in_tls_that_is_cut(tls: ssl.SSLContext, bundle: str) -> None:
    """The same through an outbound proxy that is spoken to with TLS itself."""
    context = build_trusted_context(bundle)
    with (
        serving(answering(UNTIL_THE_END), tls) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as plain,
    ):
        inner = SSLTransport(plain, context, server_hostname="127.0.0.1")
        inner.sendall(b"GET / HTTP/1.1\r\n\r\n")
        response = UpstreamResponse(inner, method="GET")  # type: ignore[arg-type] # as urllib3 does
        response.begin()
        assert response.read1(100) == b"half"
        with pytest.raises(OSError, match="EOF"):
            response.read1(100)


def test_a_newer_http_client() -> None:
    """It may tell a response how many fields the connection takes; ours has its own limit."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nContent-Length: 2\r\n\r\nok")
        response = UpstreamResponse(here, method="GET")
        response.begin(_max_headers=1)
        assert response.headers.items() == [("A", "1"), ("B", "2"), ("Content-Length", "2")]
        assert response.read1(100) == b"ok"


def test_bytes_that_nobody_asked_for(tls: ssl.SSLContext, bundle: str) -> None:
    """They are not the answer to the next request: their connection is not used again."""

    def script(peer: socket.socket, server: Server) -> None:
        del server
        while request(peer):
            peer.sendall(WHOLE + b"x" * 12_000)

    with serving(script, tls) as server:
        own = session(ca_bundle=bundle)
        assert b"".join(Body(own.send("GET", server.url, []))) == b"ok"
        assert b"".join(Body(own.send("GET", server.url, []))) == b"ok"
        assert len(server.peers) == 2


@pytest.mark.parametrize(
    "pools",
    [
        pytest.param(OPEN.direct, id="direct"),
        pytest.param(OPEN.http_proxy, id="HTTP proxy"),
        pytest.param(OPEN.socks, id="SOCKS"),
    ],
)
def test_every_tls_connection_is_looked_into(
    tls: ssl.SSLContext, bundle: str, pools: PoolFactories
) -> None:
    """TLS may hold bytes that the socket does not show, however it leads to the registry."""
    context = ssl.create_default_context(cadata=bundle)
    socks = {"socks_version": 2, "proxy_host": "127.0.0.1", "proxy_port": 9}
    options = {"_socks_options": socks} if pools == OPEN.socks else {}

    def script(peer: socket.socket, server: Server) -> None:
        peer.sendall(b"xx")
        assert server.go_on.wait(PATIENCE)

    with (
        serving(script, tls) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        connection = pools["https"]("127.0.0.1").ConnectionCls(host="127.0.0.1", **options)
        connection.sock = sock
        assert sock.recv(1) == b"x"
        assert sock.pending() == 1
        assert not connection.is_connected
