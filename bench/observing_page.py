"""The section of docs/performance.md about metrics and logs."""

from collections.abc import Iterator

from bench.figures import Figure
from bench.observing import SEEN, UNSEEN
from bench.targets import Target, reasons, table
from bench.variants import FORWARDED, KEPT, Compared
from bench.variants_page import method, rows

_LEAST = 0.95


def render(measured: Compared) -> str:
    """Return the section, with an empty line after it."""
    targets = list(_targets(measured))
    return "\n".join(
        [
            "## Metrics and log lines\n",
            *table(targets),
            *reasons(targets),
            *rows(measured),
            *_method(measured),
            "",
        ]
    )


def _targets(measured: Compared) -> Iterator[Target]:
    for what in (FORWARDED, KEPT):
        seen, unseen = measured.asked[what, SEEN], measured.asked[what, UNSEEN]
        # Processor time separates the two better than the rate, which everything else on the
        # machine influences.
        ratio = Figure.ratio(unseen.cpu, seen.cpu)
        yield Target(
            f"Manifests a processor second, {what}, relative to those without metrics and log",
            f"at least {_LEAST}", ratio, 3,
            ratio.median >= _LEAST,
            "The log line and the counts of a request take some 15 microseconds in batches of 140, "
            "and up to 44 in batches of 8.",
        )  # fmt: skip


def _method(measured: Compared) -> Iterator[str]:
    yield from method(measured)
    yield (
        "Counted and logged is the default, with the log in a file; the others have "
        "`DOCXY_METRICS=false` and `DOCXY_LOG_LEVEL=warning`, and still collect the fields of the "
        "line.\n"
        f"Load of the machine before: {measured.load_before:.2f}."
    )
