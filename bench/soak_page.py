"""The section of docs/performance.md about crowds of downloads."""

from collections.abc import Iterator

from bench.crowd import LEAVING_RATE, LONGEST_STAY, SLOW_RATE
from bench.soak import Held, Soak

MOST_KIB_EACH = 400
"""The same limit as for slow downloads alone."""
MOST_GROWTH = 1.05


def render(soak: Soak) -> str:
    """Return the section, with an empty line after it."""
    return "\n".join(
        [
            "## Soak\n",
            *_what(soak),
            "",
            "| what | target | measured | |",
            "| --- | --- | --- | --- |",
            *_targets(soak),
            "",
            *_table(soak),
            "",
            f"The load average before it was {soak.load_before:.1f}.",
            "The C library reuses the memory of one crowd for the next.",
            "Greenlets are counted by a signal that only this benchmark's configuration knows.",
            "",
        ]
    )


def _what(soak: Soak) -> Iterator[str]:
    yield (
        f"{soak.clients} downloads at once of a blob of {soak.size / 1024**2:,.0f} MiB, for "
        f"{soak.seconds:.0f} s, through {soak.workers} workers, over TLS from the upstream; "
        f"{len(soak.crowds)} such crowds, one after another."
    )
    yield (
        f"A third of the clients reads {SLOW_RATE // 1024} KiB/s, a third reads "
        f"{LEAVING_RATE // 1024} KiB/s and leaves after at most {LONGEST_STAY:.0f} s, "
        "a third reads nothing."
    )
    yield (
        "A client that leaves, or that is cut because it reads nothing "
        f"(`DOCXY_WRITE_TIMEOUT={soak.write_timeout}`), is replaced at once."
    )
    begun = sum(one.begun.total() for one in soak.crowds)
    cut = sum(one.cut for one in soak.crowds)
    yield f"There were {begun:,} downloads; {cut:,} read nothing and were cut, and no others."


def _targets(soak: Soak) -> Iterator[str]:
    each, peak = soak.kib_each, soak.kib_each_peak
    yield _row(
        f"Memory of each of {soak.clients} downloads, in KiB (median over the second half)",
        f"at most {MOST_KIB_EACH}",
        f"{each:.0f} (at most {peak:.0f})",
        met=each <= MOST_KIB_EACH,
    )
    yield _row(
        "Memory after the last crowd, relative to the crowd before it",
        f"at most {MOST_GROWTH}",
        f"{soak.growth:.3f}",
        met=soak.growth <= MOST_GROWTH,
    )
    yield _row(
        "Connections, files and greenlets left afterwards",
        "0",
        str(soak.left_behind),
        met=soak.left_behind == 0,
    )


def _row(what: str, wanted: str, reached: str, *, met: bool) -> str:
    return f"| {what} | {wanted} | {reached} | {'met' if met else '**missed**'} |"


def _table(soak: Soak) -> Iterator[str]:
    titles, columns = ["before"], [_column(soak.before, f"{soak.before.resident_kib / 1024:.0f}")]
    for number, one in enumerate(soak.crowds, start=1):
        memory = f"{one.median_kib / 1024:.0f} (at most {one.peak_kib / 1024:.0f})"
        titles += [f"crowd {number}", "afterwards"]
        columns += [
            _column(one.midst, memory),
            _column(one.after, f"{one.after.resident_kib / 1024:.0f}"),
        ]
    yield f"| all workers together | {' | '.join(titles)} |"
    yield f"| --- |{' --- |' * len(titles)}"
    names = ("resident memory, MiB", "open files", "of these sockets", "greenlets")
    for name, *cells in zip(names, *columns, strict=True):
        yield f"| {name} | {' | '.join(cells)} |"


def _column(held: Held, memory: str) -> list[str]:
    return [memory, *(f"{count:,}" for count in (held.files, held.sockets, held.greenlets))]
