"""gunicorn's gevent worker, adapted to container clients and slow connections.

gunicorn imports this module in the master, which may import little: see server/__init__.py.
"""

import _socket
import contextlib
import gc
import json
import logging
import os
import resource
import select
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, Final, NoReturn

import gevent
import gunicorn
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.config import Config
from gunicorn.http.errors import (  # type: ignore[attr-defined] # two are not in the stubs yet
    ConfigurationProblem,
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from app import shared_memory  # noqa: F401 - allocates the shared memory before the fork
from server.client_socket import ClientSocket
from server.connections import FRONT, Connection, Connections, format_site, pack_site
from server.request import are_made_by_parser, get_head_timeout, is_trusted_peer

logger = logging.getLogger("python")

_TLS_HANDSHAKE: Final = b"\x16"
"""The first byte of every TLS connection (RFC 8446, section 5.1); no HTTP method begins with it."""

_NOT_HTTPS: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This is an HTTP server, and the client spoke HTTPS.\n"
)

_OWN_ERRORS: Final = (ConfigurationProblem, InvalidResponseHeader, InvalidResponseHeaderName)
_STATUSES: Final[dict[type[Exception], HTTPStatus]] = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
"""The status for each parse error; all other parse errors get 400."""

_HEALTH: Final = "/health"
"""Served even if all places are taken: an orchestrator would kill a worker that is merely busy."""
_FULL_STATUS: Final = HTTPStatus.SERVICE_UNAVAILABLE
_RETRY_AFTER: Final = "Retry-After: 5\r\n"

_FILES_PER_PLACE: Final = 3
"""File descriptors that one place needs: a client, a registry and a file of the cache."""
_OWN_FILES: Final = 128
"""Other descriptors of a worker: listeners, logs, databases, pools of idle connections."""

_EVICTED_LOG_INTERVAL: Final = 10.0
"""The least number of seconds between two log lines about connections that had to make room."""

_YIELD_SECONDS: Final = 0.2
"""Seconds for which a full worker leaves new connections to the other workers."""
_YIELD_CHECKS: Final = 20
"""The number of checks in that time whether the others have accepted them."""

_CUT_RESERVE: Final = 4
"""Seconds of graceful_timeout that are reserved for cutting the requests that are still running."""


def _log_failure(context: object, exception_type: Any, exception: Any, trace: Any) -> None:  # noqa: ANN401 - gevent's
    """Log an uncaught exception of a greenlet; gevent would write it to stderr in pieces."""
    fields = {"greenlet": str(context)}
    cause = (exception_type, exception, trace)
    logger.error("Uncaught exception in a greenlet.", exc_info=cause, extra={"fields": fields})


class Server(StreamServer):
    """Leaves new connections to the other workers for 0.2 s while its own worker is full.

    It then accepts the connections that are still waiting: the other workers are full as well, and
    one of the connections may be a health check.
    """

    worker: "ClassVar[Worker]"

    def __init__(self, listener: Any, *, spawn: Any, **unused: Any) -> None:  # noqa: ANN401 - as gunicorn calls it
        del unused
        super().__init__(listener, partial(self.worker.handle, listener), spawn=spawn)
        self._has_others = self.worker.cfg.workers > 1
        if self._has_others:
            self.max_accept = 1  # gunicorn does the same if a worker sets no server_class

    def do_read(self) -> Any:  # noqa: ANN401 - as inherited
        """Accept a connection and return it, or return `None` to leave it to the other workers."""
        if self._has_others and self.worker.is_full():
            self.stop_accepting()
            gevent.spawn(self._accept_remaining)
            return None
        return super().do_read()

    def _accept_remaining(self) -> None:
        """Accept the waiting connections, unless the backlog is empty at one of the checks."""
        for _ in range(_YIELD_CHECKS):
            gevent.sleep(_YIELD_SECONDS / _YIELD_CHECKS)
            if not self.started:
                return
            if not select.select([self.socket.fileno()], [], [], 0)[0]:
                self.start_accepting()
                return
        try:
            while not self.full() and (accepted := super().do_read()):
                self.do_handle(*accepted)
        finally:
            self.start_accepting()


class Worker(GeventWorker):
    """A gevent worker in which connections without a request make room for the others.

    It tells TLS clients at once that this is an HTTP server, and no idle connection delays a stop.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        super().__init__(*args, **kwargs)
        places = min(self.cfg.worker_connections, _compute_places())
        self._connections = Connections(places, _stop_reading)
        # gunicorn accepts none beyond this bound, and only an accepted connection makes another one
        # give way. So a second reserve stays free when the first is full of waiting connections.
        self.worker_connections = places + 2 * self._connections.reserve
        self._open: dict[Any, Connection] = {}
        """Keyed by the socket, which is all that gunicorn passes on to `handle_request`."""
        self._greenlets: set[Any] = set()
        """The greenlets that are handling a connection."""
        self._logged = 0.0
        self._cut_deadline = float("inf")

    server_class = Server

    @classmethod
    def check_parser(cls, cfg: Config) -> None:
        """Raise SystemExit with a message if gunicorn's parser does not make our requests."""
        if not are_made_by_parser(cfg):
            sys.exit(
                f"Docxy cannot start: gunicorn {gunicorn.__version__} makes requests without "
                "Docxy's bounds; install the version in requirements.txt"
            )

    def patch(self) -> None:
        """Let gevent patch the standard library, and log what fails in its greenlets."""
        super().patch()
        hub: Any = gevent.get_hub()
        hub.print_exception = _log_failure

    def run(self) -> None:
        """Serve until the worker is told to stop."""
        Server.worker = self
        super().run()

    def is_full(self) -> bool:
        """Return whether all places are taken by requests."""
        return self._connections.is_full()

    def load_wsgi(self) -> None:
        """Load the application with the garbage collector off, then exempt it from collection.

        Collections took an eighth of the time, and would stop all downloads for 35 ms each.
        """
        gc.disable()
        super().load_wsgi()
        application: Any = self.wsgi
        application.extensions["docxy.fit"](self._connections.places)
        gc.freeze()
        gc.enable()
        if (places := self._connections.places) < self.cfg.worker_connections:
            fields = {"connections": places, "configured": self.cfg.worker_connections}
            self.log.warning(
                "Fewer connections than configured: the limit of open files (ulimit -n) is low.",
                extra={"fields": fields},
            )

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:  # noqa: ANN401 - as inherited
        """Serve a connection until it ends; answer a TLS handshake with a plain 400.

        Docker's containerd image store tries TLS first on loopback, and falls back to plain HTTP
        only if the response begins with `HTTP/`. gunicorn would wait for the end of the line, which
        a TLS hello may not contain.
        """
        client = ClientSocket(client.family, client.type, client.proto, fileno=client.detach())
        with (
            self._track_connection(client, addr),
            contextlib.closing(client),
            contextlib.suppress(OSError),
        ):
            first_byte = self._peek_first_byte(client)
            if first_byte == _TLS_HANDSHAKE:
                client.recv(64 * 1024)  # unread data would turn the close into a reset
                client.sendall(_NOT_HTTPS)
                util.close_graceful(client)
            elif first_byte:
                super().handle(listener, client, addr)

    def handle_request(
        self,
        listener_name: Any,  # noqa: ANN401 - as inherited
        req: Any,  # noqa: ANN401 - as inherited
        sock: socket.socket,
        addr: Any,  # noqa: ANN401 - as inherited
    ) -> bool:
        """Serve a request; return whether the connection stays open for another one.

        The connection counts as waiting before and after. Raise StopIteration to close it, also if
        the request is cut: gevent's worker would keep the connection, and answer the client's next
        request in the middle of the body.
        """
        connection = self._open[sock]
        has_place = self._connections.mark_serving(connection)
        try:
            if not has_place and (req.path != _HEALTH or req.query):
                self._refuse_as_full(sock, addr)
            return AsyncWorker.handle_request(self, listener_name, req, sock, addr)
        except (gevent.GreenletExit, SystemExit):
            raise StopIteration from None
        except StopIteration:
            if req.has_unread_body():
                self._connections.mark_waiting(connection)
                util.close_graceful(sock)  # an immediate close would reset the response in flight
            raise
        finally:
            self._connections.mark_waiting(connection)

    def timeout_ctx(self) -> Any:  # noqa: ANN401 - as inherited
        """Return a timeout for the wait until the next request has arrived.

        The rest of the previous body is skipped first, in the time of a head. request.py bounds
        each part of the wait.
        """
        return gevent.Timeout(self.cfg.keepalive + 2 * get_head_timeout(self.cfg), NoMoreData())

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:  # noqa: ANN401 - as inherited
        """Answer an unreadable request with a JSON error, and log only the name of the exception.

        Its text quotes the request, which may contain a secret. gunicorn handles other exceptions.
        """
        if not isinstance(exc, Exception):
            return  # the process is exiting
        if not isinstance(exc, ParseException) or isinstance(exc, _OWN_ERRORS):
            super().handle_error(req, client, addr, exc)
            return
        status = _STATUSES.get(type(exc), HTTPStatus.BAD_REQUEST)
        request_id = uuid.uuid4().hex
        fields = {
            "status": status.value,
            "error_type": type(exc).__name__,
            "client": addr[0] if addr else "",
            "request_id": request_id,
        }
        self.log.warning("Malformed request.", extra={"fields": fields})
        message = "malformed HTTP request"
        with contextlib.suppress(OSError):
            client.sendall(_build_refusal(status, "UNKNOWN", message, request_id))
            util.close_graceful(client)  # unread data would turn a plain close into a reset

    def _refuse_as_full(self, sock: socket.socket, addr: Any) -> NoReturn:  # noqa: ANN401 - as inherited
        """Send a 503 in JSON because all places are taken, and raise StopIteration to close."""
        request_id = uuid.uuid4().hex
        self.log.warning(
            "Worker is at its connection limit.",
            extra={
                "fields": {
                    "status": _FULL_STATUS.value,
                    "client": addr[0] if addr else "",
                    "request_id": request_id,
                }
            },
        )
        message = "this proxy is at its connection limit; try again in a moment"
        sock.sendall(_build_refusal(_FULL_STATUS, "UNAVAILABLE", message, request_id, _RETRY_AFTER))
        raise StopIteration

    def notify(self) -> None:
        """Send the heartbeat; in a worker that is stopping, also end the idle connections.

        gunicorn waits for those as it does for downloads. Only their reading side is shut down, so
        a request that has arrived is still served. Shortly before `graceful_timeout` is over, cut
        the remaining requests: the master then kills, and they would leave no line in the log.
        """
        super().notify()
        self._log_evicted()
        if self.alive:
            patience = self.cfg.graceful_timeout
            self._cut_deadline = time.monotonic() + patience - min(_CUT_RESERVE, patience / 2)
            return
        for sock in list(self._connections.iter_idle_sockets()):
            _stop_reading(sock)
        if self._greenlets and time.monotonic() > self._cut_deadline:
            fields = {"connections": len(self._greenlets)}
            self.log.warning("Graceful shutdown timed out.", extra={"fields": fields})
            self._cut_requests()

    def handle_quit(self, sig: int, frame: Any) -> None:  # noqa: ANN401 - as inherited
        """Cut all requests, wait a second at most until they are logged, and exit."""

        def end() -> None:
            self._cut_requests()
            super(Worker, self).handle_quit(sig, frame)

        gevent.spawn(end)

    def _cut_requests(self) -> None:
        greenlets = list(self._greenlets)
        gevent.killall(greenlets, block=False)
        gevent.joinall(greenlets, timeout=1)

    def _log_evicted(self) -> None:
        """Log every 10 s at most how many connections had to make room: they may be thousands."""
        if (now := time.monotonic()) - self._logged < _EVICTED_LOG_INTERVAL:
            return
        if evicted := self._connections.take_evicted():
            self._logged = now
            ((site, count),) = evicted.most_common(1)
            fields = {"closed": evicted.total(), "client": format_site(site), "of_client": count}
            self.log.warning(
                "Closed waiting connections to accept new ones.", extra={"fields": fields}
            )

    @contextlib.contextmanager
    def _track_connection(self, client: ClientSocket, addr: Any) -> Iterator[None]:  # noqa: ANN401 - as inherited
        greenlet = gevent.getcurrent()
        connection = self._open[client] = self._connections.open(client, self._derive_site(addr))
        client.connection = connection
        self._greenlets.add(greenlet)
        try:
            yield
        finally:
            self._connections.close(connection)
            del self._open[client]
            self._greenlets.discard(greenlet)

    def _derive_site(self, addr: Any) -> bytes:  # noqa: ANN401 - as inherited
        """Return the site whose share a connection counts against; FRONT is exempt from shares."""
        is_front = not isinstance(addr, tuple) or is_trusted_peer(self.cfg, addr[0])
        return FRONT if is_front else pack_site(addr[0])

    def _peek_first_byte(self, client: socket.socket) -> bytes:
        client.settimeout(None)
        peek = partial(client.recv, 1, socket.MSG_PEEK)
        return bytes(gevent.with_timeout(get_head_timeout(self.cfg), peek, timeout_value=b""))


def _compute_places() -> int:
    """Return how many places fit the limit of open files; beyond that limit accept(2) fails."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max((limit - _OWN_FILES) // _FILES_PER_PLACE, 1)


def _build_refusal(
    status: HTTPStatus, code: str, message: str, request_id: str, fields: str = ""
) -> bytes:
    """Return a response with a registry's JSON error; `fields` are further header lines."""
    document = {"errors": [{"code": code, "message": message, "detail": None}]}
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
    head += f"Connection: close\r\n{fields}Content-Length: {len(body)}\r\n"
    return f"{head}X-Request-ID: {request_id}\r\n\r\n".encode("ascii") + body


def _stop_reading(sock: socket.socket) -> None:
    """Make the reader see the end of the stream; gevent's shutdown() would raise in it instead."""
    with contextlib.suppress(OSError):  # the socket may be closed by now
        duplicate = _socket.socket(fileno=os.dup(sock.fileno()))
        try:
            duplicate.shutdown(socket.SHUT_RD)
        finally:
            duplicate.close()
