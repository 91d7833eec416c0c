"""The section of docs/performance.md about access control."""

from collections.abc import Iterator

from bench.access import GUARDED, OPEN, RULES, USERS
from bench.figures import Figure
from bench.targets import Target, reasons, table
from bench.variants import FORWARDED, KEPT, Compared
from bench.variants_page import method, rows

_LEAST = 0.9


def render(measured: Compared) -> str:
    """Return the section, with an empty line after it."""
    targets = list(_targets(measured))
    return "\n".join(
        [
            "## Access control\n",
            *table(targets),
            *reasons(targets),
            *rows(measured),
            *_method(measured),
            "",
        ]
    )


def _targets(measured: Compared) -> Iterator[Target]:
    for what in (FORWARDED, KEPT):
        guarded, free = measured.asked[what, GUARDED], measured.asked[what, OPEN]
        ratio = Figure.ratio(free.cpu, guarded.cpu)
        yield Target(
            f"Manifests a processor second, {what}, relative to those without access control",
            f"at least {_LEAST}", ratio, 3,
            ratio.median >= _LEAST,
            "All of it takes some 60 microseconds, while a manifest from the cache takes 350 and a "
            "forwarded one 900: limits some 25, users and rules 12, the inspection of the image "
            "10, and the headers for other caches 8. No part stands out: it is some 150 Python "
            "calls that the others do not make.",
        )  # fmt: skip


def _method(measured: Compared) -> Iterator[str]:
    yield from method(measured)
    yield (
        f"All of it: both lists of networks, {USERS} users with a token, "
        f"{RULES.count('[[rules]]')} rules, the last but one of which allows the request if "
        "the image has the platform and the age, and each of the four limits, counted in memory.\n"
        "The others have none of it; all are `managed`, and all get the token.\n"
        f"Load of the machine before: {measured.load_before:.2f}."
    )
