"""How many downloads each has at once."""

from collections.abc import Callable
from typing import Final, Protocol

from app.access.shared_redis import SharedRedis

LEASE: Final = 60
"""Seconds for which a download counts that nobody has spoken of: its worker may be dead."""

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
"""By the clock of Redis, since replicas may differ."""


class Places(Protocol):
    """The downloads that are running, by whose they are; each has a name of its own."""

    def take(self, who: str, name: str, instead_of: str = "") -> bool:
        """Begin one; tell whether there is room for it. Another one ends with that, if it runs."""

    def keep(self, who: str, name: str) -> None:
        """Say that it goes on, whether there is room for it or not."""

    def give(self, who: str, name: str) -> None:
        """End it."""


class OwnPlaces:
    """Those of this process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[str, set[str]] = {}

    def take(self, who: str, name: str, instead_of: str = "") -> bool:
        """Begin one."""
        running = self._running.setdefault(who, set())
        running.discard(instead_of)
        if len(running) >= self._most:
            return False
        running.add(name)
        return True

    def keep(self, who: str, name: str) -> None:
        """Say that it goes on; nothing is forgotten here."""
        self._running.setdefault(who, set()).add(name)

    def give(self, who: str, name: str) -> None:
        """End it."""
        running = self._running.get(who, set())
        running.discard(name)
        if not running:
            self._running.pop(who, None)


class SharedPlaces:
    """Those of all who share a Redis. What nobody keeps is over after a minute."""

    def __init__(self, redis: SharedRedis, most: int) -> None:
        self._redis = redis
        self._most = most
        self._take: Callable[..., int] = redis.connection.register_script(_TAKE)
        self._keep: Callable[..., object] = redis.connection.register_script(_KEEP)

    def take(self, who: str, name: str, instead_of: str = "") -> bool:
        """Begin one; while Redis is away there is room."""
        keys, arguments = [self._key(who)], [name, LEASE, self._most, instead_of]
        return bool(self._redis.ask(lambda: self._take(keys=keys, args=arguments), otherwise=1))

    def keep(self, who: str, name: str) -> None:
        """Say that it goes on; it is there again if Redis has forgotten it."""
        keys, arguments = [self._key(who)], [name, LEASE]
        self._redis.ask(lambda: self._keep(keys=keys, args=arguments), otherwise=None)

    def give(self, who: str, name: str) -> None:
        """End it."""
        self._redis.ask(lambda: self._redis.connection.zrem(self._key(who), name), otherwise=None)

    def _key(self, who: str) -> str:
        return self._redis.key("downloads", who)
