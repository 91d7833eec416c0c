"""Run work on real threads if it would block the event loop.

After gevent's patching, threads are greenlets, also those of a ThreadPoolExecutor. Hashing on one
of them stops every download of the worker, and so does any call that blocks in the C library, such
as a lookup of a name: `Resolver` is for those.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

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
            value, failure = self._outcome.get(timeout=timeout)
        except Timeout as error:
            raise TimeoutError from error
        if failure is not None:
            raise failure
        return value


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


# Lookups of names. The C library cannot cancel one. All requests that need the same name share one
# lookup, so a name that gets no answer occupies one thread, and not one for each request
# (docs/decisions/upstream/name-resolution.md).

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""Family, kind, protocol, canonical name and socket address, as `getaddrinfo()` returns them."""

_THREADS: Final = 4
"""Names that one resolver resolves at the same time."""


class ResolutionTimeout(Exception):
    """A name was not resolved in time; this says nothing about the host.

    It is not an OSError, which urllib3 would turn into a failure to connect.
    """


@dataclass(slots=True)
class _PendingLookup:
    """The lookup of one name; `pending` is its result, which all callers wait for."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    pending: PendingResult | None = None


class Resolver:
    """Resolves names for one registry and the hosts that it leads to, or for one Redis.

    `family` limits the addresses, as it does in `getaddrinfo()`; AF_UNSPEC allows all of them.
    """

    def __init__(self, family: socket.AddressFamily = socket.AF_UNSPEC) -> None:
        self._family = family
        self._threads = NativeThreadPool(_THREADS)
        self._lookups: dict[tuple[str, int], _PendingLookup] = {}

    def resolve(self, host: str, port: int, timeout: float | None) -> Sequence[AddressInfo]:
        """Return the addresses of a host in the order of `getaddrinfo()`.

        Raise gaierror if the lookup fails, and ResolutionTimeout if it takes longer than `timeout`
        seconds. None means no limit.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        lookup = self._lookups.setdefault((host, port), _PendingLookup())
        try:
            pending = self._begin_lookup(lookup, host, port, deadline)
            addresses: Sequence[AddressInfo] = pending.result(_compute_seconds_left(deadline))
        except TimeoutError:
            message = f"the name {host} was not answered in time"
            raise ResolutionTimeout(message) from None
        return addresses

    def _begin_lookup(
        self, lookup: _PendingLookup, host: str, port: int, deadline: float | None
    ) -> PendingResult:
        """Return the pending lookup, begun if needed; raise TimeoutError if no thread is free."""
        seconds_left = _compute_seconds_left(deadline)
        if not lookup.lock.acquire(timeout=-1 if seconds_left is None else seconds_left):
            raise TimeoutError
        with ExitStack() as stack:
            stack.callback(lookup.lock.release)
            if lookup.pending is None:
                stack.callback(self._forget_unless_begun, lookup, host, port)
                lookup.pending = self._threads.submit(
                    self._look_up, lookup, host, port, patience=_compute_seconds_left(deadline)
                )
            return lookup.pending

    def _forget_unless_begun(self, lookup: _PendingLookup, host: str, port: int) -> None:
        if lookup.pending is None:
            self._forget(lookup, host, port)

    def _forget(self, lookup: _PendingLookup, host: str, port: int) -> None:
        if self._lookups.get((host, port)) is lookup:
            self._lookups.pop((host, port), None)

    def _look_up(self, lookup: _PendingLookup, host: str, port: int) -> Sequence[AddressInfo]:
        """Return the C library's answer, and forget the lookup: the result is not cached."""
        try:
            addresses: Sequence[AddressInfo] = get_unpatched("socket", "getaddrinfo")(
                host, port, self._family, socket.SOCK_STREAM
            )
        finally:
            self._forget(lookup, host, port)
        return addresses


def _compute_seconds_left(deadline: float | None) -> float | None:
    """Return the seconds until a deadline, 0 if it has passed; None if there is no deadline."""
    return None if deadline is None else max(deadline - time.monotonic(), 0)
