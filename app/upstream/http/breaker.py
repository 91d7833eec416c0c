"""Circuit breakers: no requests go to a host that does not answer, except one probe at a time."""

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.oci.errors import (
    ClientGone,
    RegistryError,
    UpstreamDown,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from app.source import NOBODY, Event, Observer
from app.upstream.http.origin import Origin

logger = logging.getLogger(__name__)

_FAILURES: Final = 5
_SPAN: Final = 3.0
"""A breaker opens after so many failures without a readable response between them, if they have
gone on for so many seconds. Many simultaneous requests count one short failure many times, so the
number alone is not enough."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 3.0
"""The pause between two probes, in seconds, at first and at most. A host may be back for that long
before we notice."""

_HOSTS: Final = 256

_COUNTED: Final = (UpstreamUnreachable, UpstreamTimeout)
"""The failures that count: no connection, or no response in time. A refusal is a response."""


class CircuitBreaker:
    """The circuit breaker of one origin.

    Every request passes while it is closed, none while it is open, one probe while it is half open.
    """

    def __init__(self, observer: Observer = NOBODY) -> None:
        self._observer = observer
        self._lock = threading.Lock()
        self._failures = 0
        self._failing_since = 0.0
        self._succeeded_at = 0.0
        self._pause = _FIRST_PAUSE
        self._open_until: float | None = None
        """Monotonic seconds; None while the breaker is closed."""
        self._probing = False

    @contextmanager
    def guard(self, host: str) -> Iterator[None]:
        """Run the request in this block and record its outcome.

        Raise UpstreamDown, with a Retry-After, instead of running the block if the breaker is open
        or another request is the probe. `host` is for the message and the log.
        """
        began = time.monotonic()
        probing = self._admit(host)
        try:
            yield
            self._record_success(host)
        except _COUNTED:
            self._record_failure(host, began, probing=probing)
            raise
        except ClientGone:
            raise  # this says nothing about the host
        except RegistryError:
            if probing:
                # A host that cuts connections or sends malformed responses is reachable.
                self._record_success(host)
            raise
        finally:
            if probing:
                self._probing = False

    def detach(self) -> None:
        """Report the breaker as closed if it is open, and report nothing more.

        `CircuitBreakers` has dropped it, so its closing would never be reported, and the count of
        open breakers would stay too high.
        """
        with self._lock:
            observer, self._observer = self._observer, NOBODY
            is_open = self._open_until is not None
        if is_open:
            observer.observe(Event.CIRCUIT_CLOSED)

    def _admit(self, host: str) -> bool:
        """Return True if the request is the probe; raise UpstreamDown if it must not be sent."""
        if self._open_until is None:
            return False
        with self._lock:
            left = (self._open_until or 0.0) - time.monotonic()
            if left > 0 or self._probing:
                seconds = str(max(1, math.ceil(left)))
                message = f"{host}: {UpstreamDown.message}"
                raise UpstreamDown(message, headers={"Retry-After": seconds})
            self._probing = True
            return True

    def _record_failure(self, host: str, began: float, *, probing: bool) -> None:
        now = time.monotonic()
        with self._lock:
            if not self._failures:
                self._failing_since = max(began, self._succeeded_at)
            self._failures += 1
            if probing:
                self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            elif self._failures < _FAILURES or now - self._failing_since < _SPAN:
                return
            opens = self._open_until is None
            self._open_until = now + self._pause
        if opens:
            self._observer.observe(Event.CIRCUIT_OPENED)
            fields = {"host": host}
            logger.warning("Circuit breaker opened.", extra={"fields": fields})

    def _record_success(self, host: str) -> None:
        self._succeeded_at = time.monotonic()
        if not self._failures:
            return
        with self._lock:
            closes = self._open_until is not None
            self._failures, self._pause, self._open_until = 0, _FIRST_PAUSE, None
        if closes:
            self._observer.observe(Event.CIRCUIT_CLOSED)
            logger.warning("Circuit breaker closed.", extra={"fields": {"host": host}})


class CircuitBreakers:
    """The breakers of a session, one per origin; the least recently used are dropped beyond 256."""

    def __init__(self, observer: Observer = NOBODY) -> None:
        self._observer = observer
        self._by_origin: OrderedDict[Origin, CircuitBreaker] = OrderedDict()
        self._lock = threading.Lock()

    def get_breaker(self, origin: Origin) -> CircuitBreaker:
        """Return the breaker of an origin; create it, closed, if there is none."""
        with self._lock:
            breaker = self._by_origin.get(origin)
            if breaker is None:
                breaker = self._by_origin[origin] = CircuitBreaker(self._observer)
            self._by_origin.move_to_end(origin)
            if len(self._by_origin) > _HOSTS:
                _, forgotten = self._by_origin.popitem(last=False)
                forgotten.detach()
            return breaker
