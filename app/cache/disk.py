"""Calls to the store on native threads, so that they do not block the event loop."""

import logging
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar, cast

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
