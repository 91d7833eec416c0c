"""Hot lookups: results from the ledger, reused for a moment while nobody writes to it.

A native thread and the ledger cost more than everything else about a cached manifest, and one that
many machines pull is requested many times a second.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from app.store.ledger import Ledger

_HOT_SECONDS: Final = 5.0
"""Seconds until the ledger and the store are asked again, since eviction must know what is used."""

_MOST_HOT: Final = 256
_LARGEST_HOT: Final = 256 * 1024
_MOST_HOT_BYTES: Final = 8 * 1024 * 1024
"""Limits of one map: entries, bytes of each, and bytes of all together."""

Thing = TypeVar("Thing")

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _HotEntry(Generic[Thing]):
    value: Thing
    size: int
    version: Hashable
    expires_at: float


class HotMap(Generic[Thing]):
    """Remembers results until any worker writes to the ledger, which may withdraw them.

    Reading the ledger's version needs neither the disk nor a thread.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._entries: dict[Key, _HotEntry[Thing]] = {}

    def get(self, key: Key) -> Thing | None:
        """Return the remembered value; None if it is too old or the ledger was written since."""
        found = self._entries.get(key)
        if found is None:
            return None
        if self._ledger.now() >= found.expires_at or found.version != self._ledger.read_version():
            self._entries.pop(key, None)
            return None
        return found.value

    def put(
        self, key: Key, thing: Thing, *, size: int, seconds_left: float, version: Hashable | None
    ) -> None:
        """Remember a value; `version` is the ledger's before the lookup.

        `size` is in bytes. `seconds_left` is for how many seconds the caller may read it. Nothing
        is remembered if `version` is None or `size` is too large.
        """
        if version is None or size > _LARGEST_HOT:
            return
        now = self._ledger.now()
        kept = {one: found for one, found in list(self._entries.items()) if found.expires_at > now}
        kept.pop(key, None)
        kept[key] = _HotEntry(thing, size, version, now + min(seconds_left, _HOT_SECONDS))
        # If two threads do this at the same time, an entry may be lost.
        self._entries = dict(reversed(list(_take_fitting(reversed(kept.items())))))


def _take_fitting(
    latest_first: Iterable[tuple[Key, _HotEntry[Thing]]],
) -> Iterator[tuple[Key, _HotEntry[Thing]]]:
    """Yield the latest entries, as many as the limits allow."""
    held = 0
    for number, (key, found) in enumerate(latest_first):
        held += found.size
        if number == _MOST_HOT or held > _MOST_HOT_BYTES:
            return
        yield key, found
