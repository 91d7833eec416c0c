"""Memory that the workers share, since gunicorn loads this in the master, before it forks them.

Not part of `app`, which no master may load. A process without a master has it for itself.
"""

import mmap
import os
from typing import Final

_KEY: Final = 32
_SIZE: Final = 1024 * 1024

KEY: Final = os.urandom(_KEY)
"""A secret of this run's."""

MEMORY: Final = mmap.mmap(-1, _SIZE)
"""Zeros at first; nothing guards it, so whoever reads has to cope with what is half written."""

SEATS: Final = 64
SEAT_SIZE: Final = 256 * 1024
BOARD: Final = mmap.mmap(-1, SEATS * SEAT_SIZE)
"""What each worker shows to the others, in a part of its own; pages that none writes cost nothing.

A part is a later worker's when there have been so many, and so the one before may have to share it.
"""

_seat = 0


def take_seat(number: int) -> None:
    """Give this process its part; gunicorn numbers its workers."""
    global _seat  # noqa: PLW0603 - each process has one
    _seat = number % SEATS


def seat() -> int:
    """Return which part of the board is this process's."""
    return _seat
