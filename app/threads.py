"""Work that would stop the event loop, done on real threads.

After gevent's patching, threads are greenlets and so is a ThreadPoolExecutor: hashing on one stops
every download of the worker meanwhile, and so does whatever waits in the C library.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from gevent import Timeout
from gevent.lock import BoundedSemaphore
from gevent.monkey import get_original, is_module_patched
from gevent.threadpool import ThreadPool


class Pending(Protocol):
    """What is being done."""

    def result(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - whatever it gives
        """Return what it gave, or raise what it raised; raise TimeoutError."""


class _Pending:
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


def _outcome(work: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """Return what work gives, and what it raised: gevent writes the traceback of what is raised."""
    try:
        return work(*args), None
    except Exception as failure:  # noqa: BLE001 - raised where it is waited for
        return None, failure


class RealThreads:
    """A few threads that the event loop does not wait for."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: Any = None
        self._free: Any = None

    def begin(
        self,
        work: Callable[..., Any],
        *args: Any,  # noqa: ANN401 - whatever it takes
        patience: float | None = None,
    ) -> Pending:
        """Do something on one of the threads; raise TimeoutError if none is free in so long."""
        if is_module_patched("threading"):
            return self._begin_beside_loop(work, args, patience)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count)
        try:
            future: Future[Any] = self._pool.submit(work, *args)
        except RuntimeError as error:
            if "shutdown" in str(error):  # the process ends, and so does this thread, in silence
                raise SystemExit from error
            raise
        return future

    def _begin_beside_loop(
        self, work: Callable[..., Any], args: tuple[Any, ...], patience: float | None
    ) -> Pending:
        if self._pool is None:
            # Made where they are used: after the fork, on the worker's own event loop.
            self._pool, self._free = ThreadPool(self._count), BoundedSemaphore(self._count)
        if not self._free.acquire(timeout=patience):
            raise TimeoutError
        outcome = self._pool.spawn(_outcome, work, args)
        outcome.rawlink(lambda _: self._free.release())
        return _Pending(outcome)


def original(module: str, name: str) -> Any:  # noqa: ANN401 - any function
    """Return a function of the standard library as it was before gevent's patching."""
    return get_original(module, name)
