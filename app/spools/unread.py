"""Unread fetches: who reads a fetch, and how many fetches may run without a reader.

All processes share this through locks on byte ranges past the end of a file, which the kernel
drops when their holder ends. A reader locks the byte of its identity in the blob's data file. An
unread fetch locks one of the bytes of its client and one of the bytes for all clients.
"""

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

from app.spools.shared_file import SharedFile
from app.threads import NativeThreadPool

_MARKS: Final = 1 << 60
"""The offset of the first byte that stands for an identity. No blob is that large."""
_IDENTITIES: Final = 1 << 30
"""The number of these bytes. Clients that share one count as one client, which harms neither."""

OF_ONE: Final = 8
OF_ALL: Final = 32
"""The most fetches that may run unread at once, for one client and for all on this machine.

podman fetches six layers at once, Docker and containerd three, so one interrupted pull fits.
"""

_SLOT_THREADS: Final = NativeThreadPool(1)


def _hash_identity(identity: str) -> int:
    digest = hashlib.blake2b(identity.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest) % _IDENTITIES


def mark_reader(file: SharedFile, identity: str) -> None:
    """Show all processes that a client reads a blob; raise OSError."""
    file.try_lock_range(fcntl.F_RDLCK, _MARKS + _hash_identity(identity))


def unmark_reader(file: SharedFile, identity: str) -> None:
    """Stop showing that a client reads a blob; raise OSError."""
    file.try_lock_range(fcntl.F_UNLCK, _MARKS + _hash_identity(identity))


def has_other_readers(file: SharedFile, identity: str) -> bool:
    """Return whether another client reads a blob, in any process; raise OSError."""
    own = _hash_identity(identity)
    return file.is_range_locked(_MARKS + own + 1, _IDENTITIES - own) or (
        own > 0 and file.is_range_locked(_MARKS, own)
    )


class UnreadSlots:
    """Bounds the number of unread fetches across all processes that share a lock file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def try_acquire(self, identity: str) -> SharedFile | None:
        """Return a slot for an unread fetch of a client, or None if none is left.

        Closing the slot gives it back. Raise OSError.
        """
        slot: SharedFile | None = _SLOT_THREADS.submit(
            self._try_acquire, _hash_identity(identity)
        ).result()
        return slot

    def _try_acquire(self, number: int) -> SharedFile | None:
        file = SharedFile.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _try_lock_one(file, _MARKS + number * OF_ONE, OF_ONE) and _try_lock_one(
                file, 0, OF_ALL
            ):
                return file
        except OSError:
            file.close()
            raise
        file.close()
        return None


def _try_lock_one(file: SharedFile, start: int, count: int) -> bool:
    return any(file.try_lock_range(fcntl.F_WRLCK, at) for at in range(start, start + count))
