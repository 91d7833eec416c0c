"""A line that carries so many bytes a second, for one answer or for several together."""

import threading
import time

_CREDIT = 0.02
"""Seconds of idle time that a sender may make up for, since sleeping takes longer than asked."""


class Line:
    """Tells each sender how long to wait; they take turns as their pieces come."""

    def __init__(self, bytes_per_second: int) -> None:
        self.bytes_per_second = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, count: int) -> float:
        """Take the line for so many bytes; return the seconds until they have passed."""
        now = time.monotonic()
        with self._lock:
            begin = max(self._free_at, now - _CREDIT)
            self._free_at = begin + count / self.bytes_per_second
            return self._free_at - now
