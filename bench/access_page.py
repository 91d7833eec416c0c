"""The section of docs/performance.md about access control."""

from collections.abc import Iterator

from bench.access import GUARDED, OPEN, RULES, USERS
from bench.figures import Figure
from bench.targets import Target, format_reasons, format_table
from bench.variants import CACHED, FORWARDED, Comparison
from bench.variants_page import describe_method, format_rows

_MIN_RATIO = 0.9


def render(measured: Comparison) -> str:
    """Return the section, with an empty line after it."""
    targets = list(_iter_targets(measured))
    return "\n".join(
        [
            "## Access control\n",
            *format_table(targets),
            *format_reasons(targets),
            *format_rows(measured),
            *_describe_method(measured),
            "",
        ]
    )


def _iter_targets(measured: Comparison) -> Iterator[Target]:
    for kind in (FORWARDED, CACHED):
        guarded, unrestricted = measured.asked[kind, GUARDED], measured.asked[kind, OPEN]
        ratio = Figure.ratio(unrestricted.cpu, guarded.cpu)
        yield Target(
            f"Manifests a processor second, {kind}, relative to those without access control",
            f"at least {_MIN_RATIO}", ratio, 3,
            ratio.median >= _MIN_RATIO,
            "All of it takes some 60 microseconds, while a manifest from the cache takes 350 and a "
            "forwarded one 900: limits some 25, users and rules 12, the inspection of the image "
            "10, and the headers for other caches 8. No part stands out: it is some 150 Python "
            "calls that the others do not make.",
        )  # fmt: skip


def _describe_method(measured: Comparison) -> Iterator[str]:
    yield from describe_method(measured)
    yield (
        f"All of it: both lists of networks, {USERS} users with a token, "
        f"{RULES.count('[[rules]]')} rules, the last but one of which allows the request if "
        "the image has the platform and the age, and each of the four limits, counted in memory.\n"
        "The others have none of it; all are `managed`, and all get the token.\n"
        f"Load of the machine before: {measured.load_before:.2f}."
    )
