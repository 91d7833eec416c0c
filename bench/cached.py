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
class Fetched:
    """Downloads of one kind, a value for each round."""

    speed: list[float] = field(default_factory=list)
    """MiB a second."""
    cpu: list[float] = field(default_factory=list)
    """Processor seconds a GiB."""
    first_byte: list[float] = field(default_factory=list)
    """Seconds."""


@dataclass(slots=True)
class Asked:
    """Manifest requests through one server, a value for each round."""

    loads: list[Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Processor milliseconds a request."""


@dataclass(frozen=True, slots=True)
class Cached:
    """All measurements of the cache."""

    rounds: int
    load_before: float
    blob_size: int
    load_seconds: int
    hits: Mapping[str, Fetched]
    misses: Mapping[str, Fetched]
    manifests: Mapping[str, Asked]
    copies: Copies


@dataclass(frozen=True, slots=True)
class _Contender:
    """A server with a cache, and the function that empties it."""

    server: Server
    forget: Callable[[], None]
    settle: Callable[[], None]
    """Waits until the server has stored what it has sent."""


def measure(plan: Plan, folder: Path, content: Content, upstream: nginx.Upstream) -> Cached:
    """Measure hits, misses, manifests and whole copies, all in turn in every round."""
    load_before = machine.load_average()
    with _contenders(folder, content, upstream) as (uncached, keeping):
        hits, misses = _downloads(plan, folder, content, uncached, keeping)
        manifests = _manifests(plan, content, [uncached, *(one.server for one in keeping)])
    return Cached(
        plan.rounds,
        load_before,
        content.blob_size,
        plan.load_seconds,
        hits,
        misses,
        manifests,
        measure_copies(folder, plan.copies),
    )


@contextmanager
def _contenders(
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
                    lambda: _drop(store, content.blob_digest),
                    lambda: _await_kept(store, content.blob_digest),
                ),
                _Contender(
                    Server(PEER, peer.port, peer.pid, upstream.pid),
                    peer.forget,
                    lambda: peer.await_stored(1),
                ),
            ],
        )


def _drop(store: Store, digest: str) -> None:
    store.delete(_REGISTRY, Digest(digest))


def _await_kept(store: Store, digest: str) -> None:
    wait_until(
        lambda: store.stat(_REGISTRY, Digest(digest)) is not None, what="Docxy to keep a blob"
    )


def _downloads(
    plan: Plan, folder: Path, content: Content, uncached: Server, keeping: Sequence[_Contender]
) -> tuple[dict[str, Fetched], dict[str, Fetched]]:
    names = [one.server.name for one in keeping]
    hits = {name: Fetched() for name in (FILE, *names)}
    misses = {name: Fetched() for name in (UNCACHED, *names)}
    for one in keeping:
        _download(one.server, content, Fetched())
        one.settle()
    kept = folder / "cache" / "content" / _REGISTRY
    (file,) = kept.glob(f"*/*/{content.blob_digest.partition(':')[2]}")
    _download(uncached, content, Fetched())
    for number in range(plan.rounds):
        with nginx.file_server(folder, content, file) as served:
            reference = Server(FILE, served.port, served.pid, served.pid)
            serving = [reference, *(one.server for one in keeping)]
            for server in serving:
                _download(server, content, Fetched())
            for _ in range(HITS):
                for server in serving:
                    _download(server, content, hits[server.name])
        _download(uncached, content, misses[UNCACHED])
        for one in keeping:
            one.forget()
            _download(one.server, content, misses[one.server.name])
            one.settle()
        logger.info("cached downloads: round %s of %s", number + 1, plan.rounds)
    return hits, misses


def _download(server: Server, content: Content, measured: Fetched) -> None:
    before = proc.cpu_seconds(server.pid)
    done = clients.download(server.port, content.blob_path, content.blob_size)
    used = proc.cpu_seconds(server.pid) - before
    measured.speed.append(content.blob_size / MIB / done.seconds)
    measured.cpu.append(used * GIB / content.blob_size)
    measured.first_byte.append(done.first_byte)


def _manifests(plan: Plan, content: Content, asked: Sequence[Server]) -> dict[str, Asked]:
    measured = {server.name: Asked() for server in asked}
    urls = {
        server.name: f"http://127.0.0.1:{server.port}{content.manifest_path_by_digest}"
        for server in asked
    }
    for url in urls.values():
        wrk.load(url, _WARM_UP)
    for number in range(plan.rounds):
        for server in asked:
            before = proc.cpu_seconds(server.pid)
            load = wrk.load(urls[server.name], plan.load_seconds)
            used = proc.cpu_seconds(server.pid) - before
            measured[server.name].loads.append(load)
            measured[server.name].cpu.append(1000 * used / load.requests)
        logger.info("cached manifests: round %s of %s", number + 1, plan.rounds)
    return measured
