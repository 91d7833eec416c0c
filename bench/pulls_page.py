"""The section of docs/performance.md about first pulls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from bench import cached
from bench.cached import DownloadFigures
from bench.figures import Figure
from bench.pull_cases import (
    COLD,
    DIRECT,
    FIVE_LAYERS,
    FULL_LINE,
    LATENCY,
    MB,
    ONE_LAYER,
    OWN_WORK,
    PARALLEL,
    SEVEN_LAYERS,
    SIXTEEN_LAYERS,
    UNCACHED,
    WARM,
    WORKERS,
    Case,
    CaseFigures,
    PullFigures,
    UpstreamCounts,
)
from bench.puller import CRANE, RANGES, SKOPEO, UNPACKING
from bench.ranges import CONNECTIONS
from bench.targets import Target, format_reasons, format_table

_LEAST_SECONDS: Final = 0.001
"""The least that remains of a pull after the client's own work is subtracted."""

_COPYING: Final = frozenset({SKOPEO, CRANE})
"""Clients that keep what they pull as it is."""

_RAMP: Final = (
    "Docxy begins with one connection and doubles their number for as long as that helps, which "
    "takes the first second; the client's own work comes on top."
)
_ROUND_TRIPS: Final = (
    "The token, the tag and the manifests are requested when the client asks, one after the other, "
    "since each manifest may count as a pull; only the blobs begin before. The client's own work "
    "comes on top."
)
_REASONS: Final = {
    ONE_LAYER: _RAMP,
    FIVE_LAYERS: _RAMP,
    SIXTEEN_LAYERS: _ROUND_TRIPS,
    SEVEN_LAYERS: _ROUND_TRIPS,
    FULL_LINE: (
        "Connections that bring nothing end again, and the last byte waits until the digest of the "
        "layer is verified."
    ),
    PARALLEL: (
        "The ranges reach two workers, each of which opens connections of its own, and each byte "
        "is also hashed, written and read again."
    ),
}


def render(measured: PullFigures, misses: Mapping[str, DownloadFigures]) -> str:
    """Return the section, with an empty line after it."""
    targets = list(_iter_targets(measured, misses))
    return "\n".join(
        [
            "## First pulls\n",
            *format_table(targets),
            *format_reasons(targets),
            *_format_times(measured),
            *_format_requests(measured),
            *_format_others(measured, misses),
            *_describe_method(measured),
            "",
        ]
    )


def _iter_targets(measured: PullFigures, misses: Mapping[str, DownloadFigures]) -> Iterator[Target]:
    yield from _iter_pull_targets(measured)
    delay = _compute_delay(measured)
    yield Target(
        "First byte of a layer, cold, in ms after a direct one", "at most 20", delay, 1,
        delay.median <= 20,
        "Docxy asks the registry and then the CDN, as the client would, and its own work comes on "
        "top.",
    )  # fmt: skip
    yield from _iter_upstream_targets(measured)
    speed = Figure.ratio(misses[cached.CACHED].speed, misses[cached.PEER].speed)
    yield Target(
        f"Speed of a miss of 1 GiB, one worker, relative to {cached.PEER}", "at least 1", speed, 2,
        speed.median >= 1,
        "Docxy needs more processor time for each GiB, as the section about the cache explains.",
    )  # fmt: skip
    growth = Figure.of(measured.memory_growth)
    yield Target(
        f"Memory of a cold pull of {ONE_LAYER}, in MiB", "at most 16", growth, 1,
        # The C library keeps the memory of the first pull for the later ones.
        growth.high <= 16,
        "Its cause was not found.",
    )  # fmt: skip


def _iter_pull_targets(measured: PullFigures) -> Iterator[Target]:
    yield from _iter_worst(measured, ONE_LAYER, 0.2, _compute_cold_ratio)
    yield from _iter_worst(measured, FIVE_LAYERS, 0.35, _compute_cold_ratio)
    yield from _iter_worst(measured, SIXTEEN_LAYERS, 0.5, _compute_cold_ratio, _COPYING)
    yield from _iter_worst(
        measured, SIXTEEN_LAYERS, 0.5, _compute_ratio_without_own_work, UNPACKING,
        what="cold, relative to a direct one, both without the client's own work",
    )  # fmt: skip
    yield from _iter_worst(measured, SEVEN_LAYERS, 0.6, _compute_cold_ratio)
    yield from _iter_worst(measured, FULL_LINE, 1.05, _compute_cold_ratio)
    yield from _iter_worst(
        measured, PARALLEL, 1.05, lambda result: _compute_ratio(result, COLD, UNCACHED),
        what="cold, relative to Docxy without a cache",
    )  # fmt: skip
    yield from _iter_worst(
        measured, SIXTEEN_LAYERS, 0.15, lambda result: _compute_ratio(result, WARM, DIRECT),
        _COPYING, what="warm, relative to a direct one",
        reason="Docxy asks the registry whether the tag still means the same manifest, and the "
        "client itself takes time.",
    )  # fmt: skip


def _iter_worst(  # noqa: PLR0913 - the differences between targets
    measured: PullFigures,
    case_name: str,
    most: float,
    compute: Callable[[CaseFigures], Figure],
    clients: frozenset[str] | None = None,
    *,
    what: str = "cold, relative to a direct one",
    reason: str = "",
) -> Iterator[Target]:
    """Yield the target for the worst client of a case, or nothing if no client was measured."""
    figures = [
        (compute(result), result.client)
        for result in measured.get_results(case_name)
        if clients is None or result.client in clients
    ]
    if figures:
        worst, client = max(figures, key=lambda pair: pair[0].median)
        title = f"{case_name}: {what}" + ("" if client == RANGES else f" ({client})")
        yield Target(
            title, f"at most {most:g}", worst, 2, worst.median <= most,
            reason or _REASONS[case_name],
        )  # fmt: skip


def _iter_upstream_targets(measured: PullFigures) -> Iterator[Target]:
    """Yield the targets of which no pull may be an exception."""
    requests = Figure.of(
        counts.blobs / result.blob_count
        for result in measured.results
        for counts in _get_cold_counts(result)
    )
    yield Target(
        "Requests to the registry for each blob, cold", "at most 1", requests, 2,
        requests.high <= 1,
        "If a client asks another worker in the moment in which a blob is complete, the registry "
        "is asked once more.",
    )  # fmt: skip
    sent = Figure.of(
        counts.sent / result.size
        for result in measured.results
        for counts in _get_cold_counts(result)
    )
    yield Target(
        "Bytes from the CDN, cold, relative to the image", "at most 1.02", sent, 3,
        sent.high <= 1.02,
        "Two workers that ask at the same moment may both get the beginning of a blob.",
    )  # fmt: skip
    manifests = Figure.of(
        cold.manifests - direct.manifests
        for result in measured.results
        for cold, direct in zip(
            _get_cold_counts(result), result.modes[DIRECT].upstream_counts, strict=True
        )
    )
    yield Target(
        "GETs of manifests, cold, more than direct", "at most 0", manifests, 0,
        manifests.high <= 0,
        "Docxy requested a manifest that the client did not request.",
    )  # fmt: skip


def _compute_cold_ratio(result: CaseFigures) -> Figure:
    return _compute_ratio(result, COLD, DIRECT)


def _compute_ratio(result: CaseFigures, mode: str, other: str) -> Figure:
    return Figure.ratio(result.modes[mode].seconds, result.modes[other].seconds)


def _compute_ratio_without_own_work(result: CaseFigures) -> Figure:
    return Figure.ratio(_subtract_own_work(result, COLD), _subtract_own_work(result, DIRECT))


def _subtract_own_work(result: CaseFigures, mode: str) -> list[float]:
    # The median of all rounds, since a single one may take almost as long as the whole pull.
    own_work = Figure.of(result.modes[OWN_WORK].seconds).median
    return [max(_LEAST_SECONDS, seconds - own_work) for seconds in result.modes[mode].seconds]


def _get_cold_counts(result: CaseFigures) -> Sequence[UpstreamCounts]:
    return result.modes[COLD].upstream_counts


def _compute_delay(measured: PullFigures) -> Figure:
    rounds = zip(measured.first_byte[COLD], measured.first_byte[DIRECT], strict=True)
    return Figure.of(1000 * (cold - direct) for cold, direct in rounds)


def _format_times(measured: PullFigures) -> Iterator[str]:
    yield (
        "| a pull, relative to a direct one | client | direct, s | cold | without a cache | warm "
        "| own work, s | cold, both without own work |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for result in measured.results:
        own_work = without = ""
        if OWN_WORK in result.modes:
            own_work = Figure.of(result.modes[OWN_WORK].seconds).text(2)
            without = _compute_ratio_without_own_work(result).text(2)
        ratios = (
            _compute_ratio(result, mode, DIRECT).text(2) if mode in result.modes else ""
            for mode in (COLD, UNCACHED, WARM)
        )
        direct = Figure.of(result.modes[DIRECT].seconds).text(2)
        yield _format_row(result.case.name, result.client, direct, *ratios, own_work, without)
    yield ""


def _format_requests(measured: PullFigures) -> Iterator[str]:
    columns: dict[str, tuple[Callable[[CaseFigures, UpstreamCounts], float], int]] = {
        "pings and tokens": (lambda _, counts: counts.logins, 0),
        "manifests, GET": (lambda _, counts: counts.manifests, 0),
        "manifests, HEAD": (lambda _, counts: counts.heads, 0),
        "requests a blob": (lambda result, counts: counts.blobs / result.blob_count, 2),
        "requests to the CDN": (lambda _, counts: counts.downloads, 0),
        "bytes, relative to the image": (lambda result, counts: counts.sent / result.size, 3),
    }
    yield _format_row(
        "a cold pull (a direct one)", "client", *columns, "cores of the upstream",
        "all requests of a warm one",
    )  # fmt: skip
    yield f"|{' --- |' * (len(columns) + 4)}"
    for result in measured.results:
        cold, direct = result.modes[COLD], result.modes[DIRECT]
        cells = []
        for count, digits in columns.values():
            most_cold, most_direct = (
                max(count(result, counts) for counts in figures.upstream_counts)
                for figures in (cold, direct)
            )
            cells.append(f"{most_cold:.{digits}f} ({most_direct:.{digits}f})")
        cores = f"{max(cold.upstream_cores):.2f} ({max(direct.upstream_cores):.2f})"
        warm = ""
        if WARM in result.modes:
            warm = str(max(counts.total for counts in result.modes[WARM].upstream_counts))
        yield _format_row(result.case.name, result.client, *cells, cores, warm)
    yield ""


def _format_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _format_others(measured: PullFigures, misses: Mapping[str, DownloadFigures]) -> Iterator[str]:
    direct, cold = (
        Figure.of(1000 * seconds for seconds in measured.first_byte[mode]).text(0)
        for mode in (DIRECT, COLD)
    )
    yield f"First byte of a layer, in ms: direct {direct}, cold {cold}."
    speeds = ", ".join(f"{name} {Figure.of(one.speed).text(0)}" for name, one in misses.items())
    yield f"A miss of 1 GiB, in MiB/s: {speeds}.\n"


def _describe_method(measured: PullFigures) -> Iterator[str]:
    yield "| a pull | MB | CDN | rounds |"
    yield "| --- | --- | --- | --- |"
    for case in {result.case.name: result.case for result in measured.results}.values():
        size = sum(case.layers) / MB
        yield f"| {case.name} | {size:.1f} | {_describe_limit(case)} | {case.rounds} |"
    yield (
        "\nIn each round, each client pulls a new image in turn: directly, through Docxy with a "
        "cold cache, through Docxy without a cache, and with a warm cache.\n"
        "Ratios compare pulls of the same round.\n"
        "Where a connection is limited, the pull without a cache is left out; a client with "
        "parallel ranges has no warm pull.\n"
        "Layers are gzip of random bytes, and no two rounds or clients share a blob or a "
        "repository.\n"
        "A target is judged by the client with the highest median; the counts are the highest of "
        "all rounds."
    )
    yield (
        "The registry redirects blobs to signed URLs of a CDN, as Docker Hub does; every request "
        f"to it, to its token service and to its CDN takes {1000 * LATENCY:.0f} ms longer, "
        "but a handshake does not.\n"
        "It is written in Python and runs on the same machine; the second table says how "
        "many cores its process and docker-registry's used at most."
    )
    yield (
        f"Docxy: {WORKERS} workers, plain HTTP, cache on the disk; direct pulls use TLS.\n"
        "Cold: Docxy knows neither the repository nor anything in the image; it knows the "
        "response to ping, and has connections to the registry."
    )
    yield (
        "Clients have an empty store before each pull, and a dead outbound proxy, so that none "
        "can turn to Docker Hub.\n"
        "dockerd's classic store and podman use the vfs driver, containerd the native snapshotter; "
        "before a warm pull, dockerd may have kept the manifests of the cold one."
    )
    yield (
        "Own work: a direct pull without latency and limit, by the clients that unpack; its median "
        "is subtracted from both sides of the last column of the first table.\n"
        "Besides unpacking, it includes TLS and hashing."
    )
    versions = ", ".join(f"{name} {version}" for name, version in measured.client_versions.items())
    yield f"Versions: {versions}."
    if measured.missing_clients:
        yield f"Not measured, because missing here: {', '.join(measured.missing_clients)}."
    yield (
        f"Ranges: a plain client with {CONNECTIONS} ranges on as many connections, like "
        f"`aria2c -x{CONNECTIONS}`; containerd before 2.1 requests no ranges."
    )
    yield (
        "Memory: the most by which the resident memory of all workers grew during a cold pull of "
        "the first case.\n"
        "First byte: on the connection of the login, of a layer of 500 KB, without a limit.\n"
        "Miss: as in the section about the cache."
    )
    yield f"The load average before it was {measured.load_before:.1f}."


def _describe_limit(case: Case) -> str:
    if case.rate:
        return f"{case.rate / MB:.0f} MB/s a connection"
    if case.shared_rate:
        return f"{case.shared_rate / MB:.0f} MB/s together"
    return "no limit"
