"""`flask cache warm`: fetch images into the cache before clients ask for them."""

import sys
from collections.abc import Iterable
from typing import Final, TextIO

import click
from flask.cli import with_appcontext

from app.cli import context
from app.cli.images import Image, parse_images
from app.cli.reading import Operator
from app.cli.units import format_binary_size, format_count
from app.cli.warming import BlobFetcher, Plan, Planner, PullBudget
from app.oci.manifest import Platform

_CONCURRENCY: Final = 4
"""Layers read at the same time; more make no line faster, and registries dislike it."""

_ALL_PLATFORMS: Final = "all"


@click.command()
@click.argument("names", metavar="[IMAGE]...", nargs=-1)
@click.option(
    "--file", "lists", type=click.File(errors="replace"), multiple=True,
    help="A file with one image a line, and comments after #; - is standard input. Repeatable.",
)  # fmt: skip
@click.option(
    "--platform", "platforms", multiple=True, default=["linux/amd64"], show_default=True,
    help="The platform to fetch of an index, like linux/arm64, or all. Repeatable.",
)  # fmt: skip
@click.option(
    "--budget", type=click.IntRange(min=0), metavar="PULLS",
    help="The most pulls to spend; a GET of a manifest is one pull. Default: no limit.",
)  # fmt: skip
@with_appcontext
def warm(
    names: tuple[str, ...],
    lists: tuple[TextIO, ...],
    platforms: tuple[str, ...],
    budget: int | None,
) -> None:
    """Fetch images into the cache before clients ask for them.

    IMAGE is a name as in a pull through Docxy, without Docxy's host: nginx:1.27,
    ghcr.io/owner/app:v1. Content that is cached already costs no pull. The exit status is 1 if an
    image is incomplete in the end.
    """
    images = parse_images([*names, *_read_lists(lists)], context.get_cli_context().registries)
    if not images:
        message = "name the images, as arguments or with --file"
        raise click.UsageError(message)
    with context.open_cache() as cache:
        pulls, operator = PullBudget(budget), Operator()
        planner = Planner(
            context.get_cli_context().sources,
            cache.storage,
            _parse_platforms(platforms),
            pulls,
            operator,
        )
        with click.progressbar(images, label="Manifests", file=sys.stderr) as bar:
            for image in bar:
                planner.add(image)
        plan = planner.plan
        total_size = sum(blob.descriptor.size for blob in plan.blobs.values())
        with click.progressbar(length=total_size, label="Blobs", file=sys.stderr) as bar:
            fetcher = BlobFetcher(cache.storage, bar.update, operator)
            fetcher.fetch(plan.blobs.values(), _CONCURRENCY)
    plan.record_failures(fetcher.failed)
    _print_report(images, plan)
    click.echo(f"{_format_spent(pulls)}, {format_binary_size(fetcher.fetched)} of blobs fetched.")
    if plan.failed or plan.skipped:
        raise SystemExit(1)


def _read_lists(lists: Iterable[TextIO]) -> list[str]:
    lines = [line.partition("#")[0].strip() for file in lists for line in file]
    return [line for line in lines if line]


def _parse_platforms(texts: Iterable[str]) -> list[Platform]:
    """Return the platforms, or an empty list for all of them; may raise BadParameter."""
    if _ALL_PLATFORMS in texts:
        return []
    try:
        return [Platform.parse(text) for text in texts]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--platform") from error


def _print_report(images: list[Image], plan: Plan) -> None:
    for image, reason in plan.failed.items():
        click.echo(f"failed: {image.text}: {reason}")
    for image, reason in plan.skipped.items():
        click.echo(f"skipped: {image.text}: {reason}")
    incomplete = plan.failed.keys() | plan.skipped.keys()
    click.echo(
        f"{len(images) - len(incomplete)} of {format_count(len(images), 'image', 'images')} warm."
    )


def _format_spent(pulls: PullBudget) -> str:
    suffix = "" if pulls.budget is None else f" of {pulls.budget}"
    return f"{pulls.spent}{suffix} {'pull' if pulls.spent == 1 and not suffix else 'pulls'} spent"
