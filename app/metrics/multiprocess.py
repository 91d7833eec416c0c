"""Counts that go up often, written straight into the file that others read.

prometheus_client takes a lock for each, and asks each time which process it is: a dozen times for
each request. A worker's files are its own, and its counts are made after the fork.
"""

import contextlib
import fcntl
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client import Counter, Histogram, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

# The counts of workers that are dead become one file: else there is one more after each reload.

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


SHARED: Final = bool(values.ValueClass._multiprocess)  # noqa: SLF001 - told nowhere else
"""Whether there are files, which gunicorn.conf.py says before this is imported."""

Add = Callable[[float], None]
Write = Callable[[], None]


def adding(counter: Counter, *labels: str, later: list[Write] | None = None) -> Add:
    """Return what adds to one series of a counter; nothing else may.

    With `later`, what is to be written goes into that list, each series once.
    """
    child = counter.labels(*labels) if labels else counter
    return _adding(child._value, later)  # noqa: SLF001


def observing(histogram: Histogram, *labels: str, later: list[Write] | None = None) -> Add:
    """Return what adds to one series of a histogram; nothing else may."""
    child: Any = histogram.labels(*labels)
    if not SHARED:
        observe: Add = child.observe
        return observe
    bounds, total = child._upper_bounds, _adding(child._sum, later)  # noqa: SLF001
    buckets = [_adding(one, later) for one in child._buckets]  # noqa: SLF001

    def add(amount: float) -> None:
        total(amount)
        buckets[bisect_left(bounds, amount)](1)

    return add


def _adding(value: Any, later: list[Write] | None) -> Add:  # noqa: ANN401 - the library has no type for it
    if not SHARED:
        increase: Add = value.inc
        return increase
    write_value, key, total = value._file.write_value, value._key, value.get()  # noqa: SLF001
    is_waiting = False

    def add_now(amount: float) -> None:
        # Nothing between reading and writing this is another thread's turn.
        nonlocal total
        total += amount
        write_value(key, total, 0.0)

    def add_later(amount: float) -> None:
        nonlocal total, is_waiting
        total += amount
        if not is_waiting:
            is_waiting = True
            waiting.append(write)

    def write() -> None:
        nonlocal is_waiting
        is_waiting = False
        write_value(key, total, 0.0)

    if later is None:
        return add_now
    waiting = later
    return add_later
