"""Outbound proxies on loopback: an HTTP proxy with CONNECT, and a SOCKS5 server (RFC 1928)."""

import base64
import contextlib
import socket
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_PATIENCE = 20


@dataclass(frozen=True)
class Passage:
    """One connection through a proxy: where to, as it was asked, and by whom."""

    target: str
    credentials: str = ""


class _Server:
    """Accepts connections and serves each in a thread; everything is reached on loopback."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(_PATIENCE)
        self._listener.close()
        for sock in tuple(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    @property
    def targets(self) -> list[str]:
        """Where connections were asked to go."""
        return [passage.target for passage in self.passages]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock: socket.socket) -> None:
        self._sockets.add(sock)
        with sock, contextlib.suppress(OSError):
            self._serve(sock)
        self._sockets.discard(sock)

    def _serve(self, sock: socket.socket) -> None:
        raise NotImplementedError

    def _join(self, client: socket.socket, port: int, first: bytes = b"") -> None:
        """Carry bytes both ways; whatever the name was, it is this machine."""
        with socket.create_connection(("127.0.0.1", port)) as server:
            self._sockets.add(server)
            server.sendall(first)
            back = threading.Thread(target=_carry, args=(server, client), daemon=True)
            back.start()
            _carry(client, server)
            back.join(_PATIENCE)
            self._sockets.discard(server)


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class HttpProxy(_Server):
    """Knows CONNECT, and requests for whole http URLs."""

    @property
    def url(self) -> str:
        """Its URL, without credentials."""
        return f"http://127.0.0.1:{self.port}"

    def _serve(self, sock: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        pairs = (field.partition(":")[::2] for field in fields)
        values = {name.lower(): value.strip() for name, value in pairs}
        told = values.get("proxy-authorization", "").removeprefix("Basic ")
        self.passages.append(Passage(target, base64.b64decode(told).decode()))
        if method == "CONNECT":
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._join(sock, int(target.rpartition(":")[2]))
            return
        parts = urlsplit(target)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        kept = [field for field in fields if not field.lower().startswith("proxy-")]
        request = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "", ""]).encode("latin-1")
        self._join(sock, parts.port or 80, request + rest)


class SocksProxy(_Server):
    """Knows CONNECT by name and by address, with and without a password."""

    def _serve(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as reader:
            _, count = reader.read(2)
            methods = reader.read(count)
            credentials = ""
            if 2 in methods:
                sock.sendall(b"\x05\x02")
                reader.read(1)
                user = reader.read(reader.read(1)[0]).decode()
                password = reader.read(reader.read(1)[0]).decode()
                credentials = f"{user}:{password}"
                sock.sendall(b"\x01\x00")
            else:
                sock.sendall(b"\x05\x00")
            kind = reader.read(4)[3]
            if kind == 3:
                host = reader.read(reader.read(1)[0]).decode()
            else:
                host = socket.inet_ntop(
                    socket.AF_INET if kind == 1 else socket.AF_INET6,
                    reader.read(4 if kind == 1 else 16),
                )
            port = int.from_bytes(reader.read(2), "big")
        self.passages.append(Passage(f"{host}:{port}", credentials))
        sock.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        self._join(sock, port)
