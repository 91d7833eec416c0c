"""Makes room on the disk for a fetch of which nobody knows how much it will bring."""

import threading
from collections.abc import Callable
from typing import Final

_STEP: Final = 4 * 1024 * 1024
"""The least bytes for which room is made at once, since that may take long."""


class Allowance:
    """The room that has been made for a blob of `size` bytes, as far as nothing is to fill it yet.

    `make` makes room for a number of bytes, and may raise OSError.
    """

    def __init__(self, make: Callable[[int], None], size: int) -> None:
        self._make = make
        self._least = min(_STEP, size)
        self._lock = threading.Lock()
        self._left = 0

    def take(self, count: int) -> None:
        """Use room for `count` bytes, and make it if too little is left; raise OSError."""
        with self._lock:
            if count > self._left:
                room = max(count, self._least)
                self._make(room)
                self._left = room
            self._left -= count
