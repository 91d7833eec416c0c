"""Waiting: for an event while a client stays, and for another caller's work (single-flight)."""

import random
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Generic, Protocol, TypeVar

from app.oci.errors import ClientGone
from app.source import Client

CLIENT_CHECK: Final = 0.25
"""Seconds between two checks of whether a waiting client is still connected."""

FOREVER: Final = float("inf")

_POLL: Final = (0.002, 0.05)
"""Seconds between two tries while another worker holds the lease: the first pause, the longest."""

_PAUSES: Final = (0.05, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each attempt to go on with a body. The last value is repeated."""

_NEVER: Final = threading.Event()

Key = TypeVar("Key", bound=Hashable)
Key_contra = TypeVar("Key_contra", contravariant=True)
Result = TypeVar("Result")


def wait_for(event: threading.Event, seconds: float, client: Client | None = None) -> bool:
    """Wait at most `seconds` for an event, and return whether it is set.

    Raise ClientGone within 250 ms after `client` has disconnected, if there is one.
    """
    if client is None:
        return event.wait(None if seconds == FOREVER else seconds)
    deadline = time.monotonic() + seconds
    while (remaining := deadline - time.monotonic()) > 0:
        if client.is_gone():
            raise ClientGone
        if event.wait(min(remaining, CLIENT_CHECK)):
            return True
    return event.is_set()


def sleep(seconds: float, client: Client | None) -> None:
    """Wait for `seconds`; raise ClientGone within 250 ms after `client` has disconnected."""
    wait_for(_NEVER, seconds, client)


def choose_pause(failures: int) -> float:
    """Return the seconds before the next attempt to go on with a body, varied by up to half.

    `failures` is the number of attempts that have failed.
    """
    pause = _PAUSES[min(failures, len(_PAUSES) - 1)]
    return pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


class _Flight:
    """One caller's turn with a key.

    `has_led` says that the caller got the lease, or waited for it until its patience ended.
    """

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.has_led = False


class LeaseTable(Protocol[Key_contra]):
    """Leases that several workers share; `app/store/leases.py` implements them."""

    def try_acquire(self, key: Key_contra) -> AbstractContextManager[object] | None:
        """Return the lease of a key as a context that ends it; None if somebody else holds it."""


class SingleFlight(Generic[Key]):
    """Of concurrent callers with one key, one works, and the others wait for it.

    A flight returns no result: the caller that works stores it where the others look.
    So the caller decides how long a result counts, and for whom, and whether a failure is shared.
    A flight takes memory only while somebody works.
    With leases it spans all workers that share them. Do not use it on a real thread, whose locks
    are not those of the event loop.
    """

    def __init__(self, leases: LeaseTable[Key] | None = None, *, patience: float = FOREVER) -> None:
        """Take `patience`: the seconds after which a caller no longer waits for another."""
        self._leases = leases
        self._patience = patience
        self._lock = threading.Lock()
        self._flights: dict[Key, _Flight] = {}

    @contextmanager
    def lead(
        self, key: Key, client: Client | None = None, *, patience: float | None = None
    ) -> Iterator[bool]:
        """Yield True if the caller should work, and False if another caller's work has just ended.

        The caller works inside the context. The other one may have failed, or may still be working
        after `patience` seconds (by default, those of the constructor). A caller that then
        finds no result calls this again, or works without the lead.
        Raise ClientGone if `client` disconnects meanwhile.
        """
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        own = _Flight()
        while (running := self._join(key, own)) is not own:
            # The caller that leads here may leave while it waits for another worker's lease. Then
            # nothing has ended, and another caller waits in its place.
            if not wait_for(running.landed, deadline - time.monotonic(), client) or running.has_led:
                yield False
                return
        try:
            lease, is_leader = self._acquire_lease(key, client, deadline)
            own.has_led = True
            with lease:
                yield is_leader
        finally:
            with self._lock:
                del self._flights[key]
            own.landed.set()

    def _join(self, key: Key, own: _Flight) -> _Flight:
        """Return the running flight of a key, or start the caller's own if no flight is running."""
        with self._lock:
            return self._flights.setdefault(key, own)

    def get(
        self,
        key: Key,
        lookup: Callable[[], Result | None],
        work: Callable[[], Result],
        client: Client | None = None,
    ) -> Result:
        """Return what `lookup` finds; while that is None, let one caller `work`, and look again.

        The caller that works gets the result of its own `work`, which stores it for the others. If
        nothing was stored, because `work` raised for example, one of the others works next. Each
        works without the lead when its patience ends.
        Raise ClientGone if `client` disconnects while another caller works.
        """
        deadline = time.monotonic() + self._patience
        while (result := lookup()) is None:
            with self.lead(key, client) as is_leader:
                if is_leader or time.monotonic() >= deadline:
                    result = lookup()  # another flight may have landed just before this one
                    return work() if result is None else result
        return result

    def _acquire_lease(
        self, key: Key, client: Client | None, deadline: float
    ) -> tuple[AbstractContextManager[object], bool]:
        """Return the lease, and whether no other worker held it.

        Poll for it, since nothing tells when another worker ends its own. Return an empty context
        if there are no leases, or if the deadline passes.
        """
        if self._leases is None:
            return nullcontext(), True
        pause, is_leader = _POLL[0], True
        while (lease := self._leases.try_acquire(key)) is None:
            is_leader = False
            if time.monotonic() >= deadline:
                return nullcontext(), is_leader
            sleep(pause, client)
            pause = min(pause * 2, _POLL[1])
        return lease, is_leader
