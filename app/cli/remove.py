"""`flask cache remove`: remove images and other content from the cache."""

from collections.abc import Iterable, Mapping
from typing import Final

import click
from flask.cli import with_appcontext

from app.cache import lists
from app.cache.blobs import blobs
from app.cache.manifests import tags
from app.cli import context
from app.cli.images import Image, parse_images
from app.cli.units import format_count, parse_age
from app.oci import manifest
from app.oci.reference import Digest, Reference
from app.store.ledger import MemberContent
from app.store.storage import Storage

# Finding the content that only one image of its repository needs.

_DOCUMENTS: Final = frozenset((*manifest.INDEXES, *manifest.MANIFESTS))

ManifestReferences = Mapping[Digest, frozenset[Digest]]
"""The digests that each manifest of a repository names."""


def remove_image(storage: Storage, image: Image) -> int:
    """Remove an image and return the number of entries removed; raise StoreError.

    Content that other images of the repository need stays. An image without a reference stands
    for its whole repository, including the stored tags and lists.
    """
    if image.reference is None:
        tags.forget_tags(storage.ledger, image.registry, image.repository)
        lists.forget_lists(storage.ledger, image.registry, image.repository)
        return storage.admin.remove_repository(image.registry, image.repository)
    roots = _forget_and_resolve(storage, image, image.reference)
    held = storage.admin.list_content(image.registry, image.repository)
    unwanted = find_unshared(roots, _read_references(storage, image.registry, held))
    return storage.admin.remove_members(image.registry, image.repository, sorted(unwanted))


def find_unshared(roots: Iterable[Digest], named: ManifestReferences) -> set[Digest]:
    """Return the roots, and the digests that can be reached from no other manifest."""
    roots = set(roots)
    reached = _find_reachable(roots, named)
    others = {one: names for one, names in named.items() if one not in roots}
    kept = _find_reachable(others.keys() - reached, others)
    return roots | (reached - kept)


def _find_reachable(roots: Iterable[Digest], named: ManifestReferences) -> set[Digest]:
    found, left = set[Digest](), list(roots)
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += named.get(one, frozenset())
    return found


def _read_references(
    storage: Storage, registry: str, held: Iterable[MemberContent]
) -> ManifestReferences:
    return {
        one.digest: _parse_references(storage.admin.read(registry, one.digest, manifest.LARGEST))
        for one in held
        if one.media_type in _DOCUMENTS
    }


def _parse_references(document: bytes) -> frozenset[Digest]:
    try:
        found = manifest.parse_descriptors(document)
    except ValueError:  # evicted in the meantime, or broken
        return frozenset()
    return frozenset(one.digest for one in (*found.manifests, *found.blobs))


def _forget_and_resolve(storage: Storage, image: Image, reference: Reference) -> set[Digest]:
    """Return the digests that a reference stands for.

    A tag is also forgotten, so that the next request for it asks the registry.
    """
    if isinstance(reference, Digest):
        return {reference}
    found = tags.lookup_digests(storage.ledger, image.registry, image.repository, reference)
    tags.forget_tag(storage.ledger, image.registry, image.repository, reference)
    return found


@click.command()
@click.argument("names", metavar="[IMAGE]...", nargs=-1)
@click.option(
    "--older-than",
    metavar="AGE",
    callback=parse_age,
    help="Remove content fetched longer ago than this, like 36h, 30d or 8w.",
)
@click.option(
    "--unused-for",
    metavar="AGE",
    callback=parse_age,
    help="Remove content not requested for this long, like 36h, 30d or 8w.",
)
@click.option(
    "--all", "everything", is_flag=True, help="Remove everything, with all that is known about it."
)
@with_appcontext
def remove(
    names: tuple[str, ...], older_than: int | None, unused_for: int | None, *, everything: bool
) -> None:
    """Remove images, old or unused content, or everything; it is fetched again when requested.

    IMAGE is a name as in a pull through Docxy, without Docxy's host: nginx, nginx:1.27,
    ghcr.io/owner/app@sha256:... A name without a tag or digest means the whole repository.
    Content that other images share stays.
    """
    said = [bool(names), older_than is not None, unused_for is not None, everything]
    if said.count(True) != 1:
        message = "give one of these: images, --older-than, --unused-for, or --all"
        raise click.UsageError(message)
    chosen = parse_images(names, context.get_cli_context().registries)
    with context.open_cache() as cache:
        if chosen:
            _remove_images(cache.storage, chosen)
        elif older_than is not None:
            _print_removed(cache.storage.admin.remove_older(older_than))
        elif unused_for is not None:
            _print_removed(cache.storage.admin.remove_unused(unused_for))
        else:
            blobs.drop_unfinished(cache.storage.spools)
            _print_removed(cache.storage.admin.remove_all())


def _remove_images(storage: Storage, chosen: list[Image]) -> None:
    for image in chosen:
        number = remove_image(storage, image)
        click.echo(f"{image.text}: {_format_removed(number) if number else 'not in the cache'}")


def _print_removed(number: int) -> None:
    click.echo(f"{_format_removed(number)}.")


def _format_removed(number: int) -> str:
    return f"{format_count(number, 'entry', 'entries')} removed"
