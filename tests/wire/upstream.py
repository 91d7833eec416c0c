"""A scripted HTTP upstream on raw sockets: the test says what is sent, and when."""

import contextlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tests.servers import wait_until

PATIENCE: Final = 40
"""Seconds after which a script that waits for its peer gives up."""

_END: Final = b"\r\n\r\n"
_RESET: Final = struct.pack("ii", 1, 0)

LAST_CHUNK: Final = b"0\r\n\r\n"


class PeerLeft(ConnectionError):
    """The peer has closed or reset the connection."""


@dataclass(frozen=True)
class Asked:
    """A request's head."""

    raw: bytes
    """Byte for byte, without the empty line at its end."""

    @property
    def method(self) -> str:
        """The method."""
        return self.raw.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        """The request target: path and query."""
        return self.raw.split(b" ", 2)[1].decode()

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The header fields in their order."""
        lines = self.raw.decode("latin-1").split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def values(self, name: str) -> list[str]:
        """Return every value of one field."""
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def value(self, name: str) -> str:
        """Return the values of one field, joined as RFC 9110 allows."""
        return ", ".join(self.values(name))


class Connection:
    """A connection from the proxy, as a script sees it."""

    def __init__(self, sock: socket.socket, number: int, record: list[Asked]) -> None:
        self.number = number
        self.requests = 0
        self.left = threading.Event()
        """Set when the peer has closed the connection, or reset it."""
        self._sock = sock
        self._buffer = b""
        self._record = record

    def begin(self, context: ssl.SSLContext | None) -> None:
        """Shake hands."""
        self._sock.settimeout(PATIENCE)
        if context is not None:
            self._sock = context.wrap_socket(self._sock, server_side=True)

    def head(self) -> Asked:
        """Read a request's head; raise PeerLeft where none comes any more."""
        while _END not in self._buffer:
            self._receive()
        raw, _, self._buffer = self._buffer.partition(_END)
        asked = Asked(raw)
        self.requests += 1
        self._record.append(asked)
        return asked

    def body(self, length: int) -> bytes:
        """Read a request's body."""
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def send(self, *parts: bytes) -> None:
        """Send bytes; raise PeerLeft where nobody takes them."""
        try:
            self._sock.sendall(b"".join(parts))
        except TimeoutError:
            raise
        except OSError as error:
            self.left.set()
            raise PeerLeft from error

    def send_plain(self, data: bytes) -> None:
        """Send bytes past TLS."""
        with socket.socket(fileno=os.dup(self._sock.fileno())) as plain:
            plain.sendall(data)

    def until_left(self) -> None:
        """Say nothing until the peer has left."""
        with contextlib.suppress(PeerLeft):
            while True:
                self._receive()

    def reset(self) -> None:
        """End the connection with a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    def close(self) -> None:
        """End the connection with a FIN; TLS is not told (RFC 8446, section 6.1)."""
        self._sock.close()

    def close_notify(self) -> None:
        """End the connection as TLS should be ended."""
        if isinstance(self._sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):  # or it was interrupted
                self._sock.unwrap()
        self._sock.close()

    def interrupt(self) -> None:
        """End the connection from another thread than the script's."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    @property
    def unread(self) -> bytes:
        """What has come and has not been read."""
        return self._buffer

    def receive(self) -> bytes:
        """Take what has come; raise PeerLeft where nothing comes any more."""
        if not self._buffer:
            self._receive()
        data, self._buffer = self._buffer, b""
        return data

    def _receive(self) -> None:
        try:
            data = self._sock.recv(65536)
        except TimeoutError:
            raise
        except OSError as error:
            self.left.set()
            raise PeerLeft from error
        if not data:
            self.left.set()
            raise PeerLeft
        self._buffer += data


Script = Callable[[Connection], None]


def silent(connection: Connection) -> None:
    """Answer nothing."""
    connection.until_left()


def answering(answer: Callable[[Asked], bytes]) -> Script:
    """Answer every request of a connection with what `answer` returns for it."""

    def script(connection: Connection) -> None:
        while True:
            connection.send(answer(connection.head()))

    return script


def always(answer: bytes) -> Script:
    """Answer every request of a connection with the same bytes."""
    return answering(lambda _: answer)


def head(*fields: str, status: str = "200 OK") -> bytes:
    """Return a response's head with just these fields."""
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


def response(body: bytes = b"", *fields: str, status: str = "200 OK") -> bytes:
    """Return a response with a Content-Length."""
    return head(*fields, f"Content-Length: {len(body)}", status=status) + body


def chunk(data: bytes) -> bytes:
    """Return a chunk (RFC 9112, section 7.1)."""
    return b"%X\r\n%b\r\n" % (len(data), data)


class Upstream:
    """A registry that plays a script on each of its connections, each in its own thread."""

    def __init__(self, context: ssl.SSLContext | None = None, *, name: str = "127.0.0.1") -> None:
        self.name = name
        self._context = context
        self._script: Script = silent
        self._lock = threading.Lock()
        self._open: dict[Connection, threading.Thread] = {}
        self.connections: list[Connection] = []
        """All since the last `play`."""
        self.asked: list[Asked] = []
        """Every request since the last `play`."""
        self.faults: list[BaseException] = []
        """What went wrong in scripts: their assertions, and peers that did not move."""

    def __enter__(self) -> Self:
        self._listen(0)
        self.port = int(self._listener.getsockname()[1])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    @contextlib.contextmanager
    def is_gone(self) -> Iterator[None]:
        """End all connections and refuse new ones until the end of the block."""
        self._stop()
        with socket.socket() as holder:  # bound, so that nobody else gets the port meanwhile
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", self.port))
            try:
                yield
            finally:
                self._listen(self.port)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'http' if self._context is None else 'https'}://{self.name}:{self.port}"

    def play(self, script: Script) -> None:
        """End all connections, forget what was, and play this from now on."""
        self._interrupt_all()
        with self._lock:
            self._script = script
            self.connections = []
            self.asked = []

    def check(self) -> None:
        """Raise what went wrong in a script, if something did."""
        faults, self.faults = self.faults, []
        for fault in faults:
            raise fault

    def connection(self, number: int = 0, timeout: float = PATIENCE) -> Connection:
        """Wait for a connection and return it."""
        wait_until(lambda: len(self.connections) > number, timeout, "a connection")
        return self.connections[number]

    def wait_for_requests(self, count: int = 1, timeout: float = PATIENCE) -> list[Asked]:
        """Wait for so many requests and return them."""
        wait_until(lambda: len(self.asked) >= count, timeout, f"{count} requests")
        return self.asked

    def _listen(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _stop(self) -> None:
        with contextlib.suppress(OSError):  # it has stopped
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(PATIENCE)
        self._listener.close()
        self._interrupt_all()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                connection = Connection(sock, len(self.connections), self.asked)
                self.connections.append(connection)
                thread = threading.Thread(
                    target=self._play, args=(connection, self._script), daemon=True
                )
                self._open[connection] = thread
            thread.start()

    def _play(self, connection: Connection, script: Script) -> None:
        try:
            with contextlib.suppress(PeerLeft, ssl.SSLError):
                connection.begin(self._context)
                script(connection)
        except BaseException as fault:  # noqa: BLE001 - handed to the test's own thread
            self.faults.append(fault)
        finally:
            connection.close()
            self._open.pop(connection, None)

    def _interrupt_all(self) -> None:
        with self._lock:
            still_open = dict(self._open)
        for connection in still_open:
            connection.interrupt()
        for thread in still_open.values():
            thread.join(PATIENCE)


@contextlib.contextmanager
def playing(upstream: Upstream) -> Iterator[Upstream]:
    """Lend an upstream to a test, and raise in it what went wrong in its scripts."""
    upstream.play(silent)
    yield upstream
    upstream.play(silent)
    upstream.check()
