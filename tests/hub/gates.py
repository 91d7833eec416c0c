"""A gate before an answer, so that a test decides what has to happen first."""

import threading
from types import TracebackType
from typing import Self


class Gate:
    """Holds the answers that `Fault.gate` sends here until it opens; it never closes again.

    with Gate(arrivals=2) as gate:
        hub.fail(part="token", times=None, gate=gate)

    It opens for so many arrivals, for `open`, and at the end of the block.
    """

    def __init__(self, arrivals: int | None = None) -> None:
        self._arrivals = arrivals
        self._lock = threading.Lock()
        self._arrived = 0
        self._opened = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.open()

    def open(self) -> None:
        """Let all pass, from now on."""
        self._opened.set()

    def arrive(self) -> None:
        """Count one request, which waits next."""
        with self._lock:
            self._arrived += 1
            if self._arrived == self._arrivals:
                self.open()

    @property
    def arrived(self) -> int:
        """The requests that have come so far, whether they still wait or not."""
        with self._lock:
            return self._arrived

    @property
    def is_open(self) -> bool:
        """Whether requests pass."""
        return self._opened.is_set()
