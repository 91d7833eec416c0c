"""How much to read at once for one client: more if the client is fast."""

import time
from typing import Final

_SMALL: Final = 64 * 1024
_LARGE: Final = 1024 * 1024
"""Bytes of a piece. Large pieces are faster, but stay in memory until the client has taken them, so
only fast clients get them."""

_LONG: Final = 0.5
"""Seconds. A fast client takes each piece in less time than this, however many others there are."""
_PROVEN: Final = 4 * 1024 * 1024
"""Bytes that a client must take without such a wait to count as fast. They exceed the kernel's
buffers, which would otherwise make any client look fast."""


WINDOW: Final = 2 * 1024 * 1024
"""Bytes of a file that are sent at once, before checking that the next ones are in memory."""


class AdaptiveChunkSize:
    """Measures how fast one client takes its pieces, by the monotonic clock."""

    def __init__(self) -> None:
        self._fast_bytes = 0
        self._handed_at = time.monotonic()

    @property
    def size(self) -> int:
        """The number of bytes to read for the client next."""
        return _LARGE if self._fast_bytes >= _PROVEN else _SMALL

    def record_handed(self) -> None:
        """Record that the client is given a piece now."""
        self._handed_at = time.monotonic()

    def record_taken(self, count: int) -> None:
        """Record that the client has taken a piece of `count` bytes and wants the next one."""
        swift = time.monotonic() - self._handed_at < _LONG
        self._fast_bytes = self._fast_bytes + count if swift else 0
