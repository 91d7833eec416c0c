"""How much each has used of what a minute, or a day, may have."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol, TypeVar

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

# Counts of windows of time in the memory of this process.

_SWEEP: Final = 60.0
"""Seconds between two looks for windows that are over."""
_MOST: Final = 100_000
"""Windows that are kept, some 30 MB; of more, those that began last.

Whoever has so many addresses has as much as they like anyway, and must not have all memory too.
"""


class OwnCounts(Storage):
    """A storage of the limits library, which looks through all windows once a minute.

    Its own one in memory does so a hundred times a second, however many there are.
    """

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float] = time.time, most: int = _MOST) -> None:
        super().__init__()
        self._clock = clock
        self._most = most
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._swept = clock()

    @property
    def base_exceptions(self) -> type[Exception]:
        """What it may raise, which the library asks for: nothing of its own."""
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count so many more, in a window that begins with the first of them."""
        # Nothing between reading and writing is another thread's turn.
        now = self._clock()
        count, until = self._windows.get(key, (0, 0.0))
        if until <= now:
            count, until = 0, now + expiry
            self._windows.pop(key, None)
        self._windows[key] = count + amount, until
        if len(self._windows) > self._most:
            self._windows.popitem(last=False)
        if now - self._swept > _SWEEP:
            self._sweep(now)
        return count + amount

    def get(self, key: str) -> int:
        """Return the count of a window; 0 where it is over."""
        count, until = self._windows.get(key, (0, 0.0))
        return count if until > self._clock() else 0

    def get_expiry(self, key: str) -> float:
        """Return when a window is over."""
        return self._windows.get(key, (0, self._clock()))[1]

    def check(self) -> bool:
        """Tell that it is there."""
        return True

    def reset(self) -> int:
        """Forget all; return how many windows."""
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget a window."""
        self._windows.pop(key, None)

    def _sweep(self, now: float) -> None:
        self._swept = now
        kept = ((key, one) for key, one in self._windows.items() if one[1] > now)
        self._windows = OrderedDict(kept)


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
