"""`flask cache statistics` and `flask cache verify`: show what the cache stores, and check it."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click
from flask.cli import with_appcontext

from app.cache.blobs import unfinished as unfinished_blobs
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
    file_count, byte_count = 0, 0
    faulty: list[VerifyResult] = []
    with context.open_cache() as cache:
        usages = cache.storage.blobs.measure_usage().values()
        total = sum(usage.bytes for usage in usages)
        with click.progressbar(length=total, label="Verifying", file=sys.stderr) as bar:
            for result in cache.storage.admin.verify():
                file_count, byte_count = file_count + 1, byte_count + result.size
                if result.fault:
                    faulty.append(result)
                bar.update(result.size)
    for damaged in faulty:
        click.echo(f"{damaged.registry} {damaged.digest}: {damaged.fault}")
    click.echo(
        f"{format_count(file_count, 'file', 'files')}, {format_binary_size(byte_count)}: "
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
        figures = cache.storage.admin.statistics()
        unfinished = unfinished_blobs.measure_unfinished(cache.storage.unfinished)
        free = cache.storage.blobs.count_free_bytes()
    if as_json:
        click.echo(json.dumps(_build_document(figures, cache, free, unfinished)))
    else:
        click.echo(
            "\n".join([*_format_table(figures), "", *_format_limits(cache, free, unfinished)])
        )


def _build_document(
    figures: Statistics, cache: Cache, free: int, unfinished: tuple[int, int]
) -> dict[str, Any]:
    registries = {
        registry: {"entries": usage.entries, "bytes": usage.bytes}
        for registry, usage in figures.registries.items()
    }
    return {
        "registries": registries,
        "index_rows": figures.table_rows,
        "max_size": cache.storage.blobs.limits.max_size,
        "min_free": cache.storage.blobs.limits.min_free,
        "free": free,
        "unfinished": {"entries": unfinished[0], "bytes": unfinished[1]},
    }


def _format_table(figures: Statistics) -> Iterator[str]:
    total = RegistryUsage(
        sum(usage.entries for usage in figures.registries.values()),
        sum(usage.bytes for usage in figures.registries.values()),
    )
    rows = [*figures.registries.items(), ("all", total)]
    width = max(len("registry"), *(len(registry) for registry, _ in rows))
    yield f"{'registry':{width}}  {'entries':>9}  {'size':>10}"
    for registry, usage in rows:
        yield f"{registry:{width}}  {usage.entries:>9}  {format_binary_size(usage.bytes):>10}"


def _format_limits(cache: Cache, free: int, unfinished: tuple[int, int]) -> Iterator[str]:
    max_size, (number, size) = cache.storage.blobs.limits.max_size, unfinished
    if number:
        blobs = format_count(number, "blob", "blobs")
        yield f"running or interrupted downloads: {blobs}, {format_binary_size(size)}"
    yield f"limit: {'none' if max_size is None else format_binary_size(max_size)}"
    min_free = format_binary_size(cache.storage.blobs.limits.min_free)
    yield f"free on the disk: {format_binary_size(free)}, of which {min_free} must stay free"
