"""Fetches that nobody reads: who reads a fetch, how many go on unread, and who pays for that.

All of it is told by locks on ranges of bytes that no file has, which processes share and which end
with their holder. A reader has locked the byte of its identity in the file of the blob; a fetch
that goes on unread has locked one of the bytes of its client, and one of those of all.
"""

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

from app.spools.shared_file import SharedFile
from app.threads import RealThreads

_MARKS: Final = 1 << 60
"""The first of the bytes that stand for identities: no blob is so large."""
_IDENTITIES: Final = 1 << 30
"""How many of them. Two clients that share one are taken for one, which costs nobody a byte."""

OF_ONE: Final = 8
OF_ALL: Final = 32
"""Fetches that go on unread at once, of one client and of all on this machine.

podman asks for six layers at once, Docker and containerd for three: one interrupted pull fits.
"""

_THREADS: Final = RealThreads(1)


def _number(identity: str) -> int:
    digest = hashlib.blake2b(identity.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest) % _IDENTITIES


def mark_reader(file: SharedFile, identity: str) -> None:
    """Show that a client reads a blob; raise OSError."""
    file.lock_range(fcntl.F_RDLCK, _MARKS + _number(identity))


def unmark_reader(file: SharedFile, identity: str) -> None:
    """Show that it does not any more; raise OSError."""
    file.lock_range(fcntl.F_UNLCK, _MARKS + _number(identity))


def is_read_by_others(file: SharedFile, identity: str) -> bool:
    """Tell whether any other client reads a blob, in whichever process; raise OSError."""
    own = _number(identity)
    return file.is_range_locked(_MARKS + own + 1, _IDENTITIES - own) or (
        own > 0 and file.is_range_locked(_MARKS, own)
    )


class Slots:
    """The bounds of how many fetches go on unread, of all processes that share a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, identity: str) -> SharedFile | None:
        """Return a slot, which is given back by closing it; None if there is none left.

        Raise OSError.
        """
        slot: SharedFile | None = _THREADS.begin(self._take, _number(identity)).result()
        return slot

    def _take(self, number: int) -> SharedFile | None:
        file = SharedFile.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _lock_one(file, _MARKS + number * OF_ONE, OF_ONE) and _lock_one(file, 0, OF_ALL):
                return file
        except OSError:
            file.close()
            raise
        file.close()
        return None


def _lock_one(file: SharedFile, start: int, count: int) -> bool:
    return any(file.lock_range(fcntl.F_WRLCK, at) for at in range(start, start + count))
