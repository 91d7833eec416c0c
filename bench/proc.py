"""Reads processor time, memory and open files of a process and its children from /proc."""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SAMPLING_INTERVAL: Final = 0.2
"""Seconds between two samples of memory."""


def list_tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children = (_PROC / f"{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in list_tree(int(child)))]


def read_cpu_seconds(pid: int) -> float:
    """Return user and system time that a process and its living children have used."""
    return sum(_read_ticks(process) for process in list_tree(pid)) / _TICKS


def get_only_child(pid: int) -> int:
    """Return the one worker of a server; raise RuntimeError if it has none or several."""
    workers = list_tree(pid)[1:]
    if len(workers) != 1:
        message = f"one worker was expected, not {len(workers)}"
        raise RuntimeError(message)
    return workers[0]


def read_resident_kib(pid: int) -> int:
    """Return the resident memory of one process in KiB."""
    for line in (_PROC / f"{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    message = "the kernel does not report the resident memory"
    raise RuntimeError(message)


@contextlib.contextmanager
def watch_memory(pids: Sequence[int], growth: list[float] | None) -> Iterator[None]:
    """Append the MiB by which the resident memory of processes grew at most; None: do nothing."""
    if growth is None:
        yield
        return
    ended = threading.Event()
    samples = [sum(map(read_resident_kib, pids))]

    def watch() -> None:
        while not ended.wait(_SAMPLING_INTERVAL):
            samples.append(sum(map(read_resident_kib, pids)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    growth.append((max(samples) - samples[0]) / 1024)


def _read_ticks(pid: int) -> int:
    # The name in parentheses may contain spaces; utime and stime are fields 14 and 15 (proc(5)).
    fields = (_PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def list_open_files(pid: int) -> list[str]:
    """Return the targets of the descriptors of a process, such as socket:[4711]."""
    files = []
    for link in (_PROC / f"{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            files.append(str(link.readlink()))
    return files
