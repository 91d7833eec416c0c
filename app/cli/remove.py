"""`flask cache remove`: remove images and other content from the cache."""

from collections.abc import Iterable, Mapping
from typing import Final

import click
from flask.cli import with_appcontext

from app.cache import lists
from app.cache.blobs import unfinished as unfinished_blobs
from app.cache.manifests import tags
from app.cli import context
from app.cli.images import Image, parse_images
from app.cli.units import format_count, parse_age
from app.oci import manifest
from app.oci.reference import Digest, Reference
from app.store.ledger import MemberContent
from app.store.storage import Storage

# Finding the content that only one image of its repository needs.

_MANIFEST_TYPES: Final = frozenset((*manifest.INDEXES, *manifest.MANIFESTS))

ManifestReferences = Mapping[Digest, frozenset[Digest]]
"""The digests that each manifest of a repository names."""


def remove_image(storage: Storage, image: Image) -> int:
    """Remove an image and return the number of entries removed; may raise StoreError.

    Content that other images of the repository need stays. An image without a reference stands
    for its whole repository, including the stored tags and lists.
    """
    if image.reference is None:
        tags.forget_tags(storage.ledger, image.registry, image.repository)
        lists.forget_lists(storage.ledger, image.registry, image.repository)
        return storage.admin.remove_repository(image.registry, image.repository)
    roots = _forget_and_resolve(storage, image, image.reference)
    contents = storage.admin.list_content(image.registry, image.repository)
    removable = find_unshared(roots, _read_references(storage, image.registry, contents))
    return storage.admin.remove_members(image.registry, image.repository, sorted(removable))


def find_unshared(roots: Iterable[Digest], references: ManifestReferences) -> set[Digest]:
    """Return the roots, and the digests that can be reached from no other manifest."""
    roots = set(roots)
    reachable = _find_reachable(roots, references)
    other_references = {
        digest: names for digest, names in references.items() if digest not in roots
    }
    still_needed = _find_reachable(other_references.keys() - reachable, other_references)
    return roots | (reachable - still_needed)


def _find_reachable(roots: Iterable[Digest], references: ManifestReferences) -> set[Digest]:
    reachable, pending = set[Digest](), list(roots)
    while pending:
        digest = pending.pop()
        if digest not in reachable:
            reachable.add(digest)
            pending += references.get(digest, frozenset())
    return reachable


def _read_references(
    storage: Storage, registry: str, contents: Iterable[MemberContent]
) -> ManifestReferences:
    return {
        content.digest: _parse_references(
            storage.admin.read(registry, content.digest, manifest.LARGEST)
        )
        for content in contents
        if content.media_type in _MANIFEST_TYPES
    }


def _parse_references(document: bytes) -> frozenset[Digest]:
    try:
        descriptors = manifest.parse_descriptors(document)
    except ValueError:  # evicted in the meantime, or broken
        return frozenset()
    return frozenset(
        descriptor.digest for descriptor in (*descriptors.manifests, *descriptors.blobs)
    )


def _forget_and_resolve(storage: Storage, image: Image, reference: Reference) -> set[Digest]:
    """Return the digests that a reference stands for.

    A tag is also forgotten, so that the next request for it asks the registry.
    """
    if isinstance(reference, Digest):
        return {reference}
    digests = tags.lookup_digests(storage.ledger, image.registry, image.repository, reference)
    tags.forget_tag(storage.ledger, image.registry, image.repository, reference)
    return digests


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
    choices = [bool(names), older_than is not None, unused_for is not None, everything]
    if choices.count(True) != 1:
        message = "give one of these: images, --older-than, --unused-for, or --all"
        raise click.UsageError(message)
    images = parse_images(names, context.get_cli_context().registries)
    with context.open_cache() as cache:
        if images:
            _remove_images(cache.storage, images)
        elif older_than is not None:
            _print_removed(cache.storage.admin.remove_older(older_than))
        elif unused_for is not None:
            _print_removed(cache.storage.admin.remove_unused(unused_for))
        else:
            unfinished_blobs.drop_unfinished(cache.storage.unfinished)
            _print_removed(cache.storage.admin.remove_all())


def _remove_images(storage: Storage, images: list[Image]) -> None:
    for image in images:
        number = remove_image(storage, image)
        click.echo(f"{image.text}: {_format_removed(number) if number else 'not in the cache'}")


def _print_removed(number: int) -> None:
    click.echo(f"{_format_removed(number)}.")


def _format_removed(number: int) -> str:
    return f"{format_count(number, 'entry', 'entries')} removed"
