"""docs/reliability.md, from what was found."""

import datetime as dt
import re
from collections.abc import Iterator, Mapping

from tests.chaos import hopeless, machine, table
from tests.chaos.chaos import SETTINGS, WORKERS, Run
from tests.chaos.crowd import AT_ONCE, Tally, lost
from tests.chaos.singles import ROWS
from tests.chaos.table import Cells, Measured

_LONGEST = 300
_MOST = 30
_OF_TERMINALS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
"""Colours and cursors: ctr draws bars."""


def render(run: Run, measured: Measured, *, title: str = "Reliability") -> str:
    """Write the page."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    parts = [
        f"# {title}\n",
        f"`make chaos` wrote this page on {today}; do not edit it.",
        "A registry of the project's own (`tests/hub`) fails at random, in every way that we know,",
        "while many clients pull from it through Docxy.",
        "A fault counts only if the hub has seen it happen.\n",
        "## In short\n",
        *_short(run, measured),
        "",
        "## Real clients, one fault for one pull\n",
        *_tables(measured),
        "## Recoverable faults\n",
        *_mended(run),
        "## Unrecoverable faults\n",
        *_hopeless(run),
        "## What is left to the client\n",
        *_limited(run),
        *_failures(run, measured),
        "## Method\n",
        *_method(run),
        "## Made with\n",
        *machine.facts(),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _short(run: Run, measured: Measured) -> Iterator[str]:
    downloads = sum(tally.tried for kind, tally in run.mended.items() if _of_blob(kind))
    whole = sum(tally.survived for kind, tally in run.mended.items() if _of_blob(kind))
    pulls = sum(tally.tried for tally in run.pulls.values())
    pulled = sum(tally.survived for tally in run.pulls.values())
    hopeless_ones = [*run.cut.values(), *run.wrong.values()]
    unmended = sum(tally.tried for tally in hopeless_ones)
    honest = sum(tally.survived for tally in hopeless_ones)
    yield "| | tried | as expected | lost |"
    yield "| --- | --- | --- | --- |"
    yield _row("blob downloads under recoverable faults: complete, byte for byte", downloads,
               whole)  # fmt: skip
    yield _row("pulls of real clients at the same time", pulls, pulled)
    yield _row("responses under unrecoverable faults: none looks complete", unmended, honest)
    for what, cells in (("directly", measured.directly), ("through Docxy", measured.through)):
        tried = {key: cell for key, cell in cells.items() if key[0] not in _corrupting()}
        good = sum(cell == "ok" for cell in tried.values())
        yield _row(f"pulls of real clients that meet one fault each, {what}", len(tried), good)


def _row(what: str, tried: int, good: int) -> str:
    return f"| {what} | {tried:,} | {good:,} | {tried - good:,} |"


def _of_blob(kind: str) -> bool:
    return not kind.startswith(("a token: ", "a manifest: ", "HEAD of a blob: "))


def _corrupting() -> set[str]:
    return {row.name for row in ROWS if row.corrupts}


def _tables(measured: Measured) -> Iterator[str]:
    yield "Without Docxy, straight from the hub:\n"
    yield from _table(measured.directly)
    yield (
        "Through Docxy; only corrupted layers are lost, which Docxy passes on unchanged and every "
        "client notices:\n"
        if not measured.unexpected()
        else "Through Docxy; it passes corrupted layers on unchanged, and every client notices:\n"
    )
    yield from _table(measured.through)
    yield (
        "With `DOCXY_VERIFY_BLOBS=true`, Docxy cuts the connection before the last piece, so that "
        "a client that requests the rest, or the whole blob again, can still succeed:\n"
    )
    yield from _table(measured.verifying)


def _table(cells: Cells) -> Iterator[str]:
    names = list(dict.fromkeys(name for _, name in cells))
    yield f"| fault | {' | '.join(map(_titled, names))} |"
    yield f"| --- |{' --- |' * len(names)}"
    for row in dict.fromkeys(row for row, _ in cells):
        marks = [cells[row, name] for name in names]
        written = (mark if mark == "ok" else f"**{mark}**" for mark in marks)
        yield f"| {row} | {' | '.join(written)} |"
    yield ""


def _titled(name: str) -> str:
    return {"docker-containerd": "docker, containerd store"}.get(name, name)


def _tallies(tallies: Mapping[str, Tally], good: str) -> Iterator[str]:
    yield f"| fault | tried | requests that met it | {good} | lost |"
    yield "| --- | --- | --- | --- | --- |"
    for kind, tally in sorted(tallies.items()):
        failed = f"**{len(tally.lost)}**" if tally.lost else "0"
        yield f"| {kind} | {tally.tried} | {tally.met} | {tally.survived} | {failed} |"
    yield ""


def _mended(run: Run) -> Iterator[str]:
    yield (
        f"{AT_ONCE} raw HTTP clients at once, which recover nothing themselves, ask {WORKERS} "
        "workers for blobs, ranges of them, their HEAD, manifests and tokens."
    )
    yield (
        "A request survived if its status, its length and every byte are right, at the first try.\n"
    )
    yield from _tallies(run.mended, "survived")
    yield (
        "At the same time real clients pulled images whose blobs and manifests each met one of "
        "these faults:\n"
    )
    yield from _tallies(run.pulls, "pulled")


def _hopeless(run: Run) -> Iterator[str]:
    yield (
        "A response counts as lost here if it looks complete: its Content-Length was reached, its "
        "chunks ended or, for the quarter of requests that used HTTP/1.0, the connection was "
        "closed without a reset.\n"
    )
    yield from _tallies(run.cut, "did not look complete")
    yield "With `DOCXY_VERIFY_BLOBS=true`:\n"
    yield from _tallies(run.wrong, "did not look complete")


def _limited(run: Run) -> Iterator[str]:
    tally = run.limited
    yield (
        f"Docxy passes a 429 on, with its `Retry-After`: for {tally.survived} of {tally.tried} "
        "such blobs the client received the 429, and later the whole blob.\n"
    )


def _failures(run: Run, measured: Measured) -> Iterator[str]:
    failures = [*measured.unexpected(), *run.failures()]
    if not failures:
        return
    yield "## What went wrong\n"
    for line in failures[:_MOST]:
        yield f"- {' '.join(_OF_TERMINALS.sub(' ', line).split())[:_LONGEST]}"
    if len(failures) > _MOST:
        yield f"- and {len(failures) - _MOST} more"
    yield ""


def _method(run: Run) -> Iterator[str]:
    plan = run.plan
    sizes = "1 byte to 4 MiB, equally many between each power of two and the next"
    yield (
        f"The seed was {run.seed}: `make chaos SEED={run.seed}` repeats the requests and "
        f"faults. The run took {run.seconds:.0f} s, and the tables some minutes more."
    )
    yield f"There were {plan.blobs} blobs of {sizes}; one in five downloads is of a range."
    yield (
        f"Docxy ran with {WORKERS} workers and {_written(SETTINGS)}, so that a stall does not "
        f"take half a minute; under unrecoverable faults with {_written(hopeless.SETTINGS)}; for "
        f"the tables with {_written(table.SETTINGS)}; otherwise with its defaults."
    )
    yield (
        f"In {plan.expiring} of the downloads, URL and token really expired, by the hub's clock; "
        "in the others, the hub answered as if they had."
    )
    yield (
        "For the tables, each client pulled an image that it did not have, by name, over plain "
        "HTTP from Docxy and over TLS from the hub, and was then asked which digests it had."
    )
    yield "No client could reach any other registry.\n"


def _written(settings: Mapping[str, str]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in settings.items())


def complaints(run: Run, measured: Measured) -> list[str]:
    """List all that should not be, for whoever ran it."""
    return [*measured.unexpected(), *run.failures(), *lost([run.limited])]
