"""Flags that all processes on a machine see, even when the disk cannot be written."""

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

_ANY: Final = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
"""Every byte; packed once, since each request asks for it."""


class Flags:
    """Named flags: each one is a lock on a byte of a file, and its name chooses the byte.

    A lock takes no space on the disk and needs no write access, and the kernel drops it when the
    process that holds it ends. "Open file description locks" (fcntl(2)) can be tested for without
    taking them. On a system without such locks, no process sees another one's flags.

    If the system refuses a lock, the flag is not shown, and nothing is raised.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptors: dict[int, int] = {}

    def set_flag(self, text: str) -> None:
        """Show a flag to the other processes."""
        self._lock(fcntl.F_RDLCK, text)

    def clear_flag(self, text: str) -> None:
        """Stop showing a flag. Other processes may still show the same one."""
        self._lock(fcntl.F_UNLCK, text)

    def is_set_elsewhere(self, text: str) -> bool:
        """Return whether another process shows a flag."""
        return self._is_locked_elsewhere(_pack_lock(fcntl.F_WRLCK, text))

    def is_any_set_elsewhere(self) -> bool:
        """Return whether another process shows any flag; this costs one system call."""
        return self._is_locked_elsewhere(_ANY)

    def close(self) -> None:
        """Stop showing all of this process's flags."""
        opened = self._descriptors.pop(os.getpid(), None)
        if opened is not None:
            close(opened)

    def _is_locked_elsewhere(self, asked: bytes) -> bool:
        with suppress(OSError):
            found = fcntl.fcntl(self._open_descriptor(), fcntl.F_OFD_GETLK, asked)
            kind: int = struct.unpack_from("h", found)[0]
            return kind != fcntl.F_UNLCK
        return False

    def _lock(self, kind: int, text: str) -> None:
        with suppress(OSError):
            fcntl.fcntl(self._open_descriptor(), fcntl.F_OFD_SETLK, _pack_lock(kind, text))

    def _open_descriptor(self) -> int:
        """Return this process's descriptor of the file; raise OSError.

        An inherited descriptor would share its locks with the parent process. All threads use the
        same descriptor, since a lock held through another one looks like another process's.
        """
        process = os.getpid()
        found = self._descriptors.get(process)
        if found is None:
            ours = _open(self._path)
            found = self._descriptors.setdefault(process, ours)
            if found != ours:
                close(ours)
        return found


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _pack_lock(kind: int, text: str) -> bytes:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return struct.pack(_LOCK, kind, os.SEEK_SET, number >> (64 - _BITS), 1, 0)
