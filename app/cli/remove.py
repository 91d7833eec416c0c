"""`flask cache remove`: let go of what is kept."""

import click
from flask.cli import with_appcontext

from app.cache import spooling
from app.cli import means
from app.cli.amounts import counted, seconds
from app.cli.images import Image, images
from app.cli.removing import remove_image
from app.store.store import Store


@click.command()
@click.argument("names", metavar="[IMAGE]...", nargs=-1)
@click.option(
    "--older-than",
    metavar="AGE",
    callback=seconds,
    help="What was fetched so long ago: 36h, 30d, 8w.",
)
@click.option(
    "--unused-for",
    metavar="AGE",
    callback=seconds,
    help="What nobody has asked for so long: 36h, 30d, 8w.",
)
@click.option("--all", "everything", is_flag=True, help="All that is kept and known.")
@with_appcontext
def remove(
    names: tuple[str, ...], older_than: int | None, unused_for: int | None, *, everything: bool
) -> None:
    """Remove images, what is old or unused, or all; it is fetched again when it is next asked for.

    IMAGE is a name as in a pull through Docxy, without its host: nginx, nginx:1.27,
    ghcr.io/owner/app@sha256:... A name alone means all of that repository.
    What other images share with it stays.
    """
    said = [bool(names), older_than is not None, unused_for is not None, everything]
    if said.count(True) != 1:
        message = "say what to remove: images, --older-than, --unused-for, or --all"
        raise click.UsageError(message)
    chosen = images(names, means.means().registries)
    with means.opened() as cache:
        if chosen:
            _remove_images(cache.store, chosen)
        elif older_than is not None:
            _tell(cache.store.upkeep.remove_older(older_than))
        elif unused_for is not None:
            _tell(cache.store.upkeep.remove_unused(unused_for))
        else:
            spooling.drop_unfinished(cache.directory)
            _tell(cache.store.upkeep.remove_all())


def _remove_images(store: Store, chosen: list[Image]) -> None:
    for image in chosen:
        number = remove_image(store, image)
        click.echo(f"{image.text}: {_removed(number) if number else 'nothing of it is kept'}")


def _tell(number: int) -> None:
    click.echo(f"{_removed(number)}.")


def _removed(number: int) -> str:
    return f"{counted(number, 'entry', 'entries')} removed"
