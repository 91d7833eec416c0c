"""Counts of windows of time in the memory of this process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from limits.storage import Storage

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
