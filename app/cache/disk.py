"""The store, asked on native threads so that the event loop does not wait, or not asked again."""

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, ParamSpec, TypeVar, cast

from app.events import NOBODY, Event, Observer
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

_LOG_INTERVAL: Final = 60.0
"""Seconds in which trouble with the same errno is logged once."""

Params = ParamSpec("Params")
Result = TypeVar("Result")


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
        self, work: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs
    ) -> Result:
        """Run `work` on the readers' threads; return and raise what it does.

        The store's lookups raise nothing: trouble with the disk is logged instead.
        """
        return self._run(self._reading, lambda: work(*args, **kwargs))

    def write(
        self, work: Callable[Params, object], *args: Params.args, **kwargs: Params.kwargs
    ) -> bool:
        """Run `work`, which writes to the store; return False, and log why, on a StoreError."""
        return self._try_run(self._writing, lambda: work(*args, **kwargs))

    def move(
        self, work: Callable[Params, object], *args: Params.args, **kwargs: Params.kwargs
    ) -> bool:
        """Do as `write` does, for work that takes longer the larger a file is."""
        return self._try_run(self._moving, lambda: work(*args, **kwargs))

    def write_or_raise(self, work: Callable[[], Result]) -> Result:
        """Run `work` on the writers' threads, where it may wait for other writers.

        Return and raise what it does.
        """
        return self._run(self._writing, work)

    def move_or_raise(
        self, work: Callable[Params, object], *args: Params.args, **kwargs: Params.kwargs
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

    def _run(self, threads: NativeThreadPool, work: Callable[[], Result]) -> Result:
        try:
            return cast("Result", threads.submit(work).result())
        finally:
            # Native threads must not log: under gevent a logger's lock belongs to the event loop.
            for error in self.blobs.survived_errors.drain():
                self.log_failure(error)
            if newly_evicted := self.blobs.evicted_count - self._evicted_seen:
                self._evicted_seen += newly_evicted
                self._observer.observe(Event.EVICTED, amount=newly_evicted)

    def log_failure(self, error: StoreError) -> None:
        """Count what went wrong, and log it unless the same was logged a moment ago."""
        self.count_failure(error)
        now = time.monotonic()
        if now - self._logged_at.get(error.errno, -_LOG_INTERVAL) >= _LOG_INTERVAL:
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

Value = TypeVar("Value")

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _HotEntry(Generic[Value]):
    value: Value
    size: int
    version: Hashable
    expires_at: float


class HotMap(Generic[Value]):
    """Remembers results until any worker writes to the ledger, which may withdraw them.

    Reading the ledger's version needs neither the disk nor a thread.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._entries: dict[Key, _HotEntry[Value]] = {}

    def get(self, key: Key) -> Value | None:
        """Return the remembered value; None if it is too old or the ledger was written since."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._ledger.now() >= entry.expires_at or entry.version != self._ledger.read_version():
            self._entries.pop(key, None)
            return None
        return entry.value

    def put(
        self, key: Key, value: Value, *, size: int, seconds_left: float, version: Hashable | None
    ) -> None:
        """Remember a value; `version` is the ledger's before the lookup.

        `size` is in bytes. `seconds_left` is for how many seconds the caller may read it. Nothing
        is remembered if `version` is None or `size` is too large.
        """
        if version is None or size > _LARGEST_HOT:
            return
        now = self._ledger.now()
        entries = {
            other_key: entry
            for other_key, entry in list(self._entries.items())
            if entry.expires_at > now
        }
        entries.pop(key, None)
        entries[key] = _HotEntry(value, size, version, now + min(seconds_left, _HOT_SECONDS))
        # If two threads do this at the same time, an entry may be lost.
        self._entries = dict(reversed(list(_take_fitting(reversed(entries.items())))))


def _take_fitting(
    latest_first: Iterable[tuple[Key, _HotEntry[Value]]],
) -> Iterator[tuple[Key, _HotEntry[Value]]]:
    """Yield the latest entries, as many as the limits allow."""
    total_size = 0
    for number, (key, entry) in enumerate(latest_first):
        total_size += entry.size
        if number == _MOST_HOT or total_size > _MOST_HOT_BYTES:
            return
        yield key, entry
