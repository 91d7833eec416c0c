"""Time as the hub sees it: a test moves it forward instead of sleeping."""

import threading
import time


class Clock:
    """The real time plus what tests have added.

    It decides about signed URLs and, in the front, about tokens. docker-registry itself has the
    real time. So have a token reply's fields, as a client compares them with its own clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = 0.0

    def now(self) -> float:
        """Return the seconds since the epoch."""
        with self._lock:
            return time.time() + self._offset

    def advance(self, seconds: float) -> None:
        """Move on, at once."""
        with self._lock:
            self._offset += seconds
