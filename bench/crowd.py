"""Many clients at once, of three kinds: slow ones, some that leave, some that do not read."""

import contextlib
import random
import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Final, Literal

from bench.clients import TOKEN
from bench.content import MIB

Kind = Literal["slow", "leaving", "not reading"]

SLOW_RATE: Final = 64 * 1024
"""Bytes a second that a slow client reads. Since loopback's segments are large, it seems to read
nothing for two seconds at a time."""
LEAVING_RATE: Final = MIB
LONGEST_STAY: Final = 4.0
"""The most seconds that a leaving client stays; some stay only a moment."""

_KINDS: Final[tuple[Kind, ...]] = ("slow", "leaving", "not reading")
_RATES: Final[dict[Kind, int]] = {"slow": SLOW_RATE, "leaving": LEAVING_RATE, "not reading": 0}
_TICK: Final = 0.25
_TIMEOUT: Final = 60


@dataclass(slots=True)
class _Client:
    sock: socket.socket
    kind: Kind
    leaves_at: float
    answered: bool = False


@dataclass(slots=True)
class Crowd:
    """`count` downloads of one blob, a third of each kind; a client that ends is replaced."""

    port: int
    path: str
    count: int
    begun: Counter[Kind] = field(default_factory=Counter)
    cut: int = 0
    """Clients that did not read, and were cut by the proxy."""
    _clients: dict[int, _Client] = field(default_factory=dict)
    _epoll: select.epoll = field(default_factory=select.epoll)
    _random: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311
    _buffer: bytearray = field(default_factory=lambda: bytearray(MIB))

    def run(self, seconds: float, watch: Callable[[], None]) -> None:
        """Download for `seconds`, call `watch` at each tick, and close all connections at the end.

        Raise RuntimeError if a client that reads was cut or refused.
        """
        end = time.monotonic() + seconds
        try:
            for kind in islice(cycle(_KINDS), self.count):
                self._begin(kind)
            while (now := time.monotonic()) < end:
                self._tick(now)
                watch()
                time.sleep(max(0.0, now + _TICK - time.monotonic()))
        finally:
            for client in self._clients.values():
                client.sock.close()
            self._epoll.close()

    def _begin(self, kind: Kind) -> None:
        sock = socket.create_connection(("127.0.0.1", self.port), _TIMEOUT)
        sock.sendall(
            f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUser-Agent: bench\r\n"
            f"Authorization: Bearer {TOKEN}\r\nAccept: */*\r\n\r\n".encode()
        )
        stay = self._random.uniform(0, LONGEST_STAY) if kind == "leaving" else float("inf")
        self._clients[sock.fileno()] = _Client(sock, kind, time.monotonic() + stay)
        # epoll reports hang-ups and errors in any case.
        self._epoll.register(sock, select.EPOLLIN if _RATES[kind] else 0)
        self.begun[kind] += 1

    def _tick(self, now: float) -> None:
        for number, events in self._epoll.poll(0):
            client = self._clients[number]
            if _RATES[client.kind]:
                self._read(client)
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                self.cut += 1
                self._replace(client)
        for client in [
            waiting_client
            for waiting_client in self._clients.values()
            if waiting_client.leaves_at < now
        ]:
            self._replace(client)

    def _read(self, client: _Client) -> None:
        size = int(_RATES[client.kind] * _TICK)
        try:
            if client.answered:
                is_intact = client.sock.recv_into(self._buffer, size, socket.MSG_TRUNC) > 0
            else:
                is_intact = client.sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        except OSError:
            is_intact = False
        if not is_intact:
            message = f"a download was {'cut' if client.answered else 'refused'}: {client.kind}"
            raise RuntimeError(message)
        client.answered = True

    def _replace(self, client: _Client) -> None:
        del self._clients[client.sock.fileno()]
        with contextlib.suppress(OSError):
            self._epoll.unregister(client.sock)
        client.sock.close()
        self._begin(client.kind)
