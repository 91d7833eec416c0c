"""The cache: hits, misses and manifests, beside nginx, docker-registry and no cache."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.oci.reference import Digest
from app.store.store import Store
from bench import clients, docker_registry, machine, nginx, proc, servers, wrk
from bench.content import GIB, MIB, Content
from bench.copies import Copies, measure_copies
from bench.measure import Plan, Server
from bench.wrk import Load
from tests.servers import wait_until

logger = logging.getLogger(__name__)

FILE: Final = "nginx, the same file"
UNCACHED: Final = "Docxy without a cache"
CACHED: Final = "Docxy"
PEER: Final = docker_registry.NAME

HITS: Final = 4
"""Hits in each round; one takes a fifth of a second, so noise would be a large part of it."""

_REGISTRY: Final = "docker.io"
_WARM_UP: Final = 1


@dataclass(slots=True)
class DownloadFigures:
    """Downloads of one kind, a value for each round."""

    speed: list[float] = field(default_factory=list)
    """MiB a second."""
    cpu: list[float] = field(default_factory=list)
    """Processor seconds a GiB."""
    first_byte: list[float] = field(default_factory=list)
    """Seconds."""


@dataclass(slots=True)
class RequestFigures:
    """Manifest requests through one server, a value for each round."""

    loads: list[Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Processor milliseconds a request."""


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """All measurements of the cache."""

    rounds: int
    load_before: float
    blob_size: int
    load_seconds: int
    hits: Mapping[str, DownloadFigures]
    misses: Mapping[str, DownloadFigures]
    manifests: Mapping[str, RequestFigures]
    copies: Copies


@dataclass(frozen=True, slots=True)
class _Contender:
    """A server with a cache, and the function that empties it."""

    server: Server
    forget: Callable[[], None]
    settle: Callable[[], None]
    """Waits until the server has stored what it has sent."""


def measure(plan: Plan, folder: Path, content: Content, upstream: nginx.Upstream) -> CacheFigures:
    """Measure hits, misses, manifests and whole copies, all in turn in every round."""
    load_before = machine.load_average()
    with _run_contenders(folder, content, upstream) as (uncached, contenders):
        hits, misses = _measure_downloads(plan, folder, content, uncached, contenders)
        manifests = _measure_manifests(
            plan, content, [uncached, *(contender.server for contender in contenders)]
        )
    return CacheFigures(
        plan.rounds,
        load_before,
        content.blob_size,
        plan.load_seconds,
        hits,
        misses,
        manifests,
        measure_copies(folder, plan.copies),
    )


def measure_misses(
    rounds: int, folder: Path, content: Content, upstream: nginx.Upstream
) -> dict[str, DownloadFigures]:
    """Measure misses alone, in a folder that nothing else uses."""
    with _run_contenders(folder, content, upstream) as (uncached, contenders):
        misses = _prepare_misses(content, uncached, contenders)
        for number in range(rounds):
            _measure_misses(content, uncached, contenders, misses)
            logger.info("misses: round %s of %s", number + 1, rounds)
    return misses


@contextmanager
def _run_contenders(
    folder: Path, content: Content, upstream: nginx.Upstream
) -> Iterator[tuple[Server, list[_Contender]]]:
    with ExitStack() as stack:
        uncached = stack.enter_context(servers.gunicorn(UNCACHED, upstream))
        directory = folder / "cache"
        cached = stack.enter_context(
            servers.gunicorn(CACHED, upstream, DOCXY_CACHE_DIR=str(directory))
        )
        store = Store(directory)
        stack.callback(store.close)
        peer = stack.enter_context(docker_registry.proxy(folder, upstream.url, upstream.ca))
        yield (
            uncached,
            [
                _Contender(
                    cached,
                    lambda: _delete_blob(store, content.blob_digest),
                    lambda: _wait_until_stored(store, content.blob_digest),
                ),
                _Contender(
                    Server(PEER, peer.port, peer.pid, upstream.pid),
                    peer.forget,
                    lambda: peer.await_stored(1),
                ),
            ],
        )


def _delete_blob(store: Store, digest: str) -> None:
    store.delete(_REGISTRY, Digest(digest))


def _wait_until_stored(store: Store, digest: str) -> None:
    wait_until(
        lambda: store.stat(_REGISTRY, Digest(digest)) is not None, what="Docxy to keep a blob"
    )


def _measure_downloads(
    plan: Plan, folder: Path, content: Content, uncached: Server, contenders: Sequence[_Contender]
) -> tuple[dict[str, DownloadFigures], dict[str, DownloadFigures]]:
    misses = _prepare_misses(content, uncached, contenders)
    names = [contender.server.name for contender in contenders]
    hits = {name: DownloadFigures() for name in (FILE, *names)}
    content_directory = folder / "cache" / "content" / _REGISTRY
    (file,) = content_directory.glob(f"*/*/{content.blob_digest.partition(':')[2]}")
    for number in range(plan.rounds):
        with nginx.file_server(folder, content, file) as file_server:
            reference = Server(FILE, file_server.port, file_server.pid, file_server.pid)
            in_turn = [reference, *(contender.server for contender in contenders)]
            for server in in_turn:
                _measure_download(server, content, DownloadFigures())
            for _ in range(HITS):
                for server in in_turn:
                    _measure_download(server, content, hits[server.name])
        _measure_misses(content, uncached, contenders, misses)
        logger.info("cached downloads: round %s of %s", number + 1, plan.rounds)
    return hits, misses


def _prepare_misses(
    content: Content, uncached: Server, contenders: Sequence[_Contender]
) -> dict[str, DownloadFigures]:
    """Download once through each server, so that all are connected to the upstream."""
    for contender in contenders:
        _measure_download(contender.server, content, DownloadFigures())
        contender.settle()
    _measure_download(uncached, content, DownloadFigures())
    names = [contender.server.name for contender in contenders]
    return {name: DownloadFigures() for name in (UNCACHED, *names)}


def _measure_misses(
    content: Content,
    uncached: Server,
    contenders: Sequence[_Contender],
    measured: Mapping[str, DownloadFigures],
) -> None:
    _measure_download(uncached, content, measured[UNCACHED])
    for contender in contenders:
        contender.forget()
        _measure_download(contender.server, content, measured[contender.server.name])
        contender.settle()


def _measure_download(server: Server, content: Content, measured: DownloadFigures) -> None:
    cpu_before = proc.read_cpu_seconds(server.pid)
    result = clients.download(server.port, content.blob_path, content.blob_size)
    cpu_used = proc.read_cpu_seconds(server.pid) - cpu_before
    measured.speed.append(content.blob_size / MIB / result.seconds)
    measured.cpu.append(cpu_used * GIB / content.blob_size)
    measured.first_byte.append(result.first_byte)


def _measure_manifests(
    plan: Plan, content: Content, asked_servers: Sequence[Server]
) -> dict[str, RequestFigures]:
    measured = {server.name: RequestFigures() for server in asked_servers}
    urls = {
        server.name: f"http://127.0.0.1:{server.port}{content.manifest_path_by_digest}"
        for server in asked_servers
    }
    for url in urls.values():
        wrk.load(url, _WARM_UP)
    for number in range(plan.rounds):
        for server in asked_servers:
            cpu_before = proc.read_cpu_seconds(server.pid)
            load = wrk.load(urls[server.name], plan.load_seconds)
            cpu_used = proc.read_cpu_seconds(server.pid) - cpu_before
            measured[server.name].loads.append(load)
            measured[server.name].cpu.append(1000 * cpu_used / load.requests)
        logger.info("cached manifests: round %s of %s", number + 1, plan.rounds)
    return measured
