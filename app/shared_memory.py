"""Memory that the workers share because gunicorn's master allocates it before it forks them.

The master imports this module, so the module imports the standard library alone. A process without
a master has the memory for itself.
"""

import hashlib
import mmap
import os
from typing import Final

_KEY_SIZE: Final = 32
_SIZE: Final = 1024 * 1024

KEY: Final = os.urandom(_KEY_SIZE)
"""A random secret, the same in all workers of a run."""

MEMORY: Final = mmap.mmap(-1, _SIZE)
"""Shared bytes, zero at first; no lock guards them, so a reader must cope with partial writes."""

SLOT_COUNT: Final = 64
SLOT_SIZE: Final = 256 * 1024
BOARD: Final = mmap.mmap(-1, SLOT_COUNT * SLOT_SIZE)
"""The board: each worker publishes its state to the others in its own slot.

Slots are reused after `SLOT_COUNT` workers, so a worker may share its slot with one that started
`SLOT_COUNT` workers later. Pages that no worker writes take no memory.
"""


class SharedValue:
    """Shared memory in which any worker leaves bytes for all others, under a name.

    No lock guards it: a partial write has a wrong checksum, and a reader treats it as empty.
    """

    _NUMBER: Final = 4
    _CHECKSUM: Final = 32

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def put(self, name: bytes, content: bytes) -> None:
        """Replace the content and its name; if they are too large, store nothing."""
        payload = b"%d\n%s%s" % (len(name), name, content)
        record = len(payload).to_bytes(self._NUMBER) + hashlib.sha256(payload).digest() + payload
        self._memory[: self._NUMBER] = bytes(self._NUMBER)
        if len(record) <= len(self._memory):
            self._memory[self._NUMBER : len(record)] = record[self._NUMBER :]
            self._memory[: self._NUMBER] = record[: self._NUMBER]

    def get(self, name: bytes) -> bytes | None:
        """Return the last content, or `None` if it has another name or is missing or incomplete."""
        start = self._NUMBER + self._CHECKSUM
        size = int.from_bytes(self._memory[: self._NUMBER])
        checksum, payload = self._memory[self._NUMBER : start], self._memory[start : start + size]
        if not size or hashlib.sha256(payload).digest() != checksum:
            return None
        head = b"%d\n%s" % (len(name), name)
        return payload.removeprefix(head) if payload.startswith(head) else None


USERS: Final = SharedValue(mmap.mmap(-1, 2 * 1024 * 1024))
"""The last valid content of the users file, which has 1 MiB at most."""

_BOOTED: Final = mmap.mmap(-1, 4096)
"""A flag for each worker, by its number: 1 once it has begun to serve."""


def mark_booted(number: int) -> None:
    """Record that the worker of this number has begun to serve; the worker itself calls this."""
    _BOOTED[number % len(_BOOTED)] = 1


def clear_booted(number: int) -> None:
    """Record that the worker of this number does not serve yet; the master calls this."""
    _BOOTED[number % len(_BOOTED)] = 0


def has_booted(number: int) -> bool:
    """Return whether the worker of this number has begun to serve, even if it has ended since."""
    return bool(_BOOTED[number % len(_BOOTED)])


_slot = 0


def assign_worker_slot(number: int) -> None:
    """Assign a slot on the board to this process, by the number that gunicorn gives the worker."""
    global _slot  # noqa: PLW0603 - each process has one
    _slot = number % SLOT_COUNT


def get_worker_slot() -> int:
    """Return the index of this process's slot on the board; 0 without a master."""
    return _slot
