"""The connection to a Redis that workers and replicas share, and that may be unreachable."""

import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from limits.storage import RedisStorage
from redis import Redis
from redis.connection import BlockingConnectionPool, Connection, SSLConnection
from redis.exceptions import RedisError

from app.background import BackgroundPool
from app.threads import ResolutionTimeout, Resolver

# Connections to Redis. Each step has a deadline, the lookup of the host name included.

_MAX_CONNECTIONS: Final = 20
"""Connections of one worker; requests wait for a free one rather than open one each."""


def build_pool(url: str, timeout: float) -> BlockingConnectionPool:
    """Return a pool of connections, each step of which takes at most `timeout` seconds.

    The pool does not connect yet. Raise ValueError if `url` is not a URL of a Redis.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_MAX_CONNECTIONS,
        timeout=timeout,
        socket_connect_timeout=timeout,
        socket_timeout=timeout,
    )
    connection_class = {
        Connection: _ResolvingConnection,
        SSLConnection: _ResolvingTLSConnection,
    }.get(pool.connection_class)
    if connection_class is not None:
        pool.connection_class = connection_class
        pool.connection_kwargs["resolver"] = Resolver()
    return pool


class _ResolvingConnection(Connection):
    """A connection that tries each address of the host in turn."""

    def __init__(self, *, resolver: Resolver, **options: Any) -> None:  # noqa: ANN401 - as inherited
        super().__init__(**options)  # type: ignore[no-untyped-call] # of a library
        self._resolver = resolver

    def _connect(self) -> socket.socket:
        host_name, failure = self.host, OSError("a name without addresses")
        for address in self._resolve():
            self.host = address  # redis-py looks it up again, which yields the same address
            try:
                return cast("socket.socket", super()._connect())  # type: ignore[no-untyped-call]
            except OSError as error:
                failure = error
            finally:
                self.host = host_name  # the certificate must be valid for the name
        raise failure

    def _resolve(self) -> list[str]:
        """Return the addresses of the host; raise OSError if the lookup fails or takes too long."""
        try:
            found = self._resolver.resolve(self.host, self.port, self.socket_connect_timeout)
        except ResolutionTimeout as error:
            raise TimeoutError(str(error)) from None
        return [str(address[0]) for *_, address in found]


class _ResolvingTLSConnection(SSLConnection, _ResolvingConnection):
    """The same over TLS."""


logger = logging.getLogger(__name__)

_TIMEOUT: Final = 1.0
"""Seconds to wait for a lookup, for a connection, and for an answer."""
_RETRY_INTERVAL: Final = 5.0
"""Seconds after a failure before Redis is tried again."""
_KEY_PREFIX: Final = "docxy"

_Answer = TypeVar("_Answer")


class SharedRedis:
    """Asks Redis; when it is unreachable, returns a fallback answer immediately.

    While requests arrive, a background thread tries Redis again every few seconds. No request
    waits for it. `clock` is monotonic.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare connections without opening any; raise ValueError if `url` is not a Redis URL."""
        pool = build_pool(url, _TIMEOUT)
        self.connection = Redis(connection_pool=pool)
        self.storage = RedisStorage("redis://", connection_pool=pool, key_prefix=_KEY_PREFIX)
        self._clock = clock
        self._background = BackgroundPool("redis probe")
        self._is_down = False
        self._next_probe = 0.0

    def call(self, question: Callable[[], _Answer], otherwise: _Answer) -> _Answer:
        """Return the result of `question`, or `otherwise` when Redis is unreachable or fails."""
        if self._is_down:
            self._probe_if_due()
            return otherwise
        try:
            return question()
        except (RedisError, OSError) as error:
            self._record_failure(error)
            return otherwise

    def _record_failure(self, error: Exception) -> None:
        self._next_probe = self._clock() + _RETRY_INTERVAL
        if self._is_down:
            return
        self._is_down = True
        # The text of the error may contain the URL with its password.
        logger.warning(
            "Redis is unavailable; requests pass without limits.",
            extra={"fields": {"error_type": type(error).__name__}},
        )

    def _probe_if_due(self) -> None:
        now = self._clock()
        if now >= self._next_probe:
            self._next_probe = now + _RETRY_INTERVAL
            self._background.submit(self._probe)  # if it is dropped, the next one follows anyway

    def _probe(self) -> None:
        try:
            # Write something: a Redis that is full, or a read-only replica, still answers reads.
            self.storage.incr("probe", 60)
        except (RedisError, OSError):
            return
        if self._is_down:
            self._is_down = False
            logger.info("Redis is available again; limits apply.")

    def build_key(self, *parts: str) -> str:
        """Return a key in Redis made of `parts`, with the prefix of the limits library's keys."""
        return ":".join((_KEY_PREFIX, *parts))


# Concurrent downloads, counted in Redis.

LEASE: Final = 60
"""Seconds for which a download counts without being renewed; its worker may have died."""

_TAKE: Final = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREM', KEYS[1], ARGV[4])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""
_KEEP: Final = """
redis.call('ZADD', KEYS[1], tonumber(redis.call('TIME')[1]) + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
"""Both scripts use the clock of Redis, since the clocks of replicas may differ."""


class RedisConcurrencyLimiter:
    """The downloads of all processes that share a Redis; each has a lease of `LEASE` seconds."""

    def __init__(self, redis: SharedRedis, limit: int) -> None:
        self._redis = redis
        self._most = limit
        self._acquire_script: Callable[..., int] = redis.connection.register_script(_TAKE)
        self._renew_script: Callable[..., object] = redis.connection.register_script(_KEEP)

    def try_acquire(self, identity: str, name: str, instead_of: str = "") -> bool:
        """Begin a download; return False if the client has no room for it.

        Return True when Redis is unreachable.
        """
        keys, arguments = [self._build_key(identity)], [name, LEASE, self._most, instead_of]
        return bool(
            self._redis.call(lambda: self._acquire_script(keys=keys, args=arguments), otherwise=1)
        )

    def renew(self, identity: str, name: str) -> None:
        """Renew the lease of a download; take a new one if Redis has dropped it."""
        keys, arguments = [self._build_key(identity)], [name, LEASE]
        self._redis.call(lambda: self._renew_script(keys=keys, args=arguments), otherwise=None)

    def release(self, identity: str, name: str) -> None:
        """End a download, if it is running; do nothing when Redis is unreachable."""
        self._redis.call(
            lambda: self._redis.connection.zrem(self._build_key(identity), name), otherwise=None
        )

    def _build_key(self, identity: str) -> str:
        return self._redis.build_key("downloads", identity)
