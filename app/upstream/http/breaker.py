"""A host that does not answer is left alone for a while, and asked by one at a time after that."""

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
"""Failures, with no answer that can be read between them, that open a breaker, and the seconds that
they must go on for: many requests at once meet one short failure many times."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 3.0
"""Seconds between two probes, at first and at last: so long a host may be back unnoticed."""

_HOSTS: Final = 256

_COUNTED: Final = (UpstreamUnreachable, UpstreamTimeout)
"""No connection, or no answer in time. A refusal is an answer."""


class Breaker:
    """Closed, everything passes; open, nothing; half open, one probe."""

    def __init__(self, observer: Observer = NOBODY) -> None:
        self._observer = observer
        self._lock = threading.Lock()
        self._failures = 0
        self._failing_since = 0.0
        self._succeeded_at = 0.0
        self._pause = _FIRST_PAUSE
        self._open_until: float | None = None
        """None while it is closed."""
        self._probing = False

    @contextmanager
    def watch(self, host: str) -> Iterator[None]:
        """Let a request pass and note how it went; raise UpstreamDown instead."""
        began = time.monotonic()
        probing = self._admit(host)
        try:
            yield
            self._succeeded(host)
        except _COUNTED:
            self._failed(host, began, probing=probing)
            raise
        except ClientGone:
            raise  # that says nothing of the host
        except RegistryError:
            if probing:
                self._succeeded(host)  # whoever cuts connections, or answers nonsense, is there
            raise
        finally:
            if probing:
                self._probing = False

    def forget(self) -> None:
        """Let nobody count it any more: nothing would ever tell that it has closed."""
        with self._lock:
            observer, self._observer = self._observer, NOBODY
            is_open = self._open_until is not None
        if is_open:
            observer.happened(Event.CLOSED)

    def _admit(self, host: str) -> bool:
        """Tell whether the request is the probe."""
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

    def _failed(self, host: str, began: float, *, probing: bool) -> None:
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
            self._observer.happened(Event.OPENED)
            fields = {"host": host}
            logger.warning("An upstream is left alone for a while.", extra={"fields": fields})

    def _succeeded(self, host: str) -> None:
        self._succeeded_at = time.monotonic()
        if not self._failures:
            return
        with self._lock:
            closes = self._open_until is not None
            self._failures, self._pause, self._open_until = 0, _FIRST_PAUSE, None
        if closes:
            self._observer.happened(Event.CLOSED)
            logger.warning("An upstream answers again.", extra={"fields": {"host": host}})


class Breakers:
    """One breaker for each scheme, host and port; the least lately used ones are forgotten."""

    def __init__(self, observer: Observer = NOBODY) -> None:
        self._observer = observer
        self._by_origin: OrderedDict[Origin, Breaker] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, origin: Origin) -> Breaker:
        """Return the breaker of an origin."""
        with self._lock:
            breaker = self._by_origin.get(origin)
            if breaker is None:
                breaker = self._by_origin[origin] = Breaker(self._observer)
            self._by_origin.move_to_end(origin)
            if len(self._by_origin) > _HOSTS:
                _, forgotten = self._by_origin.popitem(last=False)
                forgotten.forget()
            return breaker
