"""Connections to a Redis, for which nobody waits long: not for its name either."""

import socket
import time
from collections.abc import Iterator
from typing import Any, Final, cast

from redis.connection import BlockingConnectionPool, Connection, SSLConnection

from app.offloop import RealThreads, original

_MOST: Final = 20
"""Connections of one worker; it waits for a free one rather than have one for each request."""


def connections_to(url: str, patience: float) -> BlockingConnectionPool:
    """Return connections of which each step takes no longer than `patience` in seconds.

    Nothing is connected to yet. Raise ValueError for a URL that is none.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_MOST,
        timeout=patience,
        socket_connect_timeout=patience,
        socket_timeout=patience,
    )
    kind = {Connection: _Named, SSLConnection: _NamedTLS}.get(pool.connection_class)
    if kind is not None:
        pool.connection_class = kind
        pool.connection_kwargs["names"] = _Names(patience)
    return pool


class _Names:
    """Looks names up on threads of its own: the C library cannot be told to stop."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._threads = RealThreads(2)

    def addresses(self, host: str, port: int) -> Iterator[str]:
        """Give the addresses of a host; raise OSError."""
        until = time.monotonic() + self._patience
        pending = self._threads.begin(
            original("socket", "getaddrinfo"), host, port, 0, socket.SOCK_STREAM,
            patience=self._patience,
        )  # fmt: skip
        for found in pending.result(max(until - time.monotonic(), 0)):
            yield str(found[4][0])


class _Named(Connection):
    """Goes to the addresses of a name."""

    def __init__(self, *, names: _Names, **options: Any) -> None:  # noqa: ANN401 - as inherited
        super().__init__(**options)  # type: ignore[no-untyped-call] # of a library
        self._names = names

    def _connect(self) -> socket.socket:
        name, failure = self.host, OSError("a name without addresses")
        for address in self._names.addresses(name, self.port):
            self.host = address  # looked up again, it is itself
            try:
                return cast("socket.socket", super()._connect())  # type: ignore[no-untyped-call]
            except OSError as error:
                failure = error
            finally:
                self.host = name  # which a certificate has to be for
        raise failure


class _NamedTLS(SSLConnection, _Named):
    """The same below TLS."""
