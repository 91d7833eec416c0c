"""How much each has used of what a minute, or a day, may have."""

import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol, TypeVar

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

_Answer = TypeVar("_Answer")

_UNKNOWN: Final = 10.0
"""Seconds to wait, where nobody can say how many."""

_MINUTE: Final = 60
_DAY: Final = 24 * 60 * _MINUTE
_REMEMBERED: Final = 1024


class Asks(Protocol):
    """Asks what may be away, and then answers `otherwise`."""

    def __call__(self, question: Callable[[], _Answer], otherwise: _Answer) -> _Answer:
        """Return the answer."""


class _Limit(RateLimitItemPerSecond):
    """So many in so many seconds; what it is called for somebody is not put together each time."""

    __slots__ = ("_key_for",)

    def __init__(self, most: int, seconds: int, name: str) -> None:
        super().__init__(most, seconds, name)
        self._key_for = lru_cache(_REMEMBERED)(super().key_for)

    def key_for(self, *identifiers: bytes | str | float) -> str:
        return self._key_for(*identifiers)


def a_minute(most: int | None, name: str) -> RateLimitItem | None:
    """Return a limit of so many in a minute."""
    return _Limit(most, _MINUTE, name) if most else None


def a_day(most: int | None, name: str) -> RateLimitItem | None:
    """Return a limit of so many in a day."""
    return _Limit(most, _DAY, name) if most else None


class Windows:
    """Counts in windows that begin with the first use: one number for each user and limit."""

    def __init__(self, storage: Storage, asks: Asks | None = None) -> None:
        """Take what is never away, or with what asks it."""
        self._limiter = FixedWindowRateLimiter(storage)
        self._asks = asks

    def count(self, limit: RateLimitItem, who: str) -> bool:
        """Count one, and tell whether it is within a limit."""
        return self._hit(limit, who, 1)

    def has_room(self, limit: RateLimitItem, who: str) -> bool:
        """Tell whether something is left of a limit."""
        if self._asks is None:
            return self._limiter.test(limit, who)
        return self._asks(lambda: self._limiter.test(limit, who), otherwise=True)

    def spend(self, limit: RateLimitItem, who: str, amount: int) -> None:
        """Count what has been had, within a limit or not."""
        self._hit(limit, who, amount)

    def _hit(self, limit: RateLimitItem, who: str, amount: int) -> bool:
        if self._asks is None:
            return self._limiter.hit(limit, who, cost=amount)
        return self._asks(lambda: self._limiter.hit(limit, who, cost=amount), otherwise=True)

    def wait(self, limit: RateLimitItem, who: str) -> int:
        """Return the seconds until the window is over, at least one."""
        told = (
            self._wait(limit, who)
            if self._asks is None
            else self._asks(lambda: self._wait(limit, who), otherwise=_UNKNOWN)
        )
        return max(1, math.ceil(told))

    def _wait(self, limit: RateLimitItem, who: str) -> float:
        return self._limiter.get_window_stats(limit, who).reset_time - time.time()
