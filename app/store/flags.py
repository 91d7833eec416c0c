"""Signs that all processes of a machine see, also where the disk takes nothing any more."""

import fcntl
import hashlib
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from app.store.layout import close

_LOCK: Final = "hhqqi4x"
"""struct flock: type, whence, start, length, process (fcntl(2))."""

_BITS: Final = 62


class Signs:
    """A lock on one byte of a file is a sign, and which byte tells which one.

    Such a lock takes no room, and none that can be written; the system forgets it with the process
    that holds it. "Open file description locks" (fcntl(2)) can be looked for without being taken.
    Where the system has none, nobody else sees a sign.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: dict[int, int] = {}

    def put_up(self, text: str) -> None:
        """Let the other processes see a sign."""
        self._lock(fcntl.F_RDLCK, text)

    def take_down(self, text: str) -> None:
        """Let them see it no more, as far as it is this process's."""
        self._lock(fcntl.F_UNLCK, text)

    def is_up_elsewhere(self, text: str) -> bool:
        """Tell whether another process has put it up."""
        return self._is_locked_elsewhere(_asked(fcntl.F_WRLCK, text))

    def are_up_elsewhere(self) -> bool:
        """Tell whether another process has put up any sign; costs one system call."""
        return self._is_locked_elsewhere(_all_of(fcntl.F_WRLCK))

    def close(self) -> None:
        """Take all down that are this process's."""
        opened = self._opened.pop(os.getpid(), None)
        if opened is not None:
            close(opened)

    def _is_locked_elsewhere(self, asked: bytes) -> bool:
        with suppress(OSError):
            found = fcntl.fcntl(self._file(), fcntl.F_OFD_GETLK, asked)
            kind: int = struct.unpack_from("h", found)[0]
            return kind != fcntl.F_UNLCK
        return False

    def _lock(self, kind: int, text: str) -> None:
        with suppress(OSError):
            fcntl.fcntl(self._file(), fcntl.F_OFD_SETLK, _asked(kind, text))

    def _file(self) -> int:
        """Return the file, opened by this process: what a fork takes along is its parent's too.

        All threads use the same: what one of another has locked would be somebody else's.
        """
        process = os.getpid()
        found = self._opened.get(process)
        if found is None:
            ours = _open(self._path)
            found = self._opened.setdefault(process, ours)
            if found != ours:
                close(ours)
        return found


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _asked(kind: int, text: str) -> bytes:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return struct.pack(_LOCK, kind, os.SEEK_SET, number >> (64 - _BITS), 1, 0)


def _all_of(kind: int) -> bytes:
    return struct.pack(_LOCK, kind, os.SEEK_SET, 0, 0, 0)
