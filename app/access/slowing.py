"""How long an address, and the networks that it is in, have to wait after wrong passwords."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from app.access.networks import Prefix

FREE: Final = 5
"""Wrong passwords before a site has to wait."""
FIRST: Final = 5.0
LONGEST: Final = 15 * 60.0
_FORGOTTEN: Final = 60.0
"""Seconds after which they are forgotten, and twice the time that had to be waited."""
MOST: Final = 16_384
"""Networks, and names at sites, that are remembered; of more, those that failed last."""

EVERYBODY: Final = None
"""In place of a name: whoever is in a network."""


class _Bound(NamedTuple):
    """The wrong passwords that are free, and the longest wait in seconds after more."""

    free: int
    longest: float


_SITE: Final = _Bound(FREE, LONGEST)
_WIDER: Final = {
    56: _Bound(10, 5 * 60.0),
    48: _Bound(20, 60.0),
    24: _Bound(40, 60.0),
}
"""By the bits of a prefix that is wider than a site. One attacker alone at a site never gets as far
as to slow its neighbours; the more of them there may be, the shorter they wait for him."""

_Key = tuple[Prefix, str | None]


class Slowing:
    """Counts wrong passwords by network, and by name at a site; after a few, each doubles the wait.

    A right password takes nothing back: who has one account must not guess at others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[_Key, tuple[int, float]] = OrderedDict()

    def wait(self, prefixes: Sequence[Prefix], name: str) -> float:
        """Return for how many seconds no password of a name is looked at there; 0 for none.

        `prefixes` are those of an address, or the first of them alone for someone whom what
        happens elsewhere in the wider ones does not concern.
        """
        keys: list[_Key] = [(prefixes[0], name), *((prefix, EVERYBODY) for prefix in prefixes)]
        return max(map(self._left, keys))

    def has_failed(self, prefixes: Sequence[Prefix]) -> bool:
        """Tell whether a wrong password came from one of these networks and is not forgotten."""
        return any(self._count((prefix, EVERYBODY))[0] for prefix in prefixes)

    def failed(self, prefix: Prefix, name: str | None) -> None:
        """Count a wrong password, for one name at a site or for everybody in a network."""
        key = (prefix, name)
        count = self._count(key)[0]
        self._failures.pop(key, None)
        self._failures[key] = (count + 1, self._clock())
        while len(self._failures) > MOST:
            self._failures.popitem(last=False)

    def _left(self, key: _Key) -> float:
        count, last = self._count(key)
        return max(last + _wait_after(count, key[0]) - self._clock(), 0.0)

    def _count(self, key: _Key) -> tuple[int, float]:
        """Return how many are not forgotten, and when the last one came."""
        count, last = self._failures.get(key, (0, 0.0))
        if self._clock() - last > _FORGOTTEN + 2 * _wait_after(count, key[0]):
            return 0, last
        return count, last


def _wait_after(count: int, prefix: Prefix) -> float:
    bound = _WIDER.get(prefix.bits, _SITE)
    if count < bound.free:
        return 0.0
    return min(FIRST * 2.0 ** min(count - bound.free, 20), bound.longest)
