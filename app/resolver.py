"""Resolves host names without blocking the event loop, each wait with an end.

A lookup in the C library cannot be cancelled, so it runs on a separate thread. All requests that
need the same name share one lookup: a name that gets no answer occupies one thread, and not one for
each request (docs/decisions/upstream/name-resolution.md).
"""

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from app.threads import NativeThreadPool, PendingResult, get_unpatched

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
        until = None if timeout is None else time.monotonic() + timeout
        question = self._lookups.setdefault((host, port), _PendingLookup())
        try:
            pending = self._begin_lookup(question, host, port, timeout)
            left = None if until is None else max(until - time.monotonic(), 0)
            found: Sequence[AddressInfo] = pending.result(left)
        except TimeoutError:
            message = f"the name {host} was not answered in time"
            raise ResolutionTimeout(message) from None
        return found

    def _begin_lookup(
        self, question: _PendingLookup, host: str, port: int, timeout: float | None
    ) -> PendingResult:
        """Return the pending lookup, begun if needed; raise TimeoutError if no thread is free."""
        if not question.lock.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError
        with ExitStack() as held:
            held.callback(question.lock.release)
            if question.pending is None:
                held.callback(self._forget_unless_begun, question, host, port)
                question.pending = self._threads.submit(self._look_up, host, port, patience=timeout)
            return question.pending

    def _forget_unless_begun(self, question: _PendingLookup, host: str, port: int) -> None:
        if question.pending is None:
            self._lookups.pop((host, port), None)

    def _look_up(self, host: str, port: int) -> Sequence[AddressInfo]:
        """Return the C library's answer, and forget the lookup: the result is not cached."""
        try:
            found: Sequence[AddressInfo] = get_unpatched("socket", "getaddrinfo")(
                host, port, self._family, socket.SOCK_STREAM
            )
        finally:
            self._lookups.pop((host, port), None)
        return found
