"""`flask cache statistics` and `flask cache verify`: show what the cache stores, and check it."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click
from flask.cli import with_appcontext

from app.cache.blobs import blobs
from app.cache.source import Cache
from app.cli import context
from app.cli.units import format_binary_size, format_count
from app.store.blobs import RegistryUsage
from app.store.storage import Statistics, VerifyResult


@click.command()
@with_appcontext
def verify() -> None:
    """Read all cached content and compare it with its digest.

    Damaged content is removed, and fetched again when requested.
    The exit status is 1 if any was damaged.
    """
    number, read = 0, 0
    faulty: list[VerifyResult] = []
    with context.open_cache() as cache:
        shares = cache.storage.blobs.measure_usage().values()
        whole = sum(share.bytes for share in shares)
        with click.progressbar(length=whole, label="Verifying", file=sys.stderr) as bar:
            for checked in cache.storage.admin.verify():
                number, read = number + 1, read + checked.size
                if checked.fault:
                    faulty.append(checked)
                bar.update(checked.size)
    for one in faulty:
        click.echo(f"{one.registry} {one.digest}: {one.fault}")
    click.echo(
        f"{format_count(number, 'file', 'files')}, {format_binary_size(read)}: "
        f"{len(faulty)} damaged."
    )
    if faulty:
        raise SystemExit(1)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, sizes in bytes.")
@with_appcontext
def statistics(*, as_json: bool) -> None:
    """Show the size of the cache, by registry."""
    with context.open_cache() as cache:
        found = cache.storage.admin.statistics()
        spools = blobs.measure_unfinished(cache.storage.spools)
        free = cache.storage.blobs.count_free_bytes()
    if as_json:
        click.echo(json.dumps(_build_document(found, cache, free, spools)))
    else:
        click.echo("\n".join([*_format_table(found), "", *_format_limits(cache, free, spools)]))


def _build_document(
    found: Statistics, cache: Cache, free: int, spools: tuple[int, int]
) -> dict[str, Any]:
    shares = {
        registry: {"entries": share.entries, "bytes": share.bytes}
        for registry, share in found.registries.items()
    }
    return {
        "registries": shares,
        "index_rows": found.table_rows,
        "max_size": cache.storage.blobs.limits.max_size,
        "min_free": cache.storage.blobs.limits.min_free,
        "free": free,
        "unfinished": {"entries": spools[0], "bytes": spools[1]},
    }


def _format_table(found: Statistics) -> Iterator[str]:
    whole = RegistryUsage(
        sum(share.entries for share in found.registries.values()),
        sum(share.bytes for share in found.registries.values()),
    )
    rows = [*found.registries.items(), ("all", whole)]
    width = max(len("registry"), *(len(registry) for registry, _ in rows))
    yield f"{'registry':{width}}  {'entries':>9}  {'size':>10}"
    for registry, share in rows:
        yield f"{registry:{width}}  {share.entries:>9}  {format_binary_size(share.bytes):>10}"


def _format_limits(cache: Cache, free: int, spools: tuple[int, int]) -> Iterator[str]:
    most, (number, held) = cache.storage.blobs.limits.max_size, spools
    if number:
        blobs = format_count(number, "blob", "blobs")
        yield f"running or interrupted downloads: {blobs}, {format_binary_size(held)}"
    yield f"limit: {'none' if most is None else format_binary_size(most)}"
    min_free = format_binary_size(cache.storage.blobs.limits.min_free)
    yield f"free on the disk: {format_binary_size(free)}, of which {min_free} must stay free"
