"""Run work on real threads if it would block the event loop.

After gevent's patching, threads are greenlets, also those of a ThreadPoolExecutor. Hashing on one
of them stops every download of the worker, and so does any call that blocks in the C library.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from gevent import Timeout
from gevent.lock import BoundedSemaphore
from gevent.monkey import get_original, is_module_patched
from gevent.threadpool import ThreadPool


class PendingResult(Protocol):
    """The result of work that may still be running."""

    def result(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - whatever it gives
        """Return the result of the work, or raise the exception that it raised.

        Raise TimeoutError if the work takes longer than `timeout` seconds; None waits for ever.
        """


class _GeventResult:
    def __init__(self, outcome: Any) -> None:  # noqa: ANN401 - gevent's AsyncResult
        self._outcome = outcome

    def result(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - whatever it gives
        try:
            given, failure = self._outcome.get(timeout=timeout)
        except Timeout as error:
            raise TimeoutError from error
        if failure is not None:
            raise failure
        return given


def _capture_outcome(
    work: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Any, Exception | None]:
    """Return the result of `work` and None, or None and the exception that it raised.

    It is not raised here, because gevent would print its traceback.
    """
    try:
        return work(*args), None
    except Exception as failure:  # noqa: BLE001 - raised where it is waited for
        return None, failure


class NativeThreadPool:
    """A pool of `count` real threads, which do not block the event loop."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: Any = None
        self._free: Any = None

    def submit(
        self,
        work: Callable[..., Any],
        *args: Any,  # noqa: ANN401 - whatever it takes
        patience: float | None = None,
    ) -> PendingResult:
        """Start `work(*args)` on one of the threads, and return its pending result.

        Under gevent, wait at most `patience` seconds for a free thread, and raise TimeoutError if
        there is none; None waits for ever. Without gevent the work is queued at once.
        """
        if is_module_patched("threading"):
            return self._submit_to_gevent(work, args, patience)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count)
        try:
            future: Future[Any] = self._pool.submit(work, *args)
        except RuntimeError as error:
            if "shutdown" in str(error):  # the process is exiting: end this thread silently
                raise SystemExit from error
            raise
        return future

    def _submit_to_gevent(
        self, work: Callable[..., Any], args: tuple[Any, ...], patience: float | None
    ) -> PendingResult:
        if self._pool is None:
            # Created on first use, which is after the fork and on the worker's own event loop.
            self._pool, self._free = ThreadPool(self._count), BoundedSemaphore(self._count)
        if not self._free.acquire(timeout=patience):
            raise TimeoutError
        outcome = self._pool.spawn(_capture_outcome, work, args)
        outcome.rawlink(lambda _: self._free.release())
        return _GeventResult(outcome)


def get_unpatched(module: str, name: str) -> Any:  # noqa: ANN401 - any function
    """Return a function of a standard library module as it was before gevent patched it."""
    return get_original(module, name)
