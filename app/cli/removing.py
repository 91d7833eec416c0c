"""What belongs to an image and to no other one of its repository."""

from collections.abc import Iterable, Mapping
from typing import Final

from app.cache import lists, tags
from app.cli.images import Image
from app.oci import manifest
from app.oci.reference import Digest, Reference
from app.store.holdings import Held
from app.store.store import Store

_DOCUMENTS: Final = frozenset((*manifest.INDEXES, *manifest.MANIFESTS))

Named = Mapping[Digest, frozenset[Digest]]
"""What each manifest of a repository names."""


def remove_image(store: Store, image: Image) -> int:
    """Take an image away, and return how many entries went; raise StoreError."""
    if image.reference is None:
        tags.forget_all(store, image.registry, image.repository)
        lists.forget_all(store, image.registry, image.repository)
        return store.upkeep.remove_repository(image.registry, image.repository)
    roots = _digests(store, image, image.reference)
    held = store.holdings.of(image.registry, image.repository)
    unwanted = only_of(roots, _named(store, image.registry, held))
    return len(store.holdings.release(image.registry, image.repository, sorted(unwanted)))


def only_of(roots: Iterable[Digest], named: Named) -> set[Digest]:
    """Return the roots and all that only they lead to."""
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
    except ValueError:  # evicted meanwhile, or broken
        return frozenset()
    return frozenset(one.digest for one in (*found.manifests, *found.blobs))


def _digests(store: Store, image: Image, reference: Reference) -> set[Digest]:
    """Return what is meant; a tag means nothing afterwards, until the registry is asked."""
    if isinstance(reference, Digest):
        return {reference}
    found = tags.digests(store, image.registry, image.repository, reference)
    tags.forget(store, image.registry, image.repository, reference)
    return found
