"""The two files of a blob that is being fetched, and the locks by which processes share them.

<algorithm>-<hex>.data   the bytes that have arrived, each at its place; the rest are holes
<algorithm>-<hex>.map    the chunk map (`chunk_map.py`)

Every process that fetches or reads the blob shares a lock on the map (flock). Whoever asks the
registry first, and whoever removes the files, holds it alone. Parts of the work are locked by byte
ranges past the end of the map (`Claim`), which the kernel drops when their holder ends.

Every function waits for the disk, and may raise OSError unless its docstring says otherwise.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Final

from app.oci.reference import Digest
from app.threads import get_unpatched
from app.transfer.chunk_map import ChunkMap, FetchState, Head, read_head, write_head
from app.transfer.shared_facts import Confirmations
from app.transfer.shared_file import SharedFile

_MODES: Final = (0o700, 0o700, 0o750)
"""Modes of a registry's directory and the two above it: only we may read unfinished blobs."""

_ATTEMPTS: Final = 20
_PAUSE: Final = 0.002
"""Seconds between attempts at a lock that another process holds only for a moment."""

_sleep: Final[Callable[[float], None]] = get_unpatched("time", "sleep")

_PAST: Final = 1 << 60
"""The offset of the first byte that is locked. No chunk map is that large."""


class Claim(IntEnum):
    """What a locked byte range of the map stands for: its first byte."""

    CHUNKS = _PAST
    """One byte for each chunk: the right to write it."""
    VERIFICATION = _PAST + (1 << 40)
    """One byte: the right to hash the blob, and to say what came of it."""
    READERS = _PAST + (2 << 40)
    """One byte for each identity that reads the blob."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths of the two files."""

    data: Path
    map: Path

    @classmethod
    def for_digest(cls, directory: Path, digest: Digest) -> "Paths":
        """Return the paths of a blob's files in a directory."""
        return cls.for_name(directory, digest.replace(":", "-"))

    @classmethod
    def for_name(cls, directory: Path, name: str) -> "Paths":
        """Return the paths of the files of one name, without suffixes, in a directory."""
        return cls(directory / f"{name}.data", directory / f"{name}.map")

    def remove(self) -> None:
        """Unlink both files, if they exist; raise OSError."""
        self.data.unlink(missing_ok=True)
        self.map.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Files:
    """The two files, open, and the head as it was when they were opened."""

    data: SharedFile
    map: SharedFile
    head: Head

    def close(self) -> None:
        """Close both files, which releases their locks."""
        self.data.close()
        self.map.close()

    def claim(self, claim: Claim, number: int = 0) -> bool:
        """Lock a byte without waiting; return False if another process holds it."""
        return self.map.try_lock_range(fcntl.F_WRLCK, claim + number)

    def release(self, claim: Claim, number: int = 0, count: int = 1) -> None:
        """Release bytes that `claim` has locked."""
        self.map.try_lock_range(fcntl.F_UNLCK, claim + number, count)

    def is_claimed(self, claim: Claim, number: int = 0, count: int = 1) -> bool:
        """Return whether another process holds any of these bytes."""
        return self.map.is_range_locked(claim + number, count)


def create(paths: Paths) -> Files | None:
    """Open both files for whoever asks the registry first.

    Return None if somebody else does, or if the fetch is running: then `open_running` opens it.
    """
    for _ in range(_ATTEMPTS):
        _make_directory(paths.map.parent)
        map_file = SharedFile.open(paths.map, os.O_RDWR | os.O_CREAT)
        try:
            if not map_file.try_lock(fcntl.LOCK_EX):
                map_file.close()
                return None
            if is_same_file(map_file, paths.map):
                if _is_running(map_file, paths):
                    map_file.close()
                    return None
                if files := _create_data(paths, map_file):
                    return files
        except OSError:
            map_file.close()
            raise
        map_file.close()
    return None


def _make_directory(path: Path) -> None:
    if not path.is_dir():
        for directory, mode in reversed(list(zip((path, *path.parents), _MODES, strict=False))):
            directory.mkdir(mode, exist_ok=True)


def _is_running(map_file: SharedFile, paths: Paths) -> bool:
    head = read_head(map_file)
    if head is None or head.state not in {FetchState.RUNNING, FetchState.VERIFIED}:
        return False
    with suppress(FileNotFoundError):
        data = paths.data.stat()
        return (data.st_ino, data.st_size) == (head.inode, head.size)
    return False


def _create_data(paths: Paths, map_file: SharedFile) -> Files | None:
    head = read_head(map_file)
    if head is None or head.state is not FetchState.REQUESTED:
        # Current readers keep reading the old files, since the new ones are different files.
        paths.remove()
        return None
    paths.data.unlink(missing_ok=True)
    # What is written behind the head meanwhile would make an empty one zeros.
    write_head(map_file, head)
    return Files(SharedFile.open(paths.data, os.O_RDWR | os.O_CREAT | os.O_EXCL), map_file, head)


def announce(files: Files, size: int) -> Files:
    """Write the size of the blob in bytes, which the registry has told, into the files of `create`.

    Nobody else opens them before `let_in`.
    """
    data = files.data.stat()
    with files.data.borrow() as descriptor:
        os.ftruncate(descriptor, size)
    ChunkMap(files.map, size).create()
    head = replace(files.head, state=FetchState.RUNNING, size=size, inode=data.st_ino)
    write_head(files.map, head)
    return replace(files, head=head)


def let_in(files: Files, paths: Paths) -> bool:
    """Let others open the files; return False if they have been removed meanwhile."""
    # The lock is given up for a moment when it changes (flock(2)).
    return files.map.try_lock(fcntl.LOCK_SH) and is_same_file(files.map, paths.map)


def open_running(paths: Paths) -> Files | None:
    """Open both files of a fetch whose size is known; return None if there is none."""
    try:
        map_file = SharedFile.open(paths.map, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if _lock_shared(map_file) and (files := _open_data(paths, map_file)):
            return files
    except OSError:
        map_file.close()
        raise
    map_file.close()
    return None


def _lock_shared(map_file: SharedFile) -> bool:
    for _ in range(_ATTEMPTS):
        if map_file.try_lock(fcntl.LOCK_SH):
            return True
        head = read_head(map_file)
        if head is not None and head.state is FetchState.REQUESTED:
            return False  # the registry has not answered whoever asked first
        _sleep(_PAUSE)
    return False


def _open_data(paths: Paths, map_file: SharedFile) -> Files | None:
    head = read_head(map_file)
    if head is None or head.state not in {FetchState.RUNNING, FetchState.VERIFIED}:
        return None
    try:
        data = SharedFile.open(paths.data, os.O_RDWR)
    except FileNotFoundError:
        return None
    found = data.stat()
    if (found.st_ino, found.st_size) == (head.inode, head.size):
        return Files(data, map_file, head)
    data.close()
    return None


def is_in_use(paths: Paths) -> bool:
    """Return whether any process fetches or reads the blob, or waits for the registry's answer."""
    try:
        map_file = SharedFile.open(paths.map, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not map_file.is_unlocked()
    finally:
        map_file.close()


def is_requested(paths: Paths) -> bool:
    """Return whether somebody waits for the registry's first answer about the blob."""
    try:
        map_file = SharedFile.open(paths.map, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Whoever asks holds the lock alone until others are let in.
        is_let_in = map_file.try_lock(fcntl.LOCK_SH)
        if is_let_in:
            map_file.unlock()
        return not is_let_in
    finally:
        map_file.close()


@contextmanager
def open_confirmations(paths: Paths) -> Iterator[Confirmations | None]:
    """Open what the workers know of callers of a blob; None if the blob is not being fetched."""
    try:
        map_file = SharedFile.open(paths.map, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        yield Confirmations(map_file)
    finally:
        map_file.close()


def remove(mine: Files, paths: Paths) -> None:
    """Unlink the caller's files, unless others have taken their place."""
    if is_same_file(mine.map, paths.map):
        paths.remove()


def mark_single(paths: Paths) -> None:
    """Let the next fetch be in a single stream, unless it has begun already."""
    with suppress(FileExistsError):
        map_file = SharedFile.open(paths.map, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            write_head(map_file, Head(single=True))
        finally:
            map_file.close()


def are_same_files(mine: Files, paths: Paths) -> bool:
    """Return whether both of the caller's files are still at their paths."""
    return is_same_file(mine.map, paths.map) and is_same_file(mine.data, paths.data)


def is_same_file(file: SharedFile, path: Path) -> bool:
    """Return whether a path still leads to an open file."""
    mine = file.stat()
    try:
        other = path.stat()
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (other.st_dev, other.st_ino)


# Unfinished fetches are counted, and removed if nobody continues them.

_BLOCK: Final = 512
"""Bytes of a block in `st_blocks` (stat(2)): a file with holes takes less than its size."""


def remove_idle(directory: Path, idle: float) -> int:
    """Remove fetches that nobody uses and nobody has written for `idle` seconds.

    Return the bytes removed. Errors of single files are ignored.
    """
    removed = 0
    for paths in _list_fetches(directory):
        with suppress(OSError):
            removed += _remove_if_idle(paths, idle)
    return removed


def measure(directory: Path) -> tuple[int, int]:
    """Return the number of fetches, running or unfinished, and the bytes that they take."""
    number = size = 0
    for paths in _list_fetches(directory):
        with suppress(OSError):
            size += paths.data.stat().st_blocks * _BLOCK
            number += 1
    return number, size


def _list_fetches(directory: Path) -> Iterator[Paths]:
    """Yield the paths of each fetch; one of its files may be missing."""
    with suppress(FileNotFoundError):
        for name in sorted({path.stem for path in directory.iterdir()}):
            yield Paths.for_name(directory, name)


def _remove_if_idle(paths: Paths, idle: float) -> int:
    # Check the age before taking the lock: a process that wants to fetch takes any holder of the
    # lock for the one that asks first.
    if _is_young(paths, idle):
        return 0
    map_file = SharedFile.open(paths.map, os.O_RDWR | os.O_CREAT)
    try:
        if (
            not map_file.try_lock(fcntl.LOCK_EX)
            or not is_same_file(map_file, paths.map)
            or _is_young(paths, idle)
        ):
            return 0
        size = _stat(paths).st_blocks * _BLOCK
        paths.remove()
        return size
    finally:
        map_file.close()


def _is_young(paths: Paths, idle: float) -> bool:
    # If the clock was set back, the age is negative; do not keep such a file forever.
    return 0 <= time.time() - _stat(paths).st_mtime < idle


def _stat(paths: Paths) -> os.stat_result:
    return paths.data.stat() if paths.data.exists() else paths.map.stat()
