"""Counts the concurrent downloads of each client, in memory or in Redis."""

from collections.abc import Callable
from typing import Final, Protocol

from app.access.shared_redis import SharedRedis

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


class ConcurrencyLimiter(Protocol):
    """The running downloads of each client; each download has a name of its own."""

    def try_acquire(self, who: str, name: str, instead_of: str = "") -> bool:
        """Begin a download; return False if the client has no room for it.

        The download called `instead_of` ends first, if it is running.
        """

    def renew(self, who: str, name: str) -> None:
        """Renew a download, whether the client has room for it or not."""

    def release(self, who: str, name: str) -> None:
        """End a download, if it is running."""


class LocalConcurrencyLimiter:
    """The downloads of this process, counted in memory."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[str, set[str]] = {}

    def try_acquire(self, who: str, name: str, instead_of: str = "") -> bool:
        """Begin a download; return False if the client has no room for it."""
        running = self._running.setdefault(who, set())
        running.discard(instead_of)
        if len(running) >= self._most:
            return False
        running.add(name)
        return True

    def renew(self, who: str, name: str) -> None:
        """Count the download even above the limit; downloads in memory never expire."""
        self._running.setdefault(who, set()).add(name)

    def release(self, who: str, name: str) -> None:
        """End a download, if it is running."""
        running = self._running.get(who, set())
        running.discard(name)
        if not running:
            self._running.pop(who, None)


class RedisConcurrencyLimiter:
    """The downloads of all processes that share a Redis; each has a lease of `LEASE` seconds."""

    def __init__(self, redis: SharedRedis, most: int) -> None:
        self._redis = redis
        self._most = most
        self._acquire_script: Callable[..., int] = redis.connection.register_script(_TAKE)
        self._renew_script: Callable[..., object] = redis.connection.register_script(_KEEP)

    def try_acquire(self, who: str, name: str, instead_of: str = "") -> bool:
        """Begin a download; return False if the client has no room for it.

        Return True when Redis is unreachable.
        """
        keys, arguments = [self._build_key(who)], [name, LEASE, self._most, instead_of]
        return bool(
            self._redis.call(lambda: self._acquire_script(keys=keys, args=arguments), otherwise=1)
        )

    def renew(self, who: str, name: str) -> None:
        """Renew the lease of a download; take a new one if Redis has dropped it."""
        keys, arguments = [self._build_key(who)], [name, LEASE]
        self._redis.call(lambda: self._renew_script(keys=keys, args=arguments), otherwise=None)

    def release(self, who: str, name: str) -> None:
        """End a download, if it is running; do nothing when Redis is unreachable."""
        self._redis.call(
            lambda: self._redis.connection.zrem(self._build_key(who), name), otherwise=None
        )

    def _build_key(self, who: str) -> str:
        return self._redis.build_key("downloads", who)
