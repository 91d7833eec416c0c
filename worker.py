"""gunicorn's gevent worker, and what container clients and slow lines need of it.

Not part of `app`: gunicorn loads it in the master, where nothing that gevent patches may be
imported yet.
"""

import _socket
import contextlib
import gc
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, Final

import gevent
from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.errors import (  # type: ignore[attr-defined] # two are not in the stubs yet
    ConfigurationProblem,
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.parser import RequestParser
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

import shared  # noqa: F401 - to be made before the fork
from incoming import BoundedRequest
from outgoing import ClientSocket

_TLS_HANDSHAKE: Final = b"\x16"
"""The first byte of every TLS connection (RFC 8446, section 5.1); no HTTP method begins so."""

_NOT_HTTPS: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This is an HTTP server, and the client spoke HTTPS.\n"
)

_OUR_FAULT: Final = (ConfigurationProblem, InvalidResponseHeader, InvalidResponseHeaderName)
_STATUSES: Final[dict[type[Exception], HTTPStatus]] = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
"""What is told of a request that is none; anything else is 400."""

_SPARE: Final = 4
"""Seconds of graceful_timeout that are left for ending what it was too short for."""


RequestParser.mesg_class = BoundedRequest  # no setting names it


_date_of = lru_cache(1)(util.http_date)


def _http_date(timestamp: float | None = None) -> str:
    """Write the Date of an answer, once a second: it took a tenth of all that gunicorn does."""
    return _date_of(int(time.time() if timestamp is None else timestamp))


util.http_date = _http_date
# Where errors are written is the same for each request; to find it took two locks.
wsgi.WSGIErrorsWrapper = lru_cache(1)(wsgi.WSGIErrorsWrapper)  # type: ignore[misc,assignment]


class Worker(GeventWorker):
    """Tells TLS clients at once that this is HTTP, and lets no idle connection delay a stop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        super().__init__(*args, **kwargs)
        self._idle: set[socket.socket] = set()
        self._new: set[socket.socket] = set()
        """Those that have been accepted, and whose first request may be on its way."""
        self._serving: set[Any] = set()
        """The greenlets that have a connection."""
        self._patient_until = float("inf")

    def load_wsgi(self) -> None:
        """Load the application, which is never garbage.

        Looking for garbage took an eighth of the time, and would take 35 ms in the midst of
        downloads, again and again.
        """
        gc.disable()
        super().load_wsgi()
        gc.freeze()
        gc.enable()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve a connection.

        Docker's containerd image store tries TLS on loopback first, and goes on to plain HTTP only
        if the answer begins with HTTP/. gunicorn waits for the end of the line, which a TLS hello
        may never contain.
        """
        if self.cfg.is_ssl:
            super().handle(listener, client, addr)
            return
        client = ClientSocket(client.family, client.type, client.proto, fileno=client.detach())
        with self._having(client), contextlib.closing(client), contextlib.suppress(OSError):
            first = self._first_byte(client)
            if first == _TLS_HANDSHAKE:
                client.recv(64 * 1024)  # left unread, it would turn the close into a reset
                client.sendall(_NOT_HTTPS)
                util.close_graceful(client)
            elif first:
                super().handle(listener, client, addr)

    def handle_request(
        self,
        listener_name: Any,  # noqa: ANN401 - as inherited
        req: Any,  # noqa: ANN401 - as inherited
        sock: socket.socket,
        addr: Any,  # noqa: ANN401 - as inherited
    ) -> bool:
        """Serve a request; its connection is idle before and after.

        One that is cut ends its connection. gevent's worker would go on with it, and answer what
        the client has sent meanwhile into the midst of the body.
        """
        self._idle.discard(sock)
        self._new.discard(sock)
        try:
            return AsyncWorker.handle_request(self, listener_name, req, sock, addr)
        except (gevent.GreenletExit, SystemExit):
            raise StopIteration from None
        except StopIteration:
            if req.leaves_body():
                util.close_graceful(sock)  # closed at once, it would reset what is on its way
            raise
        finally:
            self._idle.add(sock)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:  # noqa: ANN401 - as inherited
        """Refuse in JSON what is no request, and log its kind; its text may hold a secret."""
        if not isinstance(exc, Exception):
            return  # the end of the process
        if not isinstance(exc, ParseException) or isinstance(exc, _OUR_FAULT):
            super().handle_error(req, client, addr, exc)
            return
        status = _STATUSES.get(type(exc), HTTPStatus.BAD_REQUEST)
        request_id = uuid.uuid4().hex
        self.log.warning(
            "Not a request. status=%s kind=%s client=%s request_id=%s",
            status.value, type(exc).__name__, addr[0] if addr else "", request_id,
        )  # fmt: skip
        error = {"code": "UNKNOWN", "message": "this is no HTTP request that can be read"}
        body = json.dumps({"errors": [error | {"detail": None}]}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            "Content-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-ID: {request_id}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            client.sendall(head.encode("ascii") + body)
            util.close_graceful(client)  # what is unread would turn a close into a reset

    def notify(self) -> None:
        """Beat; in a worker that stops, end the connections on which nothing is going on.

        gunicorn waits for them as for downloads. Only reading ends: a request that has arrived
        is still served, until the time to stop is nearly over. When it is over the master kills,
        and what was cut would leave no line in the log.
        """
        super().notify()
        if self.alive:
            patience = self.cfg.graceful_timeout
            self._patient_until = time.monotonic() + patience - min(_SPARE, patience / 2)
            return
        for sock in self._idle - self._new:
            _stop_reading(sock)
        self._new.clear()  # whoever has said nothing by the next beat is idle, too
        if self._serving and time.monotonic() > self._patient_until:
            self.log.warning("The time to stop is over. cut=%s", len(self._serving))
            self._cut()

    def handle_quit(self, sig: int, frame: Any) -> None:  # noqa: ANN401 - as inherited
        """End at once, but not before what is cut has left its lines in the log."""

        def end() -> None:
            self._cut()
            super(Worker, self).handle_quit(sig, frame)

        gevent.spawn(end)

    def _cut(self) -> None:
        serving = list(self._serving)
        gevent.killall(serving, block=False)
        gevent.joinall(serving, timeout=1)

    @contextlib.contextmanager
    def _having(self, client: socket.socket) -> Iterator[None]:
        here = gevent.getcurrent()
        self._idle.add(client)
        self._new.add(client)
        self._serving.add(here)
        try:
            yield
        finally:
            self._idle.discard(client)
            self._new.discard(client)
            self._serving.discard(here)

    def _first_byte(self, client: socket.socket) -> bytes:
        client.settimeout(None)
        peek = partial(client.recv, 1, socket.MSG_PEEK)
        patience = self.cfg.keepalive or self.cfg.timeout or None
        return bytes(gevent.with_timeout(patience, peek, timeout_value=b""))


def _stop_reading(sock: socket.socket) -> None:
    """Let whoever reads find the end; gevent's own shutdown would raise in the reader instead."""
    with contextlib.suppress(OSError):  # closed meanwhile
        twin = _socket.socket(fileno=os.dup(sock.fileno()))
        try:
            twin.shutdown(socket.SHUT_RD)
        finally:
            twin.close()
