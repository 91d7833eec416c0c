"""The common parts of the sections of docs/performance.md that compare settings."""

from collections.abc import Iterator

from bench.figures import Figure
from bench.variants import Comparison
from bench.wrk import CONNECTIONS


def format_rows(measured: Comparison) -> Iterator[str]:
    """Yield the table of all variants, and an empty line."""
    yield "| manifests by digest | requests a second | p99, ms | processor ms a request |"
    yield "| --- | --- | --- | --- |"
    for (kind, settings_name), requests in measured.asked.items():
        rate = Figure.of(load.requests_per_second for load in requests.loads).text(0)
        p99 = Figure.of(load.p99_ms for load in requests.loads).text(1)
        yield f"| {kind}, {settings_name} | {rate} | {p99} | {Figure.of(requests.cpu).text(3)} |"
    yield ""


def describe_method(measured: Comparison) -> Iterator[str]:
    """Yield the description of the method."""
    yield (
        f"Each is started {measured.processes} times, since processes with the same settings "
        "differ, too; the median is over all of them.\n"
        f"{measured.rounds} rounds of {measured.seconds} s with each start; in each, all "
        f"{len(measured.asked)} are measured in turn, with wrk on {CONNECTIONS} persistent "
        "connections, each with one worker."
    )
