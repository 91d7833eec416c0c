"""Connections to upstreams: real sockets, for what no stub can show."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from app.oci.errors import ClientGone, UpstreamTimeout
from app.upstream.body import Body
from app.upstream.connection import waiting
from app.upstream.outbound import OutboundProxies
from app.upstream.redirects import discard
from app.upstream.session import Session

PATIENCE = 10.0
"""Seconds until a test gives up; nothing waits so long when all is well."""


class Leaving:
    """A client that is there until it is told to leave."""

    def __init__(self) -> None:
        self.looked = threading.Event()
        self.left = threading.Event()

    def gone(self) -> bool:
        """Tell, and tell that it was asked."""
        self.looked.set()
        return self.left.is_set()


@dataclass
class Server:
    """A server on loopback that plays one script for each connection."""

    port: int
    go_on: threading.Event = field(default_factory=threading.Event)
    peers: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.port}/"


Script = Callable[[socket.socket, Server], None]


def request(peer: socket.socket) -> bytes:
    """Read a request's headers."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        if not (piece := peer.recv(65536)):
            break
        received += piece
    return received


@contextlib.contextmanager
def serving(script: Script) -> Iterator[Server]:
    """Serve in a thread, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener.getsockname()[1])
        listener.settimeout(PATIENCE)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    server.peers.append(peer)
                    peer.settimeout(PATIENCE)
                    with peer, contextlib.suppress(OSError):
                        script(peer, server)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            server.go_on.set()
            for sock in (listener, *server.peers):
                with contextlib.suppress(OSError):  # closed by its script
                    sock.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def session(read_timeout: float = PATIENCE) -> Session:
    """Return a Session with a timeout of its own."""
    return Session(
        ca_bundle=None,
        proxies=OutboundProxies(https=None, http=None, no_proxy=""),
        connect_timeout=PATIENCE,
        read_timeout=read_timeout,
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
        pieces = iter(Body(session().send("GET", server.url, [], client=client)))
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
        session().send("GET", server.url, [], client=client)


def test_an_upstream_that_is_silent() -> None:
    """The idle timeout ends the wait for the headers, with the client still there."""

    def script(peer: socket.socket, server: Server) -> None:
        request(peer)
        assert server.go_on.wait(PATIENCE)

    with serving(script) as server, pytest.raises(UpstreamTimeout):
        session(read_timeout=0.2).send("GET", server.url, [], client=Leaving())


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


def test_waiting_ends_with_its_block() -> None:
    """The client of one request is not looked at for the next."""
    client = Leaving()
    client.left.set()

    def script(peer: socket.socket, server: Server) -> None:
        request(peer)
        assert not server.go_on.wait(0.6)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with serving(script) as server:
        with waiting(client):
            pass
        assert b"".join(Body(session().send("GET", server.url, []))) == b"ok"
        assert not client.looked.is_set()
