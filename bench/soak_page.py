"""The section of docs/performance.md about crowds of downloads."""

from collections.abc import Iterator

from bench.crowd import LEAVING_RATE, LONGEST_STAY, SLOW_RATE
from bench.soak import Held, Soak

MAX_KIB_EACH = 400
"""The same limit as for slow downloads alone."""
MAX_GROWTH = 1.05


def render(soak: Soak) -> str:
    """Return the section, with an empty line after it."""
    return "\n".join(
        [
            "## Soak\n",
            *_describe_soak(soak),
            "",
            "| what | target | measured | |",
            "| --- | --- | --- | --- |",
            *_iter_targets(soak),
            "",
            *_format_table(soak),
            "",
            f"The load average before it was {soak.load_before:.1f}.",
            "The C library reuses the memory of one crowd for the next.",
            "Greenlets are counted by a signal that only this benchmark's configuration knows.",
            "",
        ]
    )


def _describe_soak(soak: Soak) -> Iterator[str]:
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
    started = sum(crowd.begun.total() for crowd in soak.crowds)
    cut = sum(crowd.cut for crowd in soak.crowds)
    yield f"There were {started:,} downloads; {cut:,} read nothing and were cut, and no others."


def _iter_targets(soak: Soak) -> Iterator[str]:
    median, peak = soak.kib_each, soak.kib_each_peak
    yield _format_row(
        f"Memory of each of {soak.clients} downloads, in KiB (median over the second half)",
        f"at most {MAX_KIB_EACH}",
        f"{median:.0f} (at most {peak:.0f})",
        met=median <= MAX_KIB_EACH,
    )
    yield _format_row(
        "Memory after the last crowd, relative to the crowd before it",
        f"at most {MAX_GROWTH}",
        f"{soak.growth:.3f}",
        met=soak.growth <= MAX_GROWTH,
    )
    yield _format_row(
        "Connections, files and greenlets left afterwards",
        "0",
        str(soak.left_behind),
        met=soak.left_behind == 0,
    )


def _format_row(title: str, target: str, figure: str, *, met: bool) -> str:
    return f"| {title} | {target} | {figure} | {'met' if met else '**missed**'} |"


def _format_table(soak: Soak) -> Iterator[str]:
    titles, columns = (
        ["before"],
        [_build_column(soak.before, f"{soak.before.resident_kib / 1024:.0f}")],
    )
    for number, crowd in enumerate(soak.crowds, start=1):
        memory = f"{crowd.median_kib / 1024:.0f} (at most {crowd.peak_kib / 1024:.0f})"
        titles += [f"crowd {number}", "afterwards"]
        columns += [
            _build_column(crowd.midst, memory),
            _build_column(crowd.after, f"{crowd.after.resident_kib / 1024:.0f}"),
        ]
    yield f"| all workers together | {' | '.join(titles)} |"
    yield f"| --- |{' --- |' * len(titles)}"
    names = ("resident memory, MiB", "open files", "of these sockets", "greenlets")
    for name, *cells in zip(names, *columns, strict=True):
        yield f"| {name} | {' | '.join(cells)} |"


def _build_column(held: Held, memory: str) -> list[str]:
    return [memory, *(f"{count:,}" for count in (held.files, held.sockets, held.greenlets))]
