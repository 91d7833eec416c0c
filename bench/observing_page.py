"""The section of docs/performance.md about being seen."""

from collections.abc import Iterator

from bench.figures import Figure
from bench.observing import FORWARDED, KEPT, SEEN, UNSEEN, Observing
from bench.targets import Target, reasons, table
from bench.wrk import CONNECTIONS

_LEAST = 0.95


def render(measured: Observing) -> str:
    """Write the section, with an empty line after it."""
    targets = list(_targets(measured))
    return "\n".join(
        [
            "## Being seen\n",
            *table(targets),
            *reasons(targets),
            *_table(measured),
            *_method(measured),
            "",
        ]
    )


def _targets(measured: Observing) -> Iterator[Target]:
    for what in (FORWARDED, KEPT):
        seen, unseen = measured.asked[what, SEEN], measured.asked[what, UNSEEN]
        # What both take of the processor is told apart better than what comes a second, since
        # all else on the machine is in that.
        ratio = Figure.ratio(unseen.cpu, seen.cpu)
        yield Target(
            f"Manifests a processor second, {what}, in parts of those without counts and log",
            f"at least {_LEAST}", ratio, 3,
            ratio.median >= _LEAST,
            "A request's line and counts take some 15 microseconds where 140 are told at once, and "
            "up to 44 where 8 are.",
        )  # fmt: skip


def _table(measured: Observing) -> Iterator[str]:
    yield "| manifests by digest | requests a second | p99, ms | processor ms a request |"
    yield "| --- | --- | --- | --- |"
    for (what, how), asked in measured.asked.items():
        rate = Figure.of(load.requests_per_second for load in asked.loads).text(0)
        p99 = Figure.of(load.p99_ms for load in asked.loads).text(1)
        yield f"| {what}, {how} | {rate} | {p99} | {Figure.of(asked.cpu).text(3)} |"
    yield ""


def _method(measured: Observing) -> Iterator[str]:
    yield (
        f"Each is started {measured.processes} times, since processes with the same settings "
        "differ, too; the median is over all of them.\n"
        f"{measured.rounds} rounds of {measured.seconds} s with each start; in each, all four are "
        f"measured in turn, with wrk on {CONNECTIONS} kept connections, each with one worker.\n"
        "Counted and logged is as Docxy comes, with the log in a file; the others have "
        "`DOCXY_METRICS=false` and `DOCXY_LOG_LEVEL=warning`, and gather all the same what a line "
        "would tell.\n"
        f"Load of the machine before: {measured.load_before:.2f}."
    )
