"""A host that does not answer is left alone for a while, and asked by one at a time after that."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.oci.errors import UpstreamDown, UpstreamTimeout, UpstreamUnreachable
from app.upstream.origins import Origin

_FAILURES: Final = 5
"""Failures, with no answer that can be read between them, that open a breaker."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 15.0

_HOSTS: Final = 256

_COUNTED: Final = (UpstreamUnreachable, UpstreamTimeout)
"""No connection, or no answer in time. A refusal is an answer."""


class Breaker:
    """Closed, everything passes; open, nothing; half open, one probe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._open_until = 0.0
        self._probing = False

    @contextmanager
    def watch(self, host: str) -> Iterator[None]:
        """Let a request pass and note how it went; raise UpstreamDown instead."""
        probing = self._admit(host)
        try:
            yield
            self._succeeded()
        except _COUNTED:
            self._failed(probing=probing)
            raise
        finally:
            # However else it ended (the client left, say), that says nothing of the host.
            if probing:
                self._probing = False

    def _admit(self, host: str) -> bool:
        """Tell whether the request is the probe."""
        if self._failures < _FAILURES:
            return False
        with self._lock:
            left = self._open_until - time.monotonic()
            if left > 0 or self._probing:
                seconds = str(max(1, math.ceil(left)))
                message = f"{host}: {UpstreamDown.message}"
                raise UpstreamDown(message, headers={"Retry-After": seconds})
            self._probing = True
            return True

    def _failed(self, *, probing: bool) -> None:
        with self._lock:
            self._failures += 1
            if probing:
                self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            if self._failures >= _FAILURES:
                self._open_until = time.monotonic() + self._pause

    def _succeeded(self) -> None:
        if self._failures:
            with self._lock:
                self._failures, self._pause = 0, _FIRST_PAUSE


class Breakers:
    """One breaker for each scheme, host and port; the least lately used ones are forgotten."""

    def __init__(self) -> None:
        self._by_origin: OrderedDict[Origin, Breaker] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, origin: Origin) -> Breaker:
        """Return the breaker of an origin."""
        with self._lock:
            breaker = self._by_origin.setdefault(origin, Breaker())
            self._by_origin.move_to_end(origin)
            if len(self._by_origin) > _HOSTS:
                self._by_origin.popitem(last=False)
            return breaker
