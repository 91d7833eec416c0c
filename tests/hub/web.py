"""The hub's HTTPS servers: keep-alive, a thread for each connection, and faults on request."""

import contextlib
import select
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, BinaryIO, cast

from werkzeug.datastructures import Headers

from tests.hub.faults import Cut, Fault, Faults, Stall
from tests.hub.gates import Gate
from tests.hub.lines import Line
from tests.hub.messages import Answer, Body, Request
from tests.hub.record import Recorder

_HANDSHAKE_TIMEOUT = 10
_GLANCE = 0.05
"""How often a waiting connection looks whether its client or the hub has gone."""
_BODILESS = {204, 304}


@dataclass(slots=True)
class Stage:
    """What the servers of one hub share."""

    recorder: Recorder = field(default_factory=Recorder)
    faults: Faults = field(default_factory=Faults)
    closing: threading.Event = field(default_factory=threading.Event)
    cookie: str | None = None
    """What every answer has as Set-Cookie."""


class Connection(BaseHTTPRequestHandler):
    """One client's connection to one part."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Server"
    connection: ssl.SSLSocket

    def setup(self) -> None:
        """Do the TLS handshake here, in the connection's own thread."""
        self.request.settimeout(_HANDSHAKE_TIMEOUT)
        self.request.do_handshake()
        self.request.settimeout(None)
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write nothing: the record has it all."""

    def _serve(self) -> None:
        stage, part = self.server.stage, self.server.part
        path, _, query = self.path.partition("?")
        seen = Headers(self.headers.items())
        request = Request(
            method=self.command,
            path=path,
            raw_query=query,
            headers=Headers(seen),
            body=Body(cast("BinaryIO", self.rfile), seen),
        )
        number = stage.recorder.arrived(part, self.command, path, query, seen)
        fault = stage.faults.take(part, request)
        self._hold(fault.delay)
        if fault.gate and fault.hold_after is None:
            self._wait_at(fault.gate)
        if fault.hang_up:
            self._abort(reset=fault.reset)
            return
        answer = fault.answer(request, self.server.answer)
        if stage.cookie:
            answer.headers.add("Set-Cookie", stage.cookie)
        stage.recorder.answered(number, int(answer.status), request.form)
        with contextlib.closing(answer):
            self._send(number, answer, fault)
        request.body.drain()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _send(self, number: int, answer: Answer, fault: Fault) -> None:
        sent = 0
        line = fault.line or (fault.bytes_per_second and Line(fault.bytes_per_second))
        silent = self.command == "HEAD" or answer.status in _BODILESS
        chunked = not silent and "Content-Length" not in answer.headers
        head: bytes | None = self._head(answer, chunked=chunked)
        try:
            for piece in self._pieces(fault, answer, silent=silent):
                framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                self._write(framed if head is None else head + framed)
                head = None
                sent += len(piece)
                if line:
                    self._hold(line.take(len(piece)))
            self._write((head or b"") + (b"0\r\n\r\n" if chunked else b""))
        except (Cut, Stall) as ending:
            self._write(head or b"")
            if isinstance(ending, Stall):
                self._hold(float("inf"))
            self._abort(reset=fault.reset)
        finally:
            self.server.stage.recorder.ended(number, sent)

    def _head(self, answer: Answer, *, chunked: bool) -> bytes:
        self.send_response_only(answer.status)
        if "Date" not in answer.headers:
            self.send_header("Date", self.date_time_string())
        for name, value in answer.headers:
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        lines = cast("list[bytes]", self._headers_buffer)  # type: ignore[attr-defined]
        head = b"".join([*lines, b"\r\n"])
        lines.clear()
        return head

    def _pieces(self, fault: Fault, answer: Answer, *, silent: bool) -> Iterator[bytes]:
        rate = fault.bytes_per_second
        body = fault.pieces(() if silent else answer.body)
        for piece in fault.held(body, self._wait_at):
            step = max(1, rate // 20) if rate else len(piece)
            for start in range(0, len(piece), step or 1):
                yield piece[start : start + step]

    def _write(self, data: bytes) -> None:
        if data:
            self.connection.sendall(data)

    def _wait_at(self, gate: Gate) -> None:
        gate.arrive()
        self._hold(float("inf"), gate)

    def _hold(self, seconds: float, gate: Gate | None = None) -> None:
        """Wait, but not for a client that has gone nor beyond the hub's end or a gate's opening."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not (gate and gate.is_open):
            if self.server.stage.closing.wait(min(left, _GLANCE)):
                return
            if seconds > _GLANCE and self._left_alone():
                raise ConnectionResetError

    def _left_alone(self) -> bool:
        """Tell whether the client has closed: nothing else makes it readable in mid-answer."""
        if self.connection.pending():
            return False
        glance = select.poll()
        glance.register(self.connection, select.POLLIN)
        return bool(glance.poll(0)) and self.command in {"GET", "HEAD"}

    def _abort(self, *, reset: bool) -> None:
        """Close without the close_notify of TLS, and with `reset` without TCP's farewell, too."""
        self.close_connection = True
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One part's listening socket and its connections."""

    allow_reuse_address = True
    allow_reuse_port = True
    daemon_threads = False
    request_queue_size = 512

    def __init__(self, part: str, stage: Stage, context: ssl.SSLContext, listen: str) -> None:
        self.part, self.stage = part, stage
        self._context = context
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        if ":" in listen:
            self.address_family = socket.AF_INET6
        super().__init__((listen, 0), Connection)
        self.port = int(self.server_address[1])
        self._thread: threading.Thread | None = None

    def start(self, answer: Callable[[Request], Answer]) -> None:
        """Take connections; those that came since the socket was opened have waited."""
        self.answer = answer
        self._take()

    def server_bind(self) -> None:
        """Bind to a port by its number: only then does it outlive the socket's shutdown."""
        with socket.socket(self.address_family) as chosen:
            chosen.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            chosen.bind(self.server_address)
            self.server_address = chosen.getsockname()
            super().server_bind()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """End all connections, and refuse new ones until the end of the block."""
        self._take_no_more()
        self.socket.shutdown(socket.SHUT_RDWR)  # Linux: it listens no more, but keeps its port
        self._end_connections()
        try:
            yield
        finally:
            self.server_activate()
            self._take()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a client; its handshake comes later, in its own thread."""
        accepted, address = super().get_request()
        wrapped = self._context.wrap_socket(
            accepted, server_side=True, do_handshake_on_connect=False
        )
        with self._lock:
            self._open.add(wrapped)
        return wrapped, address

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection and close it."""
        with self._lock:
            self._open.discard(request)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave; anything else is a fault of the hub: show it."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """End all connections and wait for their threads."""
        self._take_no_more()
        self._end_connections()
        self.server_close()

    def _take(self) -> None:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _take_no_more(self) -> None:
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
            self._thread = None

    def _end_connections(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    # The SSL object belongs to the connection's thread: shut down what is below it.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
