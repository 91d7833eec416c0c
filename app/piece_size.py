"""The number of bytes to read at once for one reader: more if it is fast.

A piece stays in memory until its reader has taken it. A slow reader holds one nearly all the time,
so its size is the memory that the download costs (docs/decisions/reading-upstream/piece-size.md).
"""

import time
from typing import Final

SMALLEST: Final = 64 * 1024
"""Bytes of a piece for a reader that is slow, or has not yet shown that it is fast."""

FROM_CONNECTION: Final = 256 * 1024
"""Bytes of the largest piece from a registry: larger ones are no faster."""

FROM_FILE: Final = 1024 * 1024
"""Bytes of the largest piece from a file: each piece may have to be read on another thread."""

BY_KERNEL: Final = 2 * 1024 * 1024
"""Bytes of a file that the kernel sends at once, before the next ones are checked to be in memory.
They are not copied into this process."""

_LONG: Final = 0.5
"""A fast reader takes each piece within these seconds, however many other readers there are."""

_PROVEN: Final = 8 * 1024 * 1024
"""Bytes that a reader must take, each piece within `_LONG`, to count as fast. They exceed the
kernel's buffers, which would otherwise make any reader look fast."""


class AdaptivePieceSize:
    """The size of the pieces for one reader, which depends on how fast it takes them.

    `size` is the number of bytes to read for it next, and `largest` the most that it can be.
    """

    def __init__(self, largest: int) -> None:
        self.size = SMALLEST
        self._largest = largest
        self._fast_bytes = 0
        self._handed_at = 0.0

    def record_handed(self) -> None:
        """Record that the reader is given a piece now."""
        self._handed_at = time.monotonic()

    def record_taken(self, count: int) -> None:
        """Record that the reader has taken a piece of `count` bytes and wants the next one."""
        swift = time.monotonic() - self._handed_at < _LONG
        self._fast_bytes = self._fast_bytes + count if swift else 0
        self.size = self._largest if self._fast_bytes >= _PROVEN else SMALLEST
