"""Crowds of downloads, and the resources of the workers before, during and after them."""

import json
import logging
import os
import signal
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

from bench import machine, proc
from bench.content import Content
from bench.crowd import Crowd, Kind
from bench.measure import Server
from tests.servers import ROOT, wait_until

logger = logging.getLogger(__name__)

ARGUMENTS: Final = ("--config", str(ROOT / "bench" / "counting.py"))
"""The arguments with which gunicorn has to be started."""
CROWDS: Final = 3
"""The first ones let the C library allocate memory; the last one shows whether it grows."""

_SETTLING: Final = 30
"""Seconds after which all resources should be released."""
_WARM_UP_CLIENTS: Final = 30
_WARM_UP_SECONDS: Final = 1.5
_STEADY_SHARE: Final = 0.5
"""The share of a crowd's time, at its end, in which memory is sampled."""
_COUNT_INTERVAL: Final = 8
"""Ticks between two counts of files and greenlets."""


@dataclass(frozen=True, slots=True)
class Held:
    """The resources that all workers together hold."""

    resident_kib: int
    files: int
    """Open files of all kinds, sockets among them."""
    sockets: int
    greenlets: int

    @classmethod
    def by(cls, workers: Sequence[int], folder: Path) -> Self:
        """Return the resources of these processes, which count their greenlets themselves."""
        resident = sum(map(proc.read_resident_kib, workers))
        files = [name for pid in workers for name in proc.list_open_files(pid)]
        sockets = sum(name.startswith("socket:") for name in files)
        greenlets = sum(_count_greenlets(pid, folder) for pid in workers)
        return cls(resident, len(files), sockets, greenlets)

    def has_no_more_than(self, other: Self) -> bool:
        """Return whether these are no more files, sockets and greenlets than `other` has."""
        return (
            self.files <= other.files
            and self.sockets <= other.sockets
            and self.greenlets <= other.greenlets
        )


def _count_greenlets(pid: int, folder: Path) -> int:
    report = folder / f"{pid}.json"
    report.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR2)
    wait_until(report.exists, what="a worker's count")
    return int(json.loads(report.read_text())["greenlets"])


@dataclass(frozen=True, slots=True)
class CrowdFigures:
    """The figures of one crowd."""

    begun: Counter[Kind]
    cut: int
    """Clients that did not read, and were cut."""
    median_kib: float
    """Resident memory of all workers in the second half."""
    peak_kib: int
    midst: Held
    """The count with the most open files while the crowd ran."""
    after: Held


@dataclass(frozen=True, slots=True)
class Soak:
    """Several crowds, one after another."""

    clients: int
    seconds: float
    size: int
    """Bytes of the blob."""
    write_timeout: int
    """Seconds after which a client that reads nothing is cut."""
    load_before: float
    workers: int
    before: Held
    crowds: list[CrowdFigures]

    @property
    def kib_each(self) -> float:
        """The memory of each download in KiB: the highest median of all crowds."""
        peak = max(crowd.median_kib for crowd in self.crowds)
        return (peak - self.before.resident_kib) / self.clients

    @property
    def kib_each_peak(self) -> float:
        """The memory of each download in KiB at the peak of all crowds."""
        peak = max(crowd.peak_kib for crowd in self.crowds)
        return (peak - self.before.resident_kib) / self.clients

    @property
    def growth(self) -> float:
        """The ratio of the memory after the last crowd to the memory after the one before."""
        return self.crowds[-1].after.resident_kib / self.crowds[-2].after.resident_kib

    @property
    def left_behind(self) -> int:
        """The number of files and greenlets that are left after the last crowd."""
        after = self.crowds[-1].after
        growths = (after.files - self.before.files, after.greenlets - self.before.greenlets)
        return sum(max(0, count) for count in growths)


def settings(folder: Path, write_timeout: int) -> dict[str, str]:
    """Return the environment variables that a server needs besides its arguments."""
    return {"SOAK_FOLDER": str(folder), "DOCXY_WRITE_TIMEOUT": str(write_timeout)}


def soak(  # noqa: PLR0913 - each is a parameter of the measurement
    server: Server,
    content: Content,
    *,
    clients: int,
    seconds: float,
    write_timeout: int,
    folder: Path,
) -> Soak:
    """Let crowds download through a server that was started with ARGUMENTS and `settings`."""
    load_before = machine.load_average()
    workers = proc.list_tree(server.pid)[1:]
    for pid in workers:
        wait_until((folder / f"{pid}.ready").exists, what="a worker that counts")
    idle = Held.by(workers, folder)
    crowd = partial(Crowd, server.port, content.blob_path)
    crowd(_WARM_UP_CLIENTS).run(_WARM_UP_SECONDS, lambda: None)
    look = partial(Held.by, workers, folder)
    before = _wait_until_settled(look, lambda held: held.sockets <= idle.sockets)
    crowds = []
    for number in range(CROWDS):
        crowds.append(_run_crowd(crowd(clients), seconds, workers, folder, before))
        logger.info("soak: crowd %s of %s", number + 1, CROWDS)
    return Soak(
        clients, seconds, content.blob_size, write_timeout, load_before, len(workers), before,
        crowds,
    )  # fmt: skip


def _run_crowd(
    crowd: Crowd, seconds: float, workers: Sequence[int], folder: Path, before: Held
) -> CrowdFigures:
    look = partial(Held.by, workers, folder)
    resident: list[int] = []
    looks: list[Held] = []

    def watch() -> None:
        resident.append(sum(map(proc.read_resident_kib, workers)))
        if len(resident) % _COUNT_INTERVAL == 0:
            looks.append(look())

    crowd.run(seconds, watch)
    return CrowdFigures(
        crowd.begun,
        crowd.cut,
        statistics.median(resident[int(len(resident) * (1 - _STEADY_SHARE)) :]),
        max(resident),
        max(looks, key=lambda held: held.files),
        _wait_until_settled(look, lambda held: held.has_no_more_than(before)),
    )


def _wait_until_settled(look: Callable[[], Held], is_enough: Callable[[Held], bool]) -> Held:
    """Return the resources once enough are released, or those still held after 30 s."""
    held = look()

    def given_back() -> bool:
        nonlocal held
        held = look()
        return is_enough(held)

    try:
        wait_until(given_back, _SETTLING)
    except TimeoutError:
        logger.warning("not everything was given back: %s", held)
    return held
