"""A server on loopback that answers what no stub can: bytes as they are, and their ends."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

PATIENCE = 10.0
"""Seconds until a test gives up; nothing waits so long when all is well."""


@dataclass
class Server:
    """A server on loopback that plays one script for each connection."""

    port: int
    scheme: str = "http"
    go_on: threading.Event = field(default_factory=threading.Event)
    peers: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"{self.scheme}://127.0.0.1:{self.port}/"


Script = Callable[[socket.socket, Server], None]


def request(peer: socket.socket) -> bytes:
    """Read a request's headers."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        if not (piece := peer.recv(65536)):
            break
        received += piece
    return received


def answering(answer: bytes) -> Script:
    """Return a script that answers each connection's only request so, and closes."""

    def script(peer: socket.socket, server: Server) -> None:
        del server
        request(peer)
        peer.sendall(answer)

    return script


@contextlib.contextmanager
def serving(script: Script, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve in a thread, until the block ends; with TLS if there is a context for it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener.getsockname()[1], "https" if context else "http")
        listener.settimeout(PATIENCE)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    peer.settimeout(PATIENCE)
                    if context:
                        peer = context.wrap_socket(peer, server_side=True)
                    server.peers.append(peer)
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
