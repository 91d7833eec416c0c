"""The connections of one worker: which of them wait for a request, and which make room for others.

A worker has a number of places. Connections without a whole request must never fill all of them,
whoever opened them, and must not take more than a share from one client address.
Not part of `app`: worker.py keeps one `Connections` for each process.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

FRONT: Final = b""
"""The site of a server in front, whose connections are those of all its clients."""

_SHARE: Final = 8
"""One part in so many of the places may wait for requests of one site."""
_RESERVE: Final = 20
"""One part in so many is kept beyond the places, for connections that have not asked yet."""
_LEAST_RESERVE: Final = 16

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins that is written as IPv6 (RFC 4291, section 2.5.5.2)."""
_SUBSCRIBER: Final = 8
"""Bytes of an IPv6 address that one subscriber has (RFC 6177)."""
_REMEMBERED: Final = 1024


class Connection:
    """A client's connection, which waits for a request or is served one."""

    __slots__ = ("_connections", "is_new", "opened", "reads_body", "site", "sock")

    def __init__(self, sock: socket.socket, site: bytes, connections: "Connections") -> None:
        self.sock = sock
        self.site = site
        self.opened = time.monotonic()
        self.is_new = True
        """Whether it is so young that its first request may still be on its way."""
        self.reads_body = False
        """Whether it has a head, and the body that the application asked for is still to come."""
        self._connections = connections

    def await_body(self) -> None:
        """Count as waiting while the application reads the request's body."""
        if self._connections.is_serving(self):
            self.reads_body = True
            self._connections.wait(self)

    def end_body(self) -> None:
        """Count as being served again: the body is there."""
        if self.reads_body:
            self._connections.serve(self)


class Connections:
    """Keeps account of a worker's connections, and ends those that wait where room is needed.

    Of those that wait, the one that has waited longest makes room: a client that asks at once is
    never among them for long. `stop_reading` lets whoever reads from a socket find its end, so that
    a request that has arrived is still served.
    """

    def __init__(self, places: int, stop_reading: Callable[[socket.socket], None]) -> None:
        self.places = places
        self.reserve = max(_LEAST_RESERVE, places // _RESERVE)
        self.share = max(1, places // _SHARE)
        self._stop_reading = stop_reading
        self._waiting: dict[bytes, dict[Connection, None]] = {}
        """By site, the longest waiting first."""
        self._count = 0
        """How many wait."""
        self._serving: set[Connection] = set()
        self._ended: Counter[bytes] = Counter()

    def open(self, sock: socket.socket, site: bytes) -> Connection:
        """Take in a connection; end another one that waits, if there are too many of them."""
        own = self._waiting.get(site, {})
        if site != FRONT and len(own) >= self.share:
            self._end_longest(own)
        elif self._count >= max(self.places - len(self._serving), self.reserve):
            self._end_longest(max(self._waiting.values(), key=len))
        connection = Connection(sock, site, self)
        self.wait(connection)
        return connection

    def wait(self, connection: Connection) -> None:
        """Count a connection as waiting; if it already waits, it keeps its turn."""
        self._serving.discard(connection)
        waiting = self._waiting.setdefault(connection.site, {})
        if connection not in waiting:
            waiting[connection] = None
            self._count += 1

    def serve(self, connection: Connection) -> bool:
        """Count a connection as being served; return whether there is a place for it."""
        connection.is_new = connection.reads_body = False
        self._forget(connection)
        self._serving.add(connection)
        return len(self._serving) <= self.places

    def is_serving(self, connection: Connection) -> bool:
        """Tell whether a connection is being served."""
        return connection in self._serving

    def is_full(self) -> bool:
        """Tell whether all places have requests."""
        return len(self._serving) >= self.places

    def close(self, connection: Connection) -> None:
        """Forget a connection."""
        self._forget(connection)
        self._serving.discard(connection)

    def idle(self) -> Iterator[socket.socket]:
        """Return those on which nothing is going on, and from the next call on the new ones too."""
        for waiting in self._waiting.values():
            for connection in waiting:
                if not (connection.is_new or connection.reads_body):
                    yield connection.sock
                connection.is_new = False

    def take_ended(self) -> Counter[bytes]:
        """Return how many had to make room since the last call, by site."""
        ended, self._ended = self._ended, Counter()
        return ended

    def _end_longest(self, waiting: dict[Connection, None]) -> None:
        """End the longest waiting one of a site."""
        connection = next(iter(waiting))
        self._forget(connection)
        self._ended[connection.site] += 1
        self._stop_reading(connection.sock)

    def _forget(self, connection: Connection) -> None:
        waiting = self._waiting.get(connection.site, {})
        if connection in waiting:
            del waiting[connection]
            self._count -= 1
            if not waiting:
                del self._waiting[connection.site]


@lru_cache(_REMEMBERED)
def site_of(address: str) -> bytes:
    """Return what all addresses of one subscriber have in common: an IPv4 address, or 64 bits.

    `address` is what the kernel says of a peer (socket.accept).
    """
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return packed[len(_MAPPED) :] if packed.startswith(_MAPPED) else packed[:_SUBSCRIBER]


@lru_cache(_REMEMBERED)
def written(site: bytes) -> str:
    """Return a site as people write it; "" for a server in front."""
    if len(site) == _SUBSCRIBER:
        return f"{socket.inet_ntop(socket.AF_INET6, site + bytes(_SUBSCRIBER))}/64"
    return socket.inet_ntop(socket.AF_INET, site) if site else ""
