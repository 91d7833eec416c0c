"""The connections of one worker: some wait for a request, and make room for others.

A worker has a fixed number of places. Connections without a whole request must never fill all of
them, whoever opened them, and those from one client address must not take more than a share.
This module is not part of `app`: worker.py keeps one `Connections` for each process.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

FRONT: Final = b""
"""The site of a server in front, whose connections carry the requests of all its clients."""

_SHARE_DIVISOR: Final = 8
"""Connections of one site that wait for a request may take 1/8 of the places."""
_RESERVE_DIVISOR: Final = 20
"""A reserve of 1/20 of the places, in addition to them, is for connections without a request.

It is never smaller than `_MIN_RESERVE`.
"""
_MIN_RESERVE: Final = 16

_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"
"""The first bytes of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2)."""
_SUBSCRIBER_PREFIX_LENGTH: Final = 8
"""The length in bytes of the IPv6 prefix that identifies one subscriber (RFC 6177)."""
_CACHE_SIZE: Final = 1024


class Connection:
    """A client's connection: either it waits for a request, or one is being served on it.

    `opened` is in monotonic seconds.
    """

    __slots__ = ("_connections", "is_new", "opened", "reads_body", "site", "sock")

    def __init__(self, sock: socket.socket, site: bytes, connections: "Connections") -> None:
        self.sock = sock
        self.site = site
        self.opened = time.monotonic()
        self.is_new = True
        """Whether the connection is so new that its first request may still be on its way."""
        self.reads_body = False
        """Whether the application is reading a request body that has not fully arrived."""
        self._connections = connections

    def await_body(self) -> None:
        """Count as waiting while the application reads the request's body."""
        if self._connections.is_serving(self):
            self.reads_body = True
            self._connections.mark_waiting(self)

    def end_body(self) -> None:
        """Count as being served again, once the whole body has arrived."""
        if self.reads_body:
            self._connections.mark_serving(self)


class Connections:
    """Keeps track of a worker's connections, and ends waiting ones if it needs room.

    The connection that has waited longest makes room, since a client that sends its request at once
    never waits for long. `stop_reading` makes the reader of a socket see the end of the stream, so
    that a request that has already arrived is still served.
    """

    def __init__(self, places: int, stop_reading: Callable[[socket.socket], None]) -> None:
        self.places = places
        self.reserve = max(_MIN_RESERVE, places // _RESERVE_DIVISOR)
        self.share = max(1, places // _SHARE_DIVISOR)
        self._stop_reading = stop_reading
        self._waiting: dict[bytes, dict[Connection, None]] = {}
        """The waiting connections by site, the one that has waited longest first."""
        self._waiting_count = 0
        """The number of waiting connections."""
        self._serving: set[Connection] = set()
        self._evicted: Counter[bytes] = Counter()

    def open(self, sock: socket.socket, site: bytes) -> Connection:
        """Return a new connection, which waits; end another waiting one if there are too many.

        If the site has used up its share, its own oldest connection ends. Otherwise, if too many
        wait in total, the site with the most of them loses its oldest.
        """
        site_waiting = self._waiting.get(site, {})
        if site != FRONT and len(site_waiting) >= self.share:
            self._evict_oldest(site_waiting)
        elif self._waiting_count >= max(self.places - len(self._serving), self.reserve):
            self._evict_oldest(max(self._waiting.values(), key=len))
        connection = Connection(sock, site, self)
        self.mark_waiting(connection)
        return connection

    def mark_waiting(self, connection: Connection) -> None:
        """Count a connection as waiting; one that already waits keeps its turn."""
        self._serving.discard(connection)
        waiting = self._waiting.setdefault(connection.site, {})
        if connection not in waiting:
            waiting[connection] = None
            self._waiting_count += 1

    def mark_serving(self, connection: Connection) -> bool:
        """Count a connection as being served, and return whether there is a place for it."""
        connection.is_new = connection.reads_body = False
        self._remove_waiting(connection)
        self._serving.add(connection)
        return len(self._serving) <= self.places

    def is_serving(self, connection: Connection) -> bool:
        """Return whether a request is being served on a connection."""
        return connection in self._serving

    def is_full(self) -> bool:
        """Return whether all places are taken by requests."""
        return len(self._serving) >= self.places

    def close(self, connection: Connection) -> None:
        """Stop tracking a connection, whether it waits or is being served."""
        self._remove_waiting(connection)
        self._serving.discard(connection)

    def iter_idle_sockets(self) -> Iterator[socket.socket]:
        """Yield the sockets of connections that have no request and no body under way.

        New connections are spared on the first call and included from the next call on.
        """
        for waiting in self._waiting.values():
            for connection in waiting:
                if not (connection.is_new or connection.reads_body):
                    yield connection.sock
                connection.is_new = False

    def take_evicted(self) -> Counter[bytes]:
        """Return how many connections of each site had to make room since the last call."""
        evicted, self._evicted = self._evicted, Counter()
        return evicted

    def _evict_oldest(self, waiting: dict[Connection, None]) -> None:
        """End the connection of a site that has waited longest."""
        connection = next(iter(waiting))
        self._remove_waiting(connection)
        self._evicted[connection.site] += 1
        self._stop_reading(connection.sock)

    def _remove_waiting(self, connection: Connection) -> None:
        waiting = self._waiting.get(connection.site, {})
        if connection in waiting:
            del waiting[connection]
            self._waiting_count -= 1
            if not waiting:
                del self._waiting[connection.site]


@lru_cache(_CACHE_SIZE)
def pack_site(address: str) -> bytes:
    """Return the bytes that identify a subscriber: a whole IPv4 address, or an IPv6 /64 prefix.

    `address` is a peer's address as socket.accept() returns it.
    """
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return (
        packed[len(_MAPPED_PREFIX) :]
        if packed.startswith(_MAPPED_PREFIX)
        else packed[:_SUBSCRIBER_PREFIX_LENGTH]
    )


@lru_cache(_CACHE_SIZE)
def format_site(site: bytes) -> str:
    """Return a site in text form: an IPv4 address, an IPv6 /64 network, or "" for FRONT."""
    if len(site) == _SUBSCRIBER_PREFIX_LENGTH:
        return f"{socket.inet_ntop(socket.AF_INET6, site + bytes(_SUBSCRIBER_PREFIX_LENGTH))}/64"
    return socket.inet_ntop(socket.AF_INET, site) if site else ""
