"""A folder for each process, in which files are made before they are anything.

It is locked as long as its process lives, so that what a dead one has left can be told.
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
    """The folder of this process, and those of dead ones."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._folders: list[_Folder] = []

    def owner(self) -> str:
        """Return this process's name, which is its folder's; raise OSError.

        A process that was forked gets one of its own, and so does one whose folder was deleted.
        """
        return self._folder().name

    def new(self) -> Path:
        """Return where a file may be made; raise OSError."""
        return self._folder() / uuid4().hex

    def dead(self) -> Iterator[Path]:
        """Yield each folder whose process has ended, locked meanwhile; raise OSError."""
        for name in directories(self._places.aside):
            path = self._places.aside / name
            descriptor = _lock(path)
            if descriptor is not None:
                try:
                    yield path
                finally:
                    close(descriptor)

    def close(self) -> None:
        """Give the folder up: for others it is a dead process's."""
        for folder in self._folders:
            close(folder.descriptor)
        self._folders.clear()

    def _folder(self) -> Path:
        for folder in reversed(self._folders):
            if folder.process != os.getpid():
                self.close()  # the parent's lock stays the parent's
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
                # Another thread may have been as fast; both folders are in use then.
                self._folders.append(_Folder(path, file, descriptor, os.getpid()))
                return path


def _lock(path: Path) -> int | None:
    """Lock a folder that is nobody's, and is still there."""
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
