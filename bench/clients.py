"""The clients: one or several fast downloads, and many slow ones."""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from bench.content import MIB

TOKEN: Final = "t" * 2048

_TIMEOUT: Final = 60
_TICK: Final = 0.25


@dataclass(frozen=True, slots=True)
class Download:
    """The times of one download, in seconds."""

    seconds: float
    first_byte: float


def download(port: int, path: str, size: int) -> Download:
    """Download a body of `size` bytes and throw it away; raise RuntimeError if it is shorter.

    MSG_TRUNC lets the kernel drop the bytes without copying them here, which leaves the processor
    to the servers.
    """
    started = time.perf_counter()
    with _send_request(port, path) as connection:
        head = bytearray()
        while b"\r\n\r\n" not in head:
            head += _receive(connection)
        first_byte = time.perf_counter() - started
        remaining = size - len(head.partition(b"\r\n\r\n")[2])
        _expect_success(bytes(head))
        buffer = bytearray(MIB)
        while remaining > 0:
            count = connection.recv_into(buffer, MIB, socket.MSG_TRUNC)
            if not count:
                message = f"a download ended {remaining} bytes too early"
                raise RuntimeError(message)
            remaining -= count
    return Download(time.perf_counter() - started, first_byte)


def downloads(port: int, path: str, size: int, count: int) -> float:
    """Download `count` times at once; return the seconds until the last has ended."""
    started = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(download, port, path, size) for _ in range(count)]:
            future.result()
    return time.perf_counter() - started


@dataclass(slots=True)
class SlowClients:
    """Many connections in one selector, each of which reads a little at a time."""

    port: int
    path: str
    rate: int
    """Bytes a second that each connection reads."""
    connections: list[socket.socket] = field(default_factory=list)

    def run(self, seconds: float, watch: Callable[[float], None]) -> None:
        """Read for `seconds`, and call `watch` with the elapsed seconds at each tick."""
        started = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for connection in self.connections:
                selector.register(connection, selectors.EVENT_READ)
            while (elapsed := time.monotonic() - started) < seconds:
                for key, _ in selector.select(0):
                    self._read(key.fileobj)
                watch(elapsed)
                next_tick = started + elapsed + _TICK
                time.sleep(max(0.0, next_tick - time.monotonic()))

    def _read(self, connection: object) -> None:
        if isinstance(connection, socket.socket) and not connection.recv(int(self.rate * _TICK)):
            message = "a slow download was cut"
            raise RuntimeError(message)


@contextlib.contextmanager
def slow_clients(port: int, path: str, *, count: int, rate: int) -> Iterator[SlowClients]:
    """Open `count` slow downloads; close them when the block ends."""
    with contextlib.ExitStack() as stack:
        clients = SlowClients(port, path, rate)
        for _ in range(count):
            clients.connections.append(stack.enter_context(_send_request(port, path)))
        yield clients


@contextlib.contextmanager
def _send_request(port: int, path: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench\r\n"
            f"Authorization: Bearer {TOKEN}\r\nAccept: */*\r\n\r\n".encode()
        )
        yield connection


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(4096)
    if not data:
        message = "a connection was closed before the answer"
        raise RuntimeError(message)
    return data


def _expect_success(head: bytes) -> None:
    if not head.startswith(b"HTTP/1.1 200 "):
        status = head.partition(b"\r")[0].decode("latin-1")
        message = f"not a success: {status}"
        raise RuntimeError(message)
