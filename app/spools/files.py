"""The two files of a fetch, its state, and the locks that say who reads and who fills them.

<algorithm>-<hex>.data     the bytes, in order; each process that reads holds a shared lock on it
<algorithm>-<hex>.record   the state of the fetch; the fetcher holds an exclusive lock on it

Every function waits for the disk, and may raise OSError unless its docstring says otherwise.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final

from app.oci.reference import Digest
from app.spools.shared_file import SharedFile, write_at
from app.threads import get_unpatched

# The record: the state of a fetch, in a file beside its bytes.

_RECORD_LENGTH: Final = 1024
"""The constant size of the file in bytes, so that overwriting it needs no room on a full disk."""


class FetchState(StrEnum):
    """The state of a fetch."""

    REQUESTED = "asking"
    """The registry has not answered yet."""
    RUNNING = "running"
    VERIFIED = "verified"
    """All bytes are there, and they match the digest."""
    MISMATCHED = "wrong"
    """All bytes were there, but they do not match the digest."""
    GIVEN_UP = "given up"
    """The disk could not take the bytes. Readers continue without the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRecord:
    """The contents of a record.

    `size` is the size of the whole blob in bytes. `inode` distinguishes the data file from another
    one of the same name. `failures` is the number of fetchers in a row that brought no bytes.
    """

    state: FetchState = FetchState.REQUESTED
    size: int = 0
    inode: int = 0
    failures: int = 0


def write_record(file: SharedFile, record: FetchRecord) -> None:
    """Overwrite the record in a file; may raise OSError."""
    write_at(file, json.dumps(asdict(record)).encode().ljust(_RECORD_LENGTH), 0)


def read_record(file: SharedFile) -> FetchRecord | None:
    """Return the record in a file; an empty file gives a new record. May raise OSError.

    Return None if the record cannot be parsed, perhaps because it is being written.
    """
    data = file.pread(_RECORD_LENGTH, 0)
    return _parse_record(data) if data else FetchRecord()


@lru_cache(maxsize=64)
def _parse_record(data: bytes) -> FetchRecord | None:
    # Cached, since a reader looks a thousand times for each GiB and hardly ever finds a new record.
    try:
        fields = json.loads(data)
        return FetchRecord(**fields | {"state": FetchState(fields["state"])})
    except (ValueError, KeyError, TypeError):
        return None


# The two files together.

_MODES: Final = (0o700, 0o700, 0o750)
"""Modes of a registry's directory and the two above it: only we may read unfinished blobs."""

_ATTEMPTS: Final = 20
_PAUSE: Final = 0.002
"""Seconds between attempts at a lock that another process holds only for a moment, as a test."""

_sleep: Final[Callable[[float], None]] = get_unpatched("time", "sleep")


@dataclass(frozen=True, slots=True)
class SpoolPaths:
    """The paths of the two files."""

    data: Path
    record: Path

    @classmethod
    def for_digest(cls, directory: Path, digest: Digest) -> "SpoolPaths":
        """Return the place of a blob in a directory."""
        name = digest.replace(":", "-")
        return cls(directory / f"{name}.data", directory / f"{name}.record")

    def remove(self) -> None:
        """Unlink both files, if they exist; may raise OSError."""
        self.data.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FetchFiles:
    """The two files, open, and the record as it was when they were opened."""

    data: SharedFile
    record: SharedFile
    initial_record: FetchRecord

    def close(self) -> None:
        """Close both files, which releases their locks."""
        self.data.close()
        self.record.close()


def open_writer(paths: SpoolPaths) -> FetchFiles | None:
    """Open both files for the only fetcher; return None if somebody else is the fetcher.

    Bytes of an earlier, unfinished fetch stay. May raise OSError.
    """
    for _ in range(_ATTEMPTS):
        _make_directory(paths.record.parent)
        record_file = SharedFile.open(paths.record, os.O_RDWR | os.O_CREAT)
        try:
            if not record_file.try_lock(fcntl.LOCK_EX):
                record_file.close()
                return None
            if is_same_file(record_file, paths.record) and (
                files := _open_data(paths, record_file)
            ):
                return files
        except OSError:
            record_file.close()
            raise
        record_file.close()
    return None


def _make_directory(path: Path) -> None:
    if not path.is_dir():
        for directory, mode in reversed(list(zip((path, *path.parents), _MODES, strict=False))):
            directory.mkdir(mode, exist_ok=True)


def _open_data(paths: SpoolPaths, record_file: SharedFile) -> FetchFiles | None:
    fetch_record = read_record(record_file)
    if fetch_record is not None and fetch_record.state is FetchState.REQUESTED:
        paths.data.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        return FetchFiles(SharedFile.open(paths.data, flags), record_file, fetch_record)
    if fetch_record is not None and fetch_record.state in {FetchState.RUNNING, FetchState.VERIFIED}:
        with suppress(FileNotFoundError):
            data = SharedFile.open(paths.data, os.O_RDWR)
            status = data.stat()
            if status.st_ino == fetch_record.inode and status.st_size <= fetch_record.size:
                return FetchFiles(data, record_file, fetch_record)
            data.close()
    # Current readers keep reading the old files, since the new ones are different files.
    paths.remove()
    return None


def open_reader(paths: SpoolPaths) -> FetchFiles | None:
    """Open both files for reading; return None if there is nothing to read yet, or no longer.

    May raise OSError.
    """
    try:
        record_file = SharedFile.open(paths.record, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if files := _open_readable(paths, record_file):
            return files
    except OSError:
        record_file.close()
        raise
    record_file.close()
    return None


def _open_readable(paths: SpoolPaths, record_file: SharedFile) -> FetchFiles | None:
    fetch_record = read_record(record_file)
    if fetch_record is None or fetch_record.state not in {FetchState.RUNNING, FetchState.VERIFIED}:
        return None
    try:
        data = SharedFile.open(paths.data, os.O_RDONLY)
    except FileNotFoundError:
        return None
    if data.stat().st_ino == fetch_record.inode and _lock_for_reading(data):
        return FetchFiles(data, record_file, fetch_record)
    data.close()
    return None


def _lock_for_reading(data: SharedFile) -> bool:
    for _ in range(_ATTEMPTS):
        if data.try_lock(fcntl.LOCK_SH):
            return True
        _sleep(_PAUSE)  # the fetcher is just testing whether anybody reads
    return False


def is_being_fetched(paths: SpoolPaths) -> bool:
    """Return whether somebody fetches the blob, or is about to; may raise OSError."""
    try:
        record_file = SharedFile.open(paths.record, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not record_file.is_unlocked()
    finally:
        record_file.close()


def remove(fetch_files: FetchFiles, paths: SpoolPaths) -> None:
    """Unlink the fetcher's files, unless others have taken their place; may raise OSError."""
    if is_same_file(fetch_files.record, paths.record):
        paths.remove()


def are_same_files(fetch_files: FetchFiles, paths: SpoolPaths) -> bool:
    """Return whether both of the fetcher's files are still at their paths; may raise OSError."""
    return is_same_file(fetch_files.record, paths.record) and is_same_file(
        fetch_files.data, paths.data
    )


def is_same_file(file: SharedFile, path: Path) -> bool:
    """Return whether a path still leads to an open file; may raise OSError."""
    file_status = file.stat()
    try:
        path_status = path.stat()
    except FileNotFoundError:
        return False
    return (file_status.st_dev, file_status.st_ino) == (path_status.st_dev, path_status.st_ino)


# Unfinished fetches are counted, and removed if nobody continues them.


def remove_idle(directory: Path, idle: float) -> int:
    """Remove fetches that nobody fills and nobody has written for `idle` seconds.

    Return the bytes removed. Errors of single files are ignored.
    """
    removed_bytes = 0
    for path in _list_fetches(directory):
        with suppress(OSError):
            removed_bytes += _remove_if_idle(
                SpoolPaths(path.with_suffix(".data"), path.with_suffix(".record")), idle
            )
    return removed_bytes


def measure(directory: Path) -> tuple[int, int]:
    """Return the number of fetches, running or unfinished, and the bytes of their data."""
    number = size = 0
    for path in _list_fetches(directory):
        with suppress(OSError):
            size += path.with_suffix(".data").stat().st_size
            number += 1
    return number, size


def _list_fetches(directory: Path) -> Iterator[Path]:
    """Yield one path without suffix for each fetch; its data may exist without a record."""
    with suppress(FileNotFoundError):
        yield from sorted({path.with_suffix("") for path in directory.iterdir()})


def _remove_if_idle(paths: SpoolPaths, idle: float) -> int:
    # Check the age before taking the lock: a process that wants to fetch takes any holder of the
    # lock for the fetcher.
    if _is_young(paths, idle):
        return 0
    # The lock on the record belongs to the fetcher. Taking it ensures that there is none.
    record_file = SharedFile.open(paths.record, os.O_RDWR | os.O_CREAT)
    try:
        if (
            not record_file.try_lock(fcntl.LOCK_EX)
            or not is_same_file(record_file, paths.record)
            or _is_young(paths, idle)
        ):
            return 0
        size = _stat(paths).st_size
        paths.remove()
        return size
    finally:
        record_file.close()


def _is_young(paths: SpoolPaths, idle: float) -> bool:
    # If the clock was set back, the age is negative; do not keep such a file forever.
    return 0 <= time.time() - _stat(paths).st_mtime < idle


def _stat(paths: SpoolPaths) -> os.stat_result:
    return paths.data.stat() if paths.data.exists() else paths.record.stat()
