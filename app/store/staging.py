"""Staging: a folder for each process, for files that are still being written.

A process holds a lock on its folder for as long as it lives. An unlocked folder was therefore
left by a dead process.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from app.store.index import get_identity
from app.store.layout import PRIVATE_DIRECTORY_MODE, Layout, close, list_directories, make_directory


@dataclass(frozen=True, slots=True)
class _Folder:
    path: Path
    identity: tuple[int, int]
    descriptor: int
    process: int


class Staging:
    """The staging folder of this process, and those that dead processes have left."""

    def __init__(self, places: Layout) -> None:
        self._layout = places
        self._folders: list[_Folder] = []

    def get_owner(self) -> str:
        """Return this process's name, which is the name of its folder; raise OSError.

        A forked process gets a folder of its own, and a process whose folder was deleted gets a new
        one.
        """
        return self._get_folder().name

    def build_path(self) -> Path:
        """Return the path for a new file in this process's folder; raise OSError.

        The file itself is not created.
        """
        return self._get_folder() / uuid4().hex

    def iterate_dead(self) -> Iterator[Path]:
        """Yield the folder of each dead process, and hold its lock meanwhile; raise OSError."""
        for name in list_directories(self._layout.staging):
            path = self._layout.staging / name
            descriptor = _try_lock(path)
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

    def _get_folder(self) -> Path:
        for folder in reversed(self._folders):
            if folder.process != os.getpid():
                self.close()  # closes our copies; the parent keeps its lock
                break
            if get_identity(folder.path) == folder.identity:
                return folder.path
        return self._create_folder()

    def _create_folder(self) -> Path:
        while True:
            path = self._layout.staging / uuid4().hex
            make_directory(path, PRIVATE_DIRECTORY_MODE)
            descriptor = _try_lock(path)
            file = get_identity(path)
            if descriptor is not None and file is not None:
                # Two threads may both get here at once; then both folders are in use.
                self._folders.append(_Folder(path, file, descriptor, os.getpid()))
                return path


def _try_lock(path: Path) -> int | None:
    """Lock a folder and return the descriptor; None if it is locked or does not exist any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = os.fstat(descriptor)
        if get_identity(path) == (state.st_dev, state.st_ino):
            return descriptor
    close(descriptor)
    return None
