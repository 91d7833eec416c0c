"""Counts what each client uses in fixed windows of a minute or a day."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol, TypeVar

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

# Counters in the memory of this process.

_SWEEP_INTERVAL: Final = 60.0
"""Seconds between two sweeps of expired windows."""
_MAX_WINDOWS: Final = 100_000
"""The maximum number of windows that are kept, in some 30 MB; the newest ones stay.

A client with more addresses than that evades the limits anyway, and must not exhaust the memory.
"""


class LocalStorage(Storage):
    """A storage for the limits library that sweeps its windows once a minute.

    The library's own in-memory storage sweeps all windows a hundred times a second, however many
    there are. `clock` is wall-clock time.
    """

    STORAGE_SCHEME = None

    def __init__(
        self, clock: Callable[[], float] = time.time, max_windows: int = _MAX_WINDOWS
    ) -> None:
        super().__init__()
        self._clock = clock
        self._most = max_windows
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._last_sweep = clock()

    @property
    def base_exceptions(self) -> type[Exception]:
        """The exceptions of the storage, which the library asks for; this one raises none."""
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add `amount` to a window and return its new count.

        If there is no window, or it is over, begin one of `expiry` seconds.
        """
        # No other greenlet runs between the read and the write.
        now = self._clock()
        count, ends_at = self._windows.get(key, (0, 0.0))
        if ends_at <= now:
            count, ends_at = 0, now + expiry
            self._windows.pop(key, None)
        self._windows[key] = count + amount, ends_at
        if len(self._windows) > self._most:
            self._windows.popitem(last=False)
        if now - self._last_sweep > _SWEEP_INTERVAL:
            self._sweep(now)
        return count + amount

    def get(self, key: str) -> int:
        """Return the count of a window, or 0 if there is none or it is over."""
        count, ends_at = self._windows.get(key, (0, 0.0))
        return count if ends_at > self._clock() else 0

    def get_expiry(self, key: str) -> float:
        """Return the end of a window in wall-clock seconds; the present if there is no window."""
        return self._windows.get(key, (0, self._clock()))[1]

    def check(self) -> bool:
        """Return True: memory is always available."""
        return True

    def reset(self) -> int:
        """Forget all windows; return how many there were."""
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget the window called `key`, if there is one."""
        self._windows.pop(key, None)

    def _sweep(self, now: float) -> None:
        self._last_sweep = now
        unexpired = ((key, window) for key, window in self._windows.items() if window[1] > now)
        self._windows = OrderedDict(unexpired)


_Answer = TypeVar("_Answer")

_DEFAULT_WAIT: Final = 10.0
"""Seconds to tell a client to wait when Redis cannot say how many."""

_MINUTE: Final = 60
_DAY: Final = 24 * 60 * _MINUTE
_CACHE_SIZE: Final = 1024


class StorageCaller(Protocol):
    """Asks a storage that may be unreachable."""

    def __call__(self, question: Callable[[], _Answer], otherwise: _Answer) -> _Answer:
        """Return the result of `question`, or `otherwise` when the storage is unreachable."""


class _Limit(RateLimitItemPerSecond):
    """A limit of `amount` in `seconds`, which caches the storage key of each client."""

    __slots__ = ("_key_for",)

    def __init__(self, amount: int, seconds: int, name: str) -> None:
        super().__init__(amount, seconds, name)
        self._key_for = lru_cache(_CACHE_SIZE)(super().key_for)

    def key_for(self, *identifiers: bytes | str | float) -> str:
        return self._key_for(*identifiers)


def build_minute_limit(amount: int | None, name: str) -> RateLimitItem | None:
    """Return a limit of `amount` per minute, or None for no limit."""
    return _Limit(amount, _MINUTE, name) if amount else None


def build_day_limit(amount: int | None, name: str) -> RateLimitItem | None:
    """Return a limit of `amount` per day, or None for no limit."""
    return _Limit(amount, _DAY, name) if amount else None


class WindowCounters:
    """One counter for each client and limit, in windows that begin with the first use."""

    def __init__(self, storage: Storage, call: StorageCaller | None = None) -> None:
        """Count in `storage`; if it may be unreachable, ask it by means of `call`."""
        self._limiter = FixedWindowRateLimiter(storage)
        self._call = call

    def try_charge(self, limit: RateLimitItem, identity: str) -> bool:
        """Count one use; return False if it exceeds the limit.

        Return True when the storage is unreachable.
        """
        return self._hit(limit, identity, 1)

    def has_room(self, limit: RateLimitItem, identity: str) -> bool:
        """Return True if some of the limit is left, or when the storage is unreachable."""
        if self._call is None:
            return self._limiter.test(limit, identity)
        return self._call(lambda: self._limiter.test(limit, identity), otherwise=True)

    def charge(self, limit: RateLimitItem, identity: str, amount: int) -> None:
        """Count `amount` that has been used already, even above the limit; it may be negative."""
        self._hit(limit, identity, amount)

    def _hit(self, limit: RateLimitItem, identity: str, amount: int) -> bool:
        if self._call is None:
            return self._limiter.hit(limit, identity, cost=amount)
        return self._call(lambda: self._limiter.hit(limit, identity, cost=amount), otherwise=True)

    def seconds_left(self, limit: RateLimitItem, identity: str) -> int:
        """Return the whole seconds until the window is over, at least 1.

        Return 10 when the storage is unreachable.
        """
        seconds = (
            self._seconds_left(limit, identity)
            if self._call is None
            else self._call(lambda: self._seconds_left(limit, identity), otherwise=_DEFAULT_WAIT)
        )
        return max(1, math.ceil(seconds))

    def _seconds_left(self, limit: RateLimitItem, identity: str) -> float:
        return self._limiter.get_window_stats(limit, identity).reset_time - time.time()
