"""Renders docs/performance.md from the measurements."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench import access_page, cache_page, machine, observing_page, pulls_page, soak_page
from bench.cached import CacheFigures
from bench.content import Content
from bench.figures import Figure
from bench.measure import CONCURRENCY, SLOW_RATE, Downloads, Memory, Plan, Requests
from bench.nginx import PEER_BUFFER, UPSTREAM_WORKERS
from bench.pull_cases import PullFigures
from bench.soak import Soak
from bench.targets import Target, format_reasons, format_table
from bench.variants import Comparison
from bench.wrk import CONNECTIONS


@dataclass(frozen=True, slots=True)
class Run:
    """All measurements of one run."""

    plan: Plan
    content: Content
    cipher: str
    load_before: float
    downloads: Mapping[str, Downloads]
    requests: Mapping[str, Requests]
    memory: Memory
    cached: CacheFigures
    observing: Comparison
    access: Comparison
    pulls: PullFigures
    soak: Soak


def render(run: Run, *, title: str) -> str:
    """Return the page."""
    targets = list(_iter_targets(run))
    parts = [
        f"# {title}\n",
        "`make bench` wrote this page; do not edit it.",
        "All figures come from one run on one machine, so compare them with each other only.",
        "Every value is the median of all rounds, followed by the lowest and the highest.\n",
        "## Targets\n",
        *format_table(targets),
        *format_reasons(targets),
        "## Downloads\n",
        *_format_downloads(run),
        "## Manifests\n",
        *_format_requests(run),
        "## Memory\n",
        *_format_memory(run),
        cache_page.render(run.cached),
        observing_page.render(run.observing),
        access_page.render(run.access),
        pulls_page.render(run.pulls, run.cached.misses),
        soak_page.render(run.soak),
        "## Method\n",
        *_describe_method(run),
        "## Machine\n",
        *machine.describe(),
        f"The load average before the run was {run.load_before:.1f}.",
        "It should be near 0; otherwise the spread is wide and the figures are too low.",
    ]
    return "\n".join(parts).rstrip() + "\n"


def _iter_targets(run: Run) -> Iterator[Target]:
    ours, theirs = run.downloads["Docxy"], run.downloads["nginx"]
    speed = Figure.ratio(ours.speed, theirs.speed)
    yield Target(
        "Speed of one download, relative to nginx", "at least 0.9", speed, 2,
        speed.median >= 0.9,
        "One core serves one download, and Docxy needs more processor time for each GiB than "
        "nginx: this time is the limit if the line is faster.",
    )  # fmt: skip
    cpu = Figure.ratio(ours.cpu, theirs.cpu)
    yield Target(
        "Processor time of one download, relative to nginx", "at most 1.5", cpu, 2,
        cpu.median <= 1.5,
        "A TLS record holds 16 KiB, so each GiB passes 65,536 times through Python's ssl module. "
        "In a profile that was about half of the difference; the other half was time in the kernel "
        "and in decryption, for the same calls, and its cause was not found.",
    )  # fmt: skip
    memory = run.memory
    per_stream = Figure(memory.per_stream, memory.per_stream, memory.per_stream_peak)
    yield Target(
        f"Memory of a slow download, {run.plan.slow_clients} at once, in KiB", "at most 400",
        per_stream, 0, per_stream.median <= 400,
        "Each stream holds the piece that its client has not taken yet, up to 256 KiB, and the "
        "state of two connections.",
    )  # fmt: skip
    rate = Figure.of(load.requests_per_second for load in run.requests["Docxy"].loads)
    yield Target(
        "Manifest requests a second, one worker", "at least 1,000", rate, 0,
        rate.median >= 1000,
        "Most of the time is spent in gunicorn, Flask and requests: the table below shows what "
        "they reach without Docxy.",
    )  # fmt: skip


def _format_downloads(run: Run) -> Iterator[str]:
    measured = run.downloads.values()
    yield f"| | {' | '.join(run.downloads)} |"
    yield f"| --- |{' --- |' * len(measured)}"
    for title, digits, values in (
        ("one download, MiB/s", 0, [downloads.speed for downloads in measured]),
        ("processor seconds a GiB", 2, [downloads.cpu for downloads in measured]),
        ("the upstream's, a GiB", 2, [downloads.upstream_cpu for downloads in measured]),
        (
            "first byte, ms",
            1,
            [[1000 * seconds for seconds in downloads.first_byte] for downloads in measured],
        ),
        (
            f"{CONCURRENCY} at once, MiB/s together",
            0,
            [downloads.speed_at_once for downloads in measured],
        ),
        (
            f"{CONCURRENCY} at once, processor seconds a GiB",
            2,
            [downloads.cpu_at_once for downloads in measured],
        ),
    ):
        cells = " | ".join(Figure.of(value).text(digits) for value in values)
        yield f"| {title} | {cells} |"
    ours, theirs = run.downloads["Docxy"], run.downloads["nginx"]
    speed = Figure.ratio(ours.speed_at_once, theirs.speed_at_once)
    cpu = Figure.ratio(ours.cpu_at_once, theirs.cpu_at_once)
    yield ""
    yield (
        f"{CONCURRENCY} at once, Docxy relative to nginx: speed {speed.text(2)}, "
        f"processor time {cpu.text(2)}.\n"
    )


def _format_requests(run: Run) -> Iterator[str]:
    yield "| | requests a second | p50, ms | p99, ms | processor ms a request |"
    yield "| --- | --- | --- | --- | --- |"
    for name, measured in run.requests.items():
        rate = Figure.of(load.requests_per_second for load in measured.loads).text(0)
        p50 = Figure.of(load.p50_ms for load in measured.loads).text(1)
        p99 = Figure.of(load.p99_ms for load in measured.loads).text(1)
        yield f"| {name} | {rate} | {p50} | {p99} | {Figure.of(measured.cpu).text(3)} |"
    yield ""


def _format_memory(run: Run) -> Iterator[str]:
    memory = run.memory
    yield f"One worker at rest, warmed up: {memory.baseline / 1024:.0f} MiB."
    yield (
        f"{run.plan.slow_clients} downloads at once, each taking {SLOW_RATE // 1024} KiB/s: "
        f"{memory.per_stream:.0f} KiB more for each (median over the second half; "
        f"at most {memory.per_stream_peak:.0f})."
    )
    yield "This excludes the kernel's socket buffers, which belong to no process.\n"


def _describe_method(run: Run) -> Iterator[str]:
    plan, content = run.plan, run.content
    yield f"{plan.rounds} rounds; in each, every server is measured in turn, over loopback."
    yield (
        f"Upstream: nginx with TLS 1.3 ({run.cipher}), no kernel TLS, {UPSTREAM_WORKERS} workers, "
        "so that one is free for other connections."
    )
    yield (
        "One of its workers serves a download: if it uses more processor time than the proxy, the "
        "upstream limits the speed."
    )
    yield (
        f"It serves a blob of {content.blob_size / 1024**2:,.0f} MiB (a sparse file in the page "
        "cache, read and encrypted like any other) and a manifest of "
        f"{content.manifest_size:,} bytes."
    )
    yield (
        "nginx: one worker, `proxy_pass` to that upstream with a verified certificate, persistent "
        "connections, resumed TLS sessions, no access log, `proxy_buffering off` with a buffer of "
        f"{PEER_BUFFER}."
    )
    yield "Docxy: one worker with the default settings, whose log goes to a file."
    yield (
        "Flask and requests: the floor, which relays a request without any check or log (bodies by "
        "`raw.stream` of 256 KiB), on the same gunicorn worker."
    )
    yield (
        "Downloads: the client lets the kernel drop the bytes (`MSG_TRUNC`), which leaves "
        "the cores to the servers; another download precedes each, so connections are warm."
    )
    yield (
        f"Manifests: wrk, one thread, {CONNECTIONS} persistent connections, {plan.load_seconds} s "
        "a round, with a Bearer token of 2 KiB."
    )
    yield "Processor time: user and system time of all processes of the proxy.\n"
