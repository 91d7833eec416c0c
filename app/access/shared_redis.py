"""A Redis that the workers share, or several replicas; it may be away."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar, cast

from limits.storage import RedisStorage
from redis import Redis
from redis.connection import BlockingConnectionPool, Connection, SSLConnection
from redis.exceptions import RedisError

from app.threads import RealThreads, original

# Connections to a Redis, for which nobody waits long: not for its name either.

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


logger = logging.getLogger(__name__)

_PATIENCE: Final = 1.0
"""Seconds for a name, for a connection, and for an answer."""
_PAUSE: Final = 5.0
"""Seconds for which one that has not answered is left alone."""
_PREFIX: Final = "docxy"

_Answer = TypeVar("_Answer")


class SharedRedis:
    """Asks it; while it is away an answer is given for it at once.

    Whether it is back is looked at now and then while there are requests, and none waits for that.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Connect to nothing yet; raise ValueError for a URL that is none."""
        pool = connections_to(url, _PATIENCE)
        self.connection = Redis(connection_pool=pool)
        self.storage = RedisStorage("redis://", connection_pool=pool, key_prefix=_PREFIX)
        self._clock = clock
        self._is_away = False
        self._again = 0.0

    def ask(self, question: Callable[[], _Answer], otherwise: _Answer) -> _Answer:
        """Return its answer, or `otherwise` where it has none."""
        if self._is_away:
            self._look_again()
            return otherwise
        try:
            return question()
        except (RedisError, OSError) as error:
            self._fails(error)
            return otherwise

    def _fails(self, error: Exception) -> None:
        self._again = self._clock() + _PAUSE
        if self._is_away:
            return
        self._is_away = True
        # The text of an error may have the URL in it, with its password.
        logger.warning(
            "Redis does not count: requests pass without limits.",
            extra={"fields": {"kind": type(error).__name__}},
        )

    def _look_again(self) -> None:
        now = self._clock()
        if now >= self._again:
            self._again = now + _PAUSE
            threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        try:
            # Counts, as a full one or a replica would answer whoever only reads.
            self.storage.incr("probe", 60)
        except (RedisError, OSError):
            return
        if self._is_away:
            self._is_away = False
            logger.info("Redis is back: the limits count again.")

    def key(self, *parts: str) -> str:
        """Return the name of something there, beside those of the library."""
        return ":".join((_PREFIX, *parts))
