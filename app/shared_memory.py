"""Memory that the workers share, since gunicorn loads this in the master, before it forks them.

The master imports this, so it imports the standard library alone. A process without a master has
the memory for itself.
"""

import hashlib
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


class Slot:
    """Bytes that any worker leaves for all others, under a name.

    Nothing guards it: what another process has half written has a wrong checksum, and counts as
    nothing.
    """

    _NUMBER: Final = 4
    _CHECKSUM: Final = 32

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def put(self, name: bytes, content: bytes) -> None:
        """Leave a content in place of what is there; one that is too large leaves nothing."""
        text = b"%d\n%s%s" % (len(name), name, content)
        whole = len(text).to_bytes(self._NUMBER) + hashlib.sha256(text).digest() + text
        self._memory[: self._NUMBER] = bytes(self._NUMBER)
        if len(whole) <= len(self._memory):
            self._memory[self._NUMBER : len(whole)] = whole[self._NUMBER :]
            self._memory[: self._NUMBER] = whole[: self._NUMBER]

    def get(self, name: bytes) -> bytes | None:
        """Return what was left last, or None if it has another name or is not whole."""
        begin = self._NUMBER + self._CHECKSUM
        size = int.from_bytes(self._memory[: self._NUMBER])
        checksum, text = self._memory[self._NUMBER : begin], self._memory[begin : begin + size]
        if not size or hashlib.sha256(text).digest() != checksum:
            return None
        head = b"%d\n%s" % (len(name), name)
        return text.removeprefix(head) if text.startswith(head) else None


USERS: Final = Slot(mmap.mmap(-1, 2 * 1024 * 1024))
"""The last good content of the file of users, which has at most 1 MiB."""

_BOOTED: Final = mmap.mmap(-1, 4096)
"""A byte for each worker that has begun to serve; they are numbered."""


def tell_booted(number: int) -> None:
    """Say in a worker that it serves from now on."""
    _BOOTED[number % len(_BOOTED)] = 1


def forget_booted(number: int) -> None:
    """Say in the master that a worker of this number is yet to be started."""
    _BOOTED[number % len(_BOOTED)] = 0


def has_booted(number: int) -> bool:
    """Tell whether a worker has ever begun to serve."""
    return bool(_BOOTED[number % len(_BOOTED)])


_seat = 0


def take_seat(number: int) -> None:
    """Give this process its part; gunicorn numbers its workers."""
    global _seat  # noqa: PLW0603 - each process has one
    _seat = number % SEATS


def seat() -> int:
    """Return which part of the board is this process's."""
    return _seat
