"""Staging: a folder for each process, for files that are still being written.

A process holds a lock on its folder for as long as it lives. An unlocked folder is therefore what
a dead process has left.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from app.store.index import identity
from app.store.layout import PRIVATE_DIRECTORY_MODE, Places, close, directories, make_directory


@dataclass(frozen=True, slots=True)
class _Folder:
    path: Path
    file: tuple[int, int]
    descriptor: int
    process: int


class Aside:
    """The staging folder of this process, and those that dead processes have left."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._folders: list[_Folder] = []

    def owner(self) -> str:
        """Return this process's name, which is the name of its folder; raise OSError.

        A forked process gets a folder of its own, and a process whose folder was deleted gets a new
        one.
        """
        return self._folder().name

    def new(self) -> Path:
        """Return the path for a new file in this process's folder; raise OSError.

        The file itself is not created.
        """
        return self._folder() / uuid4().hex

    def dead(self) -> Iterator[Path]:
        """Yield the folder of each dead process, and hold its lock meanwhile; raise OSError."""
        for name in directories(self._places.aside):
            path = self._places.aside / name
            descriptor = _lock(path)
            if descriptor is not None:
                try:
                    yield path
                finally:
                    close(descriptor)

    def close(self) -> None:
        """Release this process's folders; other processes then take them for a dead process's."""
        for folder in self._folders:
            close(folder.descriptor)
        self._folders.clear()

    def _folder(self) -> Path:
        for folder in reversed(self._folders):
            if folder.process != os.getpid():
                self.close()  # closes our copies; the parent keeps its lock
                break
            if identity(folder.path) == folder.file:
                return folder.path
        return self._made()

    def _made(self) -> Path:
        while True:
            path = self._places.aside / uuid4().hex
            make_directory(path, PRIVATE_DIRECTORY_MODE)
            descriptor = _lock(path)
            file = identity(path)
            if descriptor is not None and file is not None:
                # Two threads may both get here at once; then both folders are in use.
                self._folders.append(_Folder(path, file, descriptor, os.getpid()))
                return path


def _lock(path: Path) -> int | None:
    """Lock a folder and return the descriptor; None if it is locked or does not exist any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = os.fstat(descriptor)
        if identity(path) == (state.st_dev, state.st_ino):
            return descriptor
    close(descriptor)
    return None
