"""The store, asked on native threads so that the event loop does not wait, or not asked again."""

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, ParamSpec, TypeVar, cast

from app.source import NOBODY, Event, Observer
from app.store.blobs import BlobStore
from app.store.errors import StoreError
from app.store.ledger import Ledger
from app.threads import NativeThreadPool

logger = logging.getLogger(__name__)

_READERS: Final = 4
_WRITERS: Final = 4
_MOVERS: Final = 4
"""Threads of a worker. Writers may wait for other writers, and readers must not wait for them.
Moving a whole layer may take a slow disk long, and grants must not wait for that."""

_SILENCE: Final = 60.0
"""Seconds in which trouble with the same errno is logged once."""

Asked = ParamSpec("Asked")
Given = TypeVar("Given")


class DiskExecutor:
    """Runs work that waits for the disk on native threads, and logs what went wrong there."""

    def __init__(self, blobs: BlobStore, ledger: Ledger, observer: Observer = NOBODY) -> None:
        self.blobs = blobs
        self.ledger = ledger
        self._observer = observer
        self._evicted_seen = 0
        self._reading = NativeThreadPool(_READERS)
        self._writing = NativeThreadPool(_WRITERS)
        self._moving = NativeThreadPool(_MOVERS)
        self._logged_at: dict[int | None, float] = {}

    def read(
        self, work: Callable[Asked, Given], *args: Asked.args, **kwargs: Asked.kwargs
    ) -> Given:
        """Run `work` on the readers' threads; return and raise what it does.

        The store's lookups raise nothing: trouble with the disk is logged instead.
        """
        return self._run(self._reading, lambda: work(*args, **kwargs))

    def write(
        self, work: Callable[Asked, object], *args: Asked.args, **kwargs: Asked.kwargs
    ) -> bool:
        """Run `work`, which writes to the store; return False, and log why, on a StoreError."""
        return self._try_run(self._writing, lambda: work(*args, **kwargs))

    def move(
        self, work: Callable[Asked, object], *args: Asked.args, **kwargs: Asked.kwargs
    ) -> bool:
        """Do as `write` does, for work that takes longer the larger a file is."""
        return self._try_run(self._moving, lambda: work(*args, **kwargs))

    def write_or_raise(self, work: Callable[[], Given]) -> Given:
        """Run `work` on the writers' threads, where it may wait for other writers.

        Return and raise what it does.
        """
        return self._run(self._writing, work)

    def move_or_raise(
        self, work: Callable[Asked, object], *args: Asked.args, **kwargs: Asked.kwargs
    ) -> None:
        """Do as `move` does, but raise StoreError; the caller logs and counts it."""
        self._run(self._moving, lambda: work(*args, **kwargs))

    def count_failure(self, error: OSError) -> None:
        """Count a failed write or lookup in the metrics, by its fault."""
        self._observer.observe(Event.CACHE_FAILED, self.blobs.fault_of(error))

    def _try_run(self, threads: NativeThreadPool, work: Callable[[], object]) -> bool:
        try:
            self._run(threads, work)
        except StoreError as error:
            self.log_failure(error)
            return False
        return True

    def _run(self, threads: NativeThreadPool, work: Callable[[], Given]) -> Given:
        try:
            return cast("Given", threads.submit(work).result())
        finally:
            # Native threads must not log: under gevent a logger's lock belongs to the event loop.
            for trouble in self.blobs.survived_errors.drain():
                self.log_failure(trouble)
            if more := self.blobs.evicted_count - self._evicted_seen:
                self._evicted_seen += more
                self._observer.observe(Event.EVICTED, amount=more)

    def log_failure(self, error: StoreError) -> None:
        """Count what went wrong, and log it unless the same was logged a moment ago."""
        self.count_failure(error)
        now = time.monotonic()
        if now - self._logged_at.get(error.errno, -_SILENCE) >= _SILENCE:
            self._logged_at[error.errno] = now
            logger.warning(
                "Cache error; requests continue without the cache.",
                extra={"fields": {"error": str(error)}},
            )


# Hot lookups: what was found in the ledger a moment ago, as long as nobody has written to it.
#
# A native thread and the ledger cost more than everything else about a cached manifest, and one
# that many machines pull is requested many times a second.

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
