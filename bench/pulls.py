"""Measures first pulls of images by real clients, from a registry with a high latency."""

import gzip
import io
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from app.oci.reference import Digest
from app.store.store import Store
from bench import machine, proc
from bench.pull_cases import (
    COLD,
    DIRECT,
    LATENCY,
    MB,
    OWN_WORK,
    UNCACHED,
    WARM,
    WORKERS,
    Case,
    CaseFigures,
    ModeFigures,
    PullFigures,
    UpstreamCounts,
)
from bench.puller import (
    PLATFORM,
    RANGES,
    Puller,
    RemoteImage,
    find_missing,
    read_versions,
    run_pullers,
)
from bench.ranges import Registry
from tests.hub.hub import Hub
from tests.hub.images import Blob, Image, image, index, layer, noise
from tests.hub.lines import Line
from tests.servers import Docxy, docxy, wait_until

logger = logging.getLogger(__name__)

_CACHED: Final = frozenset({COLD, WARM})
_TAG: Final = "latest"
_REGISTRY: Final = "docker.io"
_LONGEST_ANSWER: Final = 60
"""Seconds in which the CDN ends its answers after a pull."""


@dataclass(frozen=True, slots=True)
class _Servers:
    """The servers of all cases."""

    hub: Hub
    cached: Docxy
    uncached: Docxy
    store: Store
    helper_pids: Sequence[int]
    """The processes behind the hub, which itself runs in this one."""

    def locate(self, mode: str) -> tuple[str, Path | None]:
        """Return the host that a client asks, and the authority of its certificate."""
        if mode in {DIRECT, OWN_WORK}:
            return self.hub.host, self.hub.ca_bundle
        return (self.cached if mode in _CACHED else self.uncached).host, None

    def push(self, repository: str, layers: Sequence[Blob]) -> None:
        """Push an image of these layers."""
        for blob in layers:
            self.hub.push_blob(repository, blob.data)
        child = _build_image(repository, layers)
        # Without the layers: the hub keeps the images that it is given in memory.
        self.hub.push(repository, index({PLATFORM: replace(child, layers=())}), [_TAG])

    def slow_down(self, case: Case) -> None:
        """Add the latency to every request, and limit the CDN as the case says."""
        self.hub.heal()
        line = Line(case.shared_rate) if case.shared_rate else None
        self.hub.fail(part="cdn", delay=LATENCY, times=None, bytes_per_second=case.rate, line=line)
        self.hub.fail(delay=LATENCY, times=None)

    def delete_blobs(self, blobs: Sequence[Blob]) -> None:
        """Delete these blobs from the cache."""
        for blob in blobs:
            self.store.delete(_REGISTRY, Digest(blob.digest))

    def wait_until_stored(self, blobs: Sequence[Blob]) -> None:
        """Wait until the cache has these blobs; Docxy stores them after its last answer."""

        def are_stored() -> bool:
            return all(self.store.stat(_REGISTRY, Digest(blob.digest)) for blob in blobs)

        wait_until(are_stored, what="Docxy to keep the blobs")

    def count_requests(self) -> UpstreamCounts:
        """Wait until the CDN has answered, and count the requests since the hub last forgot."""
        wait_until(
            lambda: all(record.sent is not None for record in self.hub.select("cdn")),
            _LONGEST_ANSWER,
            "the CDN's answers to end",
        )
        count, downloads = self.hub.count, self.hub.select("cdn")
        return UpstreamCounts(
            logins=count("token") + count("registry", path="^/v2/$"),
            manifests=count("registry", "GET", "/manifests/"),
            heads=count("registry", "HEAD", "/manifests/"),
            blobs=count("registry", path="/blobs/"),
            downloads=len(downloads),
            sent=sum(record.sent or 0 for record in downloads),
        )

    def read_cpu_seconds(self) -> float:
        """Return the processor time of the hub, and of whatever else is in its process."""
        return time.process_time() + sum(map(proc.read_cpu_seconds, self.helper_pids))


def measure_pulls(folder: Path, cases: Sequence[Case]) -> PullFigures:
    """Pull in each round with each client in turn: directly, and through Docxy."""
    load_before = machine.load_average()
    names = list(dict.fromkeys(name for case in cases for name in case.clients))
    missing_clients = find_missing(names)
    present = [name for name in names if name not in missing_clients]
    memory_growth: list[float] = []
    with (
        _run_servers(folder) as (home, servers),
        run_pullers(present, home, servers.hub.ca_bundle) as pullers,
    ):
        _warm_up(servers, pullers)
        results = []
        for case in cases:
            growth = memory_growth if case is cases[0] else None
            results += _measure_case(servers, pullers, case, growth)
        first_byte = _measure_first_bytes(servers, max(case.rounds for case in cases))
    return PullFigures(
        load_before, results, first_byte, memory_growth, read_versions(present), missing_clients
    )


@contextmanager
def _run_servers(folder: Path) -> Iterator[tuple[Path, _Servers]]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="pulls-")))
        pids_before = proc.list_tree(os.getpid())
        hub = stack.enter_context(Hub(content=tuple))
        helper_pids = [pid for pid in proc.list_tree(os.getpid()) if pid not in pids_before]
        hub.limit = hub.user_limit = None
        cache = home / "cache"
        cached = stack.enter_context(
            docxy(workers=WORKERS, DOCXY_CACHE_DIR=str(cache), **hub.settings)
        )
        uncached = stack.enter_context(docxy(workers=WORKERS, **hub.settings))
        for server in (cached, uncached):
            server.await_workers(WORKERS)
        store = Store(cache)
        stack.callback(store.close)
        yield home, _Servers(hub, cached, uncached, store, helper_pids)


def _warm_up(servers: _Servers, pullers: Mapping[str, Puller]) -> None:
    """Pull another image once in each mode, so that servers are connected and stores exist."""
    repository = "library/first"
    layers = [layer({"/first": noise(MB // 2, "first")})]
    servers.push(repository, layers)
    for mode in (DIRECT, UNCACHED, COLD):
        for puller in pullers.values():
            remote_image = _locate_image(servers, mode, repository, layers)
            puller.fetch(remote_image)
            puller.empty(remote_image)


def _measure_case(
    servers: _Servers, pullers: Mapping[str, Puller], case: Case, memory_growth: list[float] | None
) -> list[CaseFigures]:
    layers = [
        layer({f"/layer-{number}": noise(size, f"{case.name} {number}")})
        for number, size in enumerate(case.layers)
    ]
    results = []
    for client in (client for client in case.clients if client in pullers):
        blobs = _list_fetched_blobs(client, "", layers)
        modes = {mode: ModeFigures() for mode in case.list_modes(client)}
        results.append(
            CaseFigures(case, client, len(blobs), sum(blob.size for blob in blobs), modes)
        )
    for number in range(case.rounds):
        for result in results:
            repository = _build_name(f"{case.name} {result.client} {number}")
            new_layers = [_mark(blob, repository) for blob in layers]
            servers.push(repository, new_layers)
            puller = pullers[result.client]
            for mode in result.modes:
                growth = memory_growth if mode == COLD else None
                _measure_pull(servers, puller, result, mode, repository, new_layers, growth)
            servers.delete_blobs(_list_fetched_blobs(result.client, repository, new_layers))
        logger.info("pulls, %s: round %s of %s", case.name, number + 1, case.rounds)
    return results


def _measure_pull(  # noqa: PLR0913, PLR0917 - each is a parameter of the measurement
    servers: _Servers,
    puller: Puller,
    result: CaseFigures,
    mode: str,
    repository: str,
    layers: Sequence[Blob],
    memory_growth: list[float] | None,
) -> None:
    if mode == OWN_WORK:
        servers.hub.heal()
    else:
        servers.slow_down(result.case)
    if mode == WARM:
        servers.wait_until_stored(_list_fetched_blobs(result.client, repository, layers))
    servers.hub.forget()
    remote_image = _locate_image(servers, mode, repository, layers)
    figures = result.modes[mode]
    with proc.watch_memory(servers.cached.workers, memory_growth):
        cpu_before, started = servers.read_cpu_seconds(), time.perf_counter()
        figures.seconds.append(puller.fetch(remote_image))
        cpu_used, passed = servers.read_cpu_seconds() - cpu_before, time.perf_counter() - started
    figures.upstream_cores.append(cpu_used / passed)
    figures.upstream_counts.append(servers.count_requests())
    puller.empty(remote_image)


def _measure_first_bytes(servers: _Servers, rounds: int) -> dict[str, list[float]]:
    """Fetch a new layer in each round, directly and then through the cache."""
    unmarked = layer({"/layer": noise(MB // 2, "first byte")})
    servers.hub.heal()
    servers.hub.fail(delay=LATENCY, times=None)
    measured: dict[str, list[float]] = {DIRECT: [], COLD: []}
    for number in range(rounds):
        repository = _build_name(f"first byte {number}")
        blob = _mark(unmarked, repository)
        servers.push(repository, [blob])
        for mode, seconds in measured.items():
            remote_image = _locate_image(servers, mode, repository, [blob])
            registry = Registry(remote_image.url, str(remote_image.ca or ""), repository)
            seconds.append(registry.time_first_byte(blob.digest))
        servers.wait_until_stored([blob])
        servers.delete_blobs([blob])
    logger.info("pulls, first byte: %s rounds", rounds)
    return measured


def _locate_image(
    servers: _Servers, mode: str, repository: str, layers: Sequence[Blob]
) -> RemoteImage:
    host, ca = servers.locate(mode)
    return RemoteImage(host, ca, repository, _TAG, layers[0].digest, layers[0].size)


def _build_name(text: str) -> str:
    """Return the name of a repository."""
    words = re.sub(r"\W+", "-", text.lower())
    return f"library/{words}"


def _build_image(repository: str, layers: Sequence[Blob]) -> Image:
    """Return an image whose config is in no other repository."""
    return image(layers, platform=PLATFORM, author=repository)


def _mark(blob: Blob, mark: str) -> Blob:
    """Return a layer with another digest and the same files."""
    member = io.BytesIO()
    with gzip.GzipFile(mark, "wb", fileobj=member, mtime=0):
        pass
    return replace(blob, data=blob.data + member.getvalue())


def _list_fetched_blobs(client: str, repository: str, layers: Sequence[Blob]) -> Sequence[Blob]:
    """Return the blobs that a client fetches: all of an image, or its first layer."""
    return layers[:1] if client == RANGES else _build_image(repository, layers).blobs
