"""The two files of a fetch, and who may open them for what.

<algorithm>-<hex>.data     the bytes, in order; a shared lock on it for each process that reads
<algorithm>-<hex>.record   what is said of them; an exclusive lock on it for the one who fills
Everything here waits for the disk.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.oci.reference import Digest
from app.spools import record
from app.spools.record import Record, State
from app.spools.shared_file import SharedFile
from app.threads import original

_MODES: Final = (0o700, 0o700, 0o750)
"""Of a registry's directory, and the two above it; what is unfinished is nobody else's to read."""

_ATTEMPTS: Final = 20
_PAUSE: Final = 0.002
"""Seconds between attempts at a lock that somebody else only tries."""

_sleep: Final[Callable[[float], None]] = original("time", "sleep")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the two lie."""

    data: Path
    record: Path

    @classmethod
    def of(cls, directory: Path, digest: Digest) -> "Place":
        """Return the place of one blob."""
        name = digest.replace(":", "-")
        return cls(directory / f"{name}.data", directory / f"{name}.record")

    def remove(self) -> None:
        """Take both away; raise OSError."""
        self.data.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Files:
    """Both, open, and what was said of them then."""

    data: SharedFile
    record: SharedFile
    said: Record

    def close(self) -> None:
        """Give both up, and the locks with them."""
        self.data.close()
        self.record.close()


def to_fill(place: Place) -> Files | None:
    """Open both for the only one who fills, or return None if somebody else does.

    What is there of the bytes stays; raise OSError.
    """
    for _ in range(_ATTEMPTS):
        _make_directory(place.record.parent)
        says = SharedFile.open(place.record, os.O_RDWR | os.O_CREAT)
        try:
            if not says.lock(fcntl.LOCK_EX):
                says.close()
                return None
            if is_at(says, place.record) and (files := _with_data(place, says)):
                return files
        except OSError:
            says.close()
            raise
        says.close()
    return None


def _make_directory(path: Path) -> None:
    if not path.is_dir():
        for directory, mode in reversed(list(zip((path, *path.parents), _MODES, strict=False))):
            directory.mkdir(mode, exist_ok=True)


def _with_data(place: Place, says: SharedFile) -> Files | None:
    said = record.read(says)
    if said is not None and said.state is State.ASKING:
        place.data.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        return Files(SharedFile.open(place.data, flags), says, said)
    if said is not None and said.state in {State.RUNNING, State.VERIFIED}:
        with suppress(FileNotFoundError):
            data = SharedFile.open(place.data, os.O_RDWR)
            state = data.status()
            if state.st_ino == said.inode and state.st_size <= said.size:
                return Files(data, says, said)
            data.close()
    # Whoever reads the old ones reads on: the new ones are other files.
    place.remove()
    return None


def to_read(place: Place) -> Files | None:
    """Open both for reading, or return None if there is nothing to read yet, or any more."""
    try:
        says = SharedFile.open(place.record, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if files := _readable(place, says):
            return files
    except OSError:
        says.close()
        raise
    says.close()
    return None


def _readable(place: Place, says: SharedFile) -> Files | None:
    said = record.read(says)
    if said is None or said.state not in {State.RUNNING, State.VERIFIED}:
        return None
    try:
        data = SharedFile.open(place.data, os.O_RDONLY)
    except FileNotFoundError:
        return None
    if data.status().st_ino == said.inode and _locked_to_read(data):
        return Files(data, says, said)
    data.close()
    return None


def _locked_to_read(data: SharedFile) -> bool:
    for _ in range(_ATTEMPTS):
        if data.lock(fcntl.LOCK_SH):
            return True
        _sleep(_PAUSE)  # who fills is looking whether anybody reads
    return False


def is_asked_for(place: Place) -> bool:
    """Tell whether somebody fills, or is about to."""
    try:
        says = SharedFile.open(place.record, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not says.is_free()
    finally:
        says.close()


def remove(mine: Files, place: Place) -> None:
    """Take away what somebody fills, unless others are at its place by now; raise OSError."""
    if is_at(mine.record, place.record):
        place.remove()


def are_at(mine: Files, place: Place) -> bool:
    """Tell whether what somebody fills is still at its place."""
    return is_at(mine.record, place.record) and is_at(mine.data, place.data)


def is_at(file: SharedFile, path: Path) -> bool:
    """Tell whether a path still leads to an open file."""
    mine = file.status()
    try:
        other = path.stat()
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (other.st_dev, other.st_ino)


# What was not fetched to its end: it is counted, and removed when nobody goes on with it.


def tidy(directory: Path, idle: float) -> int:
    """Remove what nobody fills or reads, and nobody has for so many seconds; return its bytes."""
    removed = 0
    for path in _paths(directory):
        with suppress(OSError):
            removed += _removed(Place(path.with_suffix(".data"), path.with_suffix(".record")), idle)
    return removed


def held(directory: Path) -> tuple[int, int]:
    """Return how many fetches there are, running or left unfinished, and their bytes."""
    number = size = 0
    for path in _paths(directory):
        with suppress(OSError):
            size += path.with_suffix(".data").stat().st_size
            number += 1
    return number, size


def _paths(directory: Path) -> Iterator[Path]:
    """Yield one path for each fetch; its bytes may lie there without their record."""
    with suppress(FileNotFoundError):
        yield from sorted({path.with_suffix("") for path in directory.iterdir()})


def _removed(place: Place, idle: float) -> int:
    # Whoever wants to fill takes one who has the lock for one who fills, and asks in vain.
    if _is_young(place, idle):
        return 0
    # The lock of the record is for who fills: without it nothing is removed that is being filled.
    says = SharedFile.open(place.record, os.O_RDWR | os.O_CREAT)
    try:
        if not says.lock(fcntl.LOCK_EX) or not is_at(says, place.record) or _is_young(place, idle):
            return 0
        size = _status(place).st_size
        place.remove()
        return size
    finally:
        says.close()


def _is_young(place: Place, idle: float) -> bool:
    # A clock that was set back makes no file younger than it is for ever.
    return 0 <= time.time() - _status(place).st_mtime < idle


def _status(place: Place) -> os.stat_result:
    return place.data.stat() if place.data.exists() else place.record.stat()
