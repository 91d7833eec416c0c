"""Who reads a blob that is being fetched, and slots that bound what runs at once.

All processes share this through locks on byte ranges, which the kernel drops when their holder
ends. A reader locks a byte of the chunk map (`Claim.READERS`). A slot is one of the bytes of its
key and one of the bytes for all keys, in a file that has no other purpose.
"""

import fcntl
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Final

from app.threads import NativeThreadPool
from app.transfer.files import Claim, Files
from app.transfer.shared_file import SharedFile

NOBODYS: Final = "\0 nobody's"
"""The identity of those who begin a fetch before any client asks for it: they are no readers."""

_IDENTITIES: Final = 1 << 30
"""The number of bytes that stand for identities. Clients that share one count as one, which costs
neither a byte."""

_THREADS: Final = NativeThreadPool(1)


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest) % _IDENTITIES


class Readers:
    """The identities that read one blob: those in this process, and whether there are others."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._here = Counter[str]()

    def __bool__(self) -> bool:
        """Whether a client reads in this process."""
        return bool(self._here)

    def add(self, identity: str) -> None:
        """Add a reader, and show all processes that this client reads; raise OSError."""
        if identity == NOBODYS:
            return
        if not self._here[identity]:
            self._files.map.try_lock_range(fcntl.F_RDLCK, Claim.READERS + _hash(identity))
        self._here[identity] += 1

    def remove(self, identity: str) -> None:
        """Remove a reader; raise OSError."""
        if identity == NOBODYS:
            return
        self._here[identity] -= 1
        if not self._here[identity]:
            del self._here[identity]
            self._files.release(Claim.READERS, _hash(identity))

    def is_other(self, identity: str) -> bool:
        """Return whether any client except this one reads, in any process; raise OSError."""
        own = _hash(identity)
        return (
            any(_hash(one) != own for one in self._here)
            or self._files.is_claimed(Claim.READERS, own + 1, _IDENTITIES - own)
            or (own > 0 and self._files.is_claimed(Claim.READERS, 0, own))
        )


class Slots:
    """Bounds how many of something run at once, across all processes that share a lock file.

    There are `for_one` slots for each key and `for_all` slots for all keys together. The bytes of
    the keys come far behind those for all.
    """

    def __init__(self, path: Path, *, for_one: int, for_all: int) -> None:
        self._path = path
        self._for_one = for_one
        self._for_all = for_all

    def try_acquire(self, key: str) -> SharedFile | None:
        """Return a slot, or None if none is left. Closing it gives it back. Raise OSError."""
        slot: SharedFile | None = _THREADS.submit(self._try_acquire, _hash(key)).result()
        return slot

    def _try_acquire(self, number: int) -> SharedFile | None:
        file = SharedFile.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _try_lock_one(
                file, Claim.CHUNKS + number * self._for_one, self._for_one
            ) and _try_lock_one(file, 0, self._for_all):
                return file
        except OSError:
            file.close()
            raise
        file.close()
        return None


def _try_lock_one(file: SharedFile, start: int, count: int) -> bool:
    return any(file.try_lock_range(fcntl.F_WRLCK, at) for at in range(start, start + count))
