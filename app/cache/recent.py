"""Manifests that were read in the last seconds, as long as nobody has written anything since.

A thread and the index cost more than all else of a manifest that is kept; and a manifest that many
machines pull is asked for many times in a second.
"""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from app.store.store import Store

_LIFETIME: Final = 5.0
"""Seconds until the store is asked again: it has to know what is used."""

_SETTLED: Final = 100_000_000
"""Nanoseconds that a change must be old: one more in the same tick of the clock would not show."""

_MOST: Final = 256
_LARGEST: Final = 256 * 1024
_MOST_BYTES: Final = 8 * 1024 * 1024
"""What is remembered of one registry: so many, of so many bytes each and all together."""

Thing = TypeVar("Thing")

Key = tuple[str, ...]

State = tuple[int, ...]
"""The file that all changes go to, and when it was last written."""


@dataclass(frozen=True, slots=True)
class _Found(Generic[Thing]):
    thing: Thing
    size: int
    state: State
    until: float


class Recent(Generic[Thing]):
    """Remembers what was found, until any worker writes to the index: that may take it away.

    SQLite writes each change to its write-ahead log first (https://sqlite.org/wal.html), and so the
    file's time tells whether there was one. To look at it takes no disk and no thread.
    """

    def __init__(self, store: Store) -> None:
        self._clock = store.clock
        self._signs = store.signs
        self._log = str(store.directory / "index.sqlite-wal")
        self._found: dict[Key, _Found[Thing]] = {}

    def state(self) -> State | None:
        """Return what tells whether something is written from now on, or None."""
        try:
            log = os.stat(self._log)  # noqa: PTH116 - for each request, and twice as fast
        except OSError:
            return None
        if time.time_ns() - log.st_mtime_ns < _SETTLED:
            return None
        if self._signs.are_up_elsewhere():  # a worker has refused somebody and could not write it
            return None
        return (log.st_ino, log.st_mtime_ns, log.st_size)

    def get(self, key: Key) -> Thing | None:
        """Return what was found lately, if nothing was written since."""
        found = self._found.get(key)
        if found is None:
            return None
        if self._clock.now() >= found.until or found.state != self.state():
            self._found.pop(key, None)
            return None
        return found.thing

    def put(self, key: Key, thing: Thing, *, size: int, left: float, state: State | None) -> None:
        """Remember what was found, with the state from before it was looked for.

        `left` is for how many seconds it may be read.
        """
        if state is None or size > _LARGEST:
            return
        now = self._clock.now()
        kept = {one: found for one, found in list(self._found.items()) if found.until > now}
        kept.pop(key, None)
        kept[key] = _Found(thing, size, state, now + min(left, _LIFETIME))
        # Where two threads meet, an entry may be lost.
        self._found = dict(reversed(list(_fitting(reversed(kept.items())))))


def _fitting(
    latest_first: Iterable[tuple[Key, _Found[Thing]]],
) -> Iterator[tuple[Key, _Found[Thing]]]:
    """Yield the latest, as many as may be remembered."""
    held = 0
    for number, (key, found) in enumerate(latest_first):
        held += found.size
        if number == _MOST or held > _MOST_BYTES:
            return
        yield key, found
