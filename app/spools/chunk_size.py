"""How much to read at once for one client."""

import time
from typing import Final

_SMALL: Final = 64 * 1024
_LARGE: Final = 1024 * 1024
"""Bytes. Larger pieces are faster, and held in memory for as long as a client takes to take them:
only those that are swift get them."""

_LONG: Final = 0.5
"""Seconds that no piece takes where the client is swift, however many others there are."""
_PROVEN: Final = 4 * 1024 * 1024
"""Bytes that must have been taken without such a wait: more than the kernel's buffers take."""


WINDOW: Final = 2 * 1024 * 1024
"""Bytes of a file that are sent without a look at whether the next ones are in memory."""


class Pace:
    """How swiftly one client takes what it gets."""

    def __init__(self) -> None:
        self._swiftly = 0
        self._handed = time.monotonic()

    @property
    def piece(self) -> int:
        """How many bytes to read for it now."""
        return _LARGE if self._swiftly >= _PROVEN else _SMALL

    def hand(self) -> None:
        """Note that a piece is given to it."""
        self._handed = time.monotonic()

    def taken(self, count: int) -> None:
        """Note that it wants the next one."""
        swift = time.monotonic() - self._handed < _LONG
        self._swiftly = self._swiftly + count if swift else 0
