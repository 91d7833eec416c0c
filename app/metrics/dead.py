"""The counts of workers that are dead become one file: else there is one more after each reload."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

_MERGED: Final = "0"
"""The number of a process that there is never."""

# Neither is typed.
_File: Final[Any] = MmapedDict
_Collector: Final[Any] = MultiProcessCollector

_KINDS: Final = ("counter", "histogram")


@contextlib.contextmanager
def merged() -> Iterator[None]:
    """Add up what dead workers have left, and let others that merge or read wait for this block.

    A file that is just being made is none that can be read.
    """
    with _locked(fcntl.LOCK_EX) as directory:
        for kind in _KINDS:
            left = [path for path in directory.glob(f"{kind}_*.db") if _is_dead(path)]
            if left:
                _add(directory / f"{kind}_{_MERGED}.db", left)
        yield


def _add(merged: Path, left: list[Path]) -> None:
    into = _File(str(merged))
    try:
        for path in left:
            for key, value, _, _ in _File.read_all_values_from_file(str(path)):
                into.write_value(key, into.read_value(key)[0] + value, 0.0)
            path.unlink()
    finally:
        into.close()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let nobody merge meanwhile."""
    with _locked(fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def _locked(how: int) -> Iterator[Path]:
    # It is held for some milliseconds: waiting for it does not hold up a worker.
    directory = _directory()
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, how)
        yield directory


def _directory() -> Path:
    """Return where the files are; only the library knows."""
    return Path(_Collector(None)._path)  # noqa: SLF001


def _is_dead(path: Path) -> bool:
    number = path.stem.rpartition("_")[2]
    if number == _MERGED:
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        pass
    return False
