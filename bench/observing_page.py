"""The section of docs/performance.md about metrics and logs."""

from collections.abc import Iterator

from bench.figures import Figure
from bench.observing import SEEN, UNSEEN
from bench.targets import Target, format_reasons, format_table
from bench.variants import CACHED, FORWARDED, Comparison
from bench.variants_page import describe_method, format_rows

_MIN_RATIO = 0.95


def render(measured: Comparison) -> str:
    """Return the section, with an empty line after it."""
    targets = list(_iter_targets(measured))
    return "\n".join(
        [
            "## Metrics and log lines\n",
            *format_table(targets),
            *format_reasons(targets),
            *format_rows(measured),
            *_describe_method(measured),
            "",
        ]
    )


def _iter_targets(measured: Comparison) -> Iterator[Target]:
    for kind in (FORWARDED, CACHED):
        seen, unseen = measured.asked[kind, SEEN], measured.asked[kind, UNSEEN]
        # Processor time separates the two better than the rate, which everything else on the
        # machine influences.
        ratio = Figure.ratio(unseen.cpu, seen.cpu)
        yield Target(
            f"Manifests a processor second, {kind}, relative to those without metrics and log",
            f"at least {_MIN_RATIO}", ratio, 3,
            ratio.median >= _MIN_RATIO,
            "The log line and the counts of a request take some 15 microseconds in batches of 140, "
            "and up to 44 in batches of 8.",
        )  # fmt: skip


def _describe_method(measured: Comparison) -> Iterator[str]:
    yield from describe_method(measured)
    yield (
        "Counted and logged is the default, with the log in a file; the others have "
        "`DOCXY_METRICS=false` and `DOCXY_LOG_LEVEL=warning`, and still collect the fields of the "
        "line.\n"
        f"Load of the machine before: {measured.load_before:.2f}."
    )
