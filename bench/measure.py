"""The measurements: every server in turn, in every round."""

import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench import clients, proc, wrk
from bench.content import MIB, Content
from bench.pull_cases import Case
from bench.wrk import Load

logger = logging.getLogger(__name__)

CONCURRENCY: Final = 4
SLOW_RATE: Final = 64 * 1024

_WARM_UP: Final = 1
_STEADY_SHARE: Final = 0.5
"""The share of the slow downloads, at their end, in which memory is sampled."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is measured: where it listens, its first process, and its upstream's."""

    name: str
    port: int
    pid: int
    upstream_pid: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The extent of a run."""

    rounds: int
    slow_clients: int
    slow_seconds: float
    load_seconds: int
    observed_processes: int
    observed_rounds: int
    """Rounds with each process."""
    observed_seconds: int
    copies: int
    pulls: Sequence[Case]
    soak_clients: int
    soak_seconds: float
    soak_write_timeout: int
    """Seconds after which a client that reads nothing is cut."""


@dataclass(slots=True)
class Downloads:
    """Downloads through one server, a value for each round."""

    speed: list[float] = field(default_factory=list)
    """MiB a second of one download."""
    cpu: list[float] = field(default_factory=list)
    """Processor seconds a GiB."""
    upstream_cpu: list[float] = field(default_factory=list)
    """Processor seconds a GiB of the upstream at the same time."""
    first_byte: list[float] = field(default_factory=list)
    """Seconds until the first byte."""
    speed_at_once: list[float] = field(default_factory=list)
    """MiB a second of several downloads together."""
    cpu_at_once: list[float] = field(default_factory=list)
    """Processor seconds a GiB with several at once."""


@dataclass(slots=True)
class Requests:
    """Manifest requests through one server, a value for each round."""

    loads: list[Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Processor milliseconds a request."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one worker with slow downloads, in KiB."""

    baseline: float
    per_stream: float
    per_stream_peak: float


def measure_downloads(
    servers: Sequence[Server], content: Content, rounds: int
) -> dict[str, Downloads]:
    """Download one at a time and several at once through each server, in every round."""
    for server in servers:
        clients.downloads(server.port, content.blob_path, content.blob_size, CONCURRENCY)
    measured = {server.name: Downloads() for server in servers}
    for number in range(rounds):
        for server in servers:
            _measure_download(server, content, measured[server.name])
        for server in servers:
            _measure_concurrent_downloads(server, content, measured[server.name])
        logger.info("downloads: round %s of %s", number + 1, rounds)
    return measured


def measure_requests(
    servers: Sequence[Server], content: Content, plan: Plan
) -> dict[str, Requests]:
    """Ask each server for the manifest as fast as it answers, in every round."""
    for server in servers:
        wrk.load(_build_manifest_url(server, content), _WARM_UP)
    measured = {server.name: Requests() for server in servers}
    for number in range(plan.rounds):
        for server in servers:
            cpu_before = proc.read_cpu_seconds(server.pid)
            load = wrk.load(_build_manifest_url(server, content), plan.load_seconds)
            cpu_used = proc.read_cpu_seconds(server.pid) - cpu_before
            measured[server.name].loads.append(load)
            measured[server.name].cpu.append(1000 * cpu_used / load.requests)
        logger.info("manifests: round %s of %s", number + 1, plan.rounds)
    return measured


def measure_memory(server: Server, content: Content, plan: Plan) -> Memory:
    """Measure the memory of a warmed-up worker while many slow downloads run."""
    worker = proc.get_only_child(server.pid)
    baseline = proc.read_resident_kib(worker)
    samples: list[int] = []

    def watch(elapsed: float) -> None:
        if elapsed >= plan.slow_seconds * (1 - _STEADY_SHARE):
            samples.append(proc.read_resident_kib(worker))

    with clients.slow_clients(
        server.port, content.blob_path, count=plan.slow_clients, rate=SLOW_RATE
    ) as slow:
        slow.run(plan.slow_seconds, watch)
    logger.info("memory: measured")
    return Memory(
        baseline,
        (statistics.median(samples) - baseline) / plan.slow_clients,
        (max(samples) - baseline) / plan.slow_clients,
    )


def _measure_download(server: Server, content: Content, measured: Downloads) -> None:
    cpu_before = proc.read_cpu_seconds(server.pid)
    upstream_cpu_before = proc.read_cpu_seconds(server.upstream_pid)
    result = clients.download(server.port, content.blob_path, content.blob_size)
    cpu_used = proc.read_cpu_seconds(server.pid) - cpu_before
    upstream_cpu_used = proc.read_cpu_seconds(server.upstream_pid) - upstream_cpu_before
    measured.cpu.append(_per_gib(cpu_used, content.blob_size))
    measured.upstream_cpu.append(_per_gib(upstream_cpu_used, content.blob_size))
    measured.speed.append(content.blob_size / MIB / result.seconds)
    measured.first_byte.append(result.first_byte)


def _measure_concurrent_downloads(server: Server, content: Content, measured: Downloads) -> None:
    cpu_before = proc.read_cpu_seconds(server.pid)
    seconds = clients.downloads(server.port, content.blob_path, content.blob_size, CONCURRENCY)
    size = CONCURRENCY * content.blob_size
    measured.cpu_at_once.append(_per_gib(proc.read_cpu_seconds(server.pid) - cpu_before, size))
    measured.speed_at_once.append(size / MIB / seconds)


def _per_gib(seconds: float, size: int) -> float:
    return seconds * 1024 * MIB / size


def _build_manifest_url(server: Server, content: Content) -> str:
    return f"http://127.0.0.1:{server.port}{content.manifest_path}"
