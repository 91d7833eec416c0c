"""How long an address has to wait after wrong passwords."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from app.access.networks import site_of

FREE: Final = 5
"""Wrong passwords before an address has to wait."""
FIRST: Final = 5.0
LONGEST: Final = 15 * 60.0
_FORGOTTEN: Final = 60.0
"""Seconds after which they are forgotten, and twice the time that had to be waited."""
_MOST: Final = 4096
"""Addresses, and names at them, that are remembered; of more, those that failed last."""

EVERYBODY: Final = None
"""In place of a name: whoever is at an address."""

_Key = tuple[str, str | None]


class Slowing:
    """Counts wrong passwords by address, and there by name; each after a few doubles the wait.

    A right password takes nothing back: who has one account must not guess at others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[_Key, tuple[int, float]] = OrderedDict()

    def wait(self, address: str, name: str) -> float:
        """Return for how many seconds no password of a name is looked at there; 0 for none."""
        site = site_of(address)
        return max(self._left((site, EVERYBODY)), self._left((site, name)))

    def _left(self, key: _Key) -> float:
        count, last = self._failures.get(key, (0, 0.0))
        return max(last + _wait_after(count) - self._clock(), 0.0)

    def failed(self, address: str, name: str | None) -> None:
        """Count a wrong password, for one name or for everybody at an address."""
        key, now = (site_of(address), name), self._clock()
        count, last = self._failures.pop(key, (0, now))
        if now - last > _FORGOTTEN + 2 * _wait_after(count):
            count = 0
        self._failures[key] = (count + 1, now)
        while len(self._failures) > _MOST:
            self._failures.popitem(last=False)


def _wait_after(count: int) -> float:
    return 0.0 if count < FREE else min(FIRST * 2.0 ** min(count - FREE, 20), LONGEST)
