"""A raw HTTP client: it sees each byte, and how a connection ends."""

import contextlib
import socket
import struct
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Final, Self

_END: Final = b"\r\n\r\n"
_RESET: Final = struct.pack("ii", 1, 0)
_NO_BODY: Final = frozenset({204, 304})


class Ending(Enum):
    """What came after the last byte that was read."""

    NONE = auto()
    FIN = auto()
    RESET = auto()


class _Ended(Exception):
    pass


@dataclass(frozen=True)
class Head:
    """A response's head."""

    raw: bytes

    @property
    def version(self) -> str:
        """HTTP/1.1, or what else it says."""
        return self.raw.split(b" ", 1)[0].decode()

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.raw.split(b" ", 2)[1])

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

    @property
    def names(self) -> set[str]:
        """The names of its fields, in lower case."""
        return {name.lower() for name, _ in self.fields}


@dataclass(frozen=True)
class Answer:
    """A response, with all of its body that has come."""

    head: Head
    body: bytes
    complete: bool
    """Whether the framing says that this is the whole body (RFC 9112, section 8)."""

    ending: Ending

    @property
    def status(self) -> int:
        """The status code."""
        return self.head.status


class Client:
    """One connection to the proxy.

    `receive_buffer` bounds what the kernel takes for a client that does not read; `segment` makes
    the loopback's 64 KiB packets as small as a real network's; `source` is the address that it
    connects from.
    """

    def __init__(
        self,
        host: str,
        *,
        timeout: float = 20,
        receive_buffer: int | None = None,
        segment: int | None = None,
        source: str | None = None,
    ) -> None:
        address, _, port = host.rpartition(":")
        address = address.strip("[]")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.ending = Ending.NONE
        self._buffer = b""
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        self._sock.settimeout(timeout)
        if receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if segment is not None:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        if source is not None:
            self._sock.bind((source, 0))
        try:
            self._sock.connect((address, int(port)))
        except OSError:
            self._sock.close()
            raise
        self._host = host

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The client's own port."""
        return int(self._sock.getsockname()[1])

    def settimeout(self, seconds: float) -> None:
        """Wait no longer than this for bytes."""
        self._sock.settimeout(seconds)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._sock.sendall(data)

    def send_no_more(self) -> None:
        """End the sending, and go on reading."""
        self._sock.shutdown(socket.SHUT_WR)

    def ask(
        self,
        path: str,
        *fields: str,
        method: str = "GET",
        version: str = "HTTP/1.1",
        body: bytes = b"",
    ) -> None:
        """Send a request; `fields` are whole lines, Host is added."""
        lines = [f"{method} {path} {version}", f"Host: {self._host}", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def get(
        self,
        path: str,
        *fields: str,
        method: str = "GET",
        version: str = "HTTP/1.1",
        body: bytes = b"",
    ) -> Answer:
        """Send a request and read the whole answer."""
        self.ask(path, *fields, method=method, version=version, body=body)
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """Read the answer to a request that was sent."""
        head = self.head()
        body, complete = self._framed(head, method)
        return Answer(head, body, complete, self.ending)

    def head(self) -> Head:
        """Read a response's head; raise ConnectionError where none comes."""
        try:
            while _END not in self._buffer:
                self._receive()
        except _Ended:
            message = f"{self.ending} instead of an answer, after {self._buffer!r}"
            raise ConnectionError(message) from None
        raw, _, self._buffer = self._buffer.partition(_END)
        return Head(raw)

    def exactly(self, length: int) -> bytes:
        """Read so many bytes, or fewer where the connection ends."""
        with contextlib.suppress(_Ended):
            while len(self._buffer) < length:
                self._receive()
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return data

    def ahead(self, length: int) -> bytes:
        """Wait until so many bytes have come, or the end, and leave them to be read."""
        with contextlib.suppress(_Ended):
            while len(self._buffer) < length:
                self._receive()
        return self._buffer

    def rest(self) -> bytes:
        """Read until the connection ends; `ending` says how it did."""
        pieces = [self._buffer]
        self._buffer = b""
        with contextlib.suppress(_Ended):
            while True:
                self._receive()
                pieces.append(self._buffer)
                self._buffer = b""
        return b"".join(pieces)

    def some(self, limit: int) -> bytes:
        """Read what is there, at most `limit` bytes; wait for the first."""
        if not self._buffer:
            with contextlib.suppress(_Ended):
                self._receive(limit)
        data, self._buffer = self._buffer[:limit], self._buffer[limit:]
        return data

    def chunk(self) -> bytes | None:
        """Read a chunk; return b"" for the last one and None where the connection ends."""
        size_line = self._line()
        if size_line is None:
            return None
        size = int(size_line, 16)
        data = self.exactly(size)
        end = self.exactly(2)
        return data if len(data) == size and end == b"\r\n" else None

    def close(self) -> None:
        """Leave; what has not been read turns it into a reset."""
        self._sock.close()

    def reset(self) -> None:
        """Leave with a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    def _framed(self, head: Head, method: str) -> tuple[bytes, bool]:
        if method == "HEAD" or head.status in _NO_BODY:
            return b"", True
        if head.value("Transfer-Encoding") == "chunked":
            return self._chunked()
        if lengths := head.values("Content-Length"):
            (length,) = lengths
            body = self.exactly(int(length))
            return body, len(body) == int(length)
        body = self.rest()
        return body, self.ending is Ending.FIN

    def _chunked(self) -> tuple[bytes, bool]:
        pieces: list[bytes] = []
        while data := self.chunk():
            pieces.append(data)
        return b"".join(pieces), data is not None

    def _line(self) -> bytes | None:
        try:
            while b"\r\n" not in self._buffer:
                self._receive()
        except _Ended:
            return None
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _receive(self, limit: int = 65536) -> None:
        if self.ending is not Ending.NONE:
            raise _Ended
        try:
            data = self._sock.recv(limit)
        except ConnectionResetError:
            self.ending = Ending.RESET
            raise _Ended from None
        if not data:
            self.ending = Ending.FIN
            raise _Ended
        self._buffer += data
