"""`flask cache remove`: remove images and other content from the cache."""

from collections.abc import Iterable, Mapping
from typing import Final

import click
from flask.cli import with_appcontext

from app.cache import lists
from app.cache.blobs import blobs
from app.cache.manifests import tags
from app.cli import context
from app.cli.images import Image, images
from app.cli.units import counted, seconds
from app.oci import manifest
from app.oci.reference import Digest, Reference
from app.store.admin import Held
from app.store.store import Store

# Finding the content that only one image of its repository needs.

_DOCUMENTS: Final = frozenset((*manifest.INDEXES, *manifest.MANIFESTS))

Named = Mapping[Digest, frozenset[Digest]]
"""The digests that each manifest of a repository names."""


def remove_image(store: Store, image: Image) -> int:
    """Remove an image and return the number of entries removed; raise StoreError.

    Content that other images of the repository need stays. An image without a reference stands
    for its whole repository, including the stored tags and lists.
    """
    if image.reference is None:
        tags.forget_all(store, image.registry, image.repository)
        lists.forget_all(store, image.registry, image.repository)
        return store.upkeep.remove_repository(image.registry, image.repository)
    roots = _digests(store, image, image.reference)
    held = store.holdings.of(image.registry, image.repository)
    unwanted = only_of(roots, _named(store, image.registry, held))
    return len(store.holdings.release(image.registry, image.repository, sorted(unwanted)))


def only_of(roots: Iterable[Digest], named: Named) -> set[Digest]:
    """Return the roots, and the digests that can be reached from no other manifest."""
    roots = set(roots)
    reached = _reached(roots, named)
    others = {one: names for one, names in named.items() if one not in roots}
    kept = _reached(others.keys() - reached, others)
    return roots | (reached - kept)


def _reached(roots: Iterable[Digest], named: Named) -> set[Digest]:
    found, left = set[Digest](), list(roots)
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += named.get(one, frozenset())
    return found


def _named(store: Store, registry: str, held: Iterable[Held]) -> Named:
    return {
        one.digest: _names(store.holdings.read(registry, one.digest, manifest.LARGEST))
        for one in held
        if one.media_type in _DOCUMENTS
    }


def _names(document: bytes) -> frozenset[Digest]:
    try:
        found = manifest.named(document)
    except ValueError:  # evicted in the meantime, or broken
        return frozenset()
    return frozenset(one.digest for one in (*found.manifests, *found.blobs))


def _digests(store: Store, image: Image, reference: Reference) -> set[Digest]:
    """Return the digests that a reference stands for.

    A tag is also forgotten, so that the next request for it asks the registry.
    """
    if isinstance(reference, Digest):
        return {reference}
    found = tags.digests(store, image.registry, image.repository, reference)
    tags.forget(store, image.registry, image.repository, reference)
    return found


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
    chosen = images(names, context.means().registries)
    with context.opened() as cache:
        if chosen:
            _remove_images(cache.store, chosen)
        elif older_than is not None:
            _tell(cache.store.upkeep.remove_older(older_than))
        elif unused_for is not None:
            _tell(cache.store.upkeep.remove_unused(unused_for))
        else:
            blobs.drop_unfinished(cache.directory)
            _tell(cache.store.upkeep.remove_all())


def _remove_images(store: Store, chosen: list[Image]) -> None:
    for image in chosen:
        number = remove_image(store, image)
        click.echo(f"{image.text}: {_removed(number) if number else 'nothing of it is kept'}")


def _tell(number: int) -> None:
    click.echo(f"{_removed(number)}.")


def _removed(number: int) -> str:
    return f"{counted(number, 'entry', 'entries')} removed"
