"""What was not fetched to its end: it is counted, and removed when nobody goes on with it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from app.spools.files import Place, is_at
from app.spools.shared_file import SharedFile


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
