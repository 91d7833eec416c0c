"""gunicorn's gevent worker, and two things that container clients need of it.

Not part of `app`: gunicorn loads it in the master, where nothing that gevent patches may be
imported yet.
"""

import socket
from functools import partial
from typing import Any, Final

import gevent
from gunicorn import util
from gunicorn.workers.ggevent import GeventWorker

_TLS_HANDSHAKE: Final = b"\x16"
"""The first byte of every TLS connection (RFC 8446, section 5.1); no HTTP method begins so."""

_NOT_HTTPS: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This is an HTTP server, and the client spoke HTTPS.\n"
)


class Worker(GeventWorker):
    """Tells TLS clients at once that this is HTTP, and lets no idle connection delay a stop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        super().__init__(*args, **kwargs)
        self._idle: set[socket.socket] = set()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve a connection.

        Docker's containerd image store tries TLS on loopback first, and goes on to plain HTTP only
        if the answer begins with HTTP/. gunicorn waits for the end of the line, which a TLS hello
        may never contain.
        """
        self._idle.add(client)
        try:
            first = b"" if self.cfg.is_ssl else self._first_byte(client)
            if first == _TLS_HANDSHAKE:
                client.recv(64 * 1024)  # left unread, it would turn the close into a reset
                client.sendall(_NOT_HTTPS)
                util.close_graceful(client)
            elif first or self.cfg.is_ssl:
                super().handle(listener, client, addr)
            else:
                util.close(client)
        except OSError:
            util.close(client)
        finally:
            self._idle.discard(client)

    def _first_byte(self, client: socket.socket) -> bytes:
        client.setblocking(True)  # noqa: FBT003 - as the standard library has it
        peek = partial(client.recv, 1, socket.MSG_PEEK)
        return bytes(gevent.with_timeout(self.cfg.keepalive, peek, timeout_value=b""))

    def handle_request(
        self,
        listener_name: Any,  # noqa: ANN401 - as inherited
        req: Any,  # noqa: ANN401 - as inherited
        sock: socket.socket,
        addr: Any,  # noqa: ANN401 - as inherited
    ) -> bool:
        """Serve a request; its connection is idle before and after."""
        self._idle.discard(sock)
        try:
            return super().handle_request(listener_name, req, sock, addr)
        finally:
            self._idle.add(sock)

    def notify(self) -> None:
        """Beat; in a worker that stops, end the connections on which nothing is going on.

        gunicorn waits for them as for downloads. Only reading ends: a request that has arrived
        is still served.
        """
        super().notify()
        if not self.alive:
            for sock in tuple(self._idle):
                try:
                    sock.shutdown(socket.SHUT_RD)
                except OSError:
                    continue  # closed meanwhile
