"""Single-flight: of concurrent requests for one key, in any worker, one fetches."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from app.store.leases import Leases

_PATIENCE: Final = 30.0
"""Seconds to wait for another request's fetch before fetching as well."""

_POLL: Final = (0.002, 0.05)
"""Seconds between two tries while another worker holds the lease: the first pause, the longest."""

_NEVER: Final = threading.Event()


class CrossProcessSingleFlight:
    """Running fetches by key, across all workers that share the leases.

    A lease is polled for, since nothing tells when another worker ends its own. Within one worker
    an event is enough.
    """

    def __init__(self, leases: Leases, patience: float = _PATIENCE) -> None:
        """Take `patience` in seconds."""
        self._leases = leases
        self._patience = patience
        self._lock = threading.Lock()
        self._events: dict[str, threading.Event] = {}

    @contextmanager
    def try_lead(self, key: str) -> Iterator[bool]:
        """Yield True if the caller should fetch, False if another request's fetch has just ended.

        The other fetch may have failed, or still run after `patience` seconds. A caller that then
        finds nothing calls this again, or fetches by itself.
        """
        landed = threading.Event()
        with self._lock:
            other = self._events.setdefault(key, landed)
        if other is not landed:
            other.wait(self._patience)
            yield False
            return
        try:
            lease, leads = self._acquire_lease(key)
            with lease:
                yield leads
        finally:
            with self._lock:
                self._events.pop(key, None)
            landed.set()

    def _acquire_lease(self, key: str) -> tuple[AbstractContextManager[object], bool]:
        """Return the lease (an empty context for none), and whether no other worker held it."""
        pause, until, leads = _POLL[0], time.monotonic() + self._patience, True
        while (lease := self._leases.try_acquire(key)) is None:
            leads = False
            if time.monotonic() > until:
                return nullcontext(), leads
            _NEVER.wait(pause)
            pause = min(pause * 2, _POLL[1])
        return lease, leads
