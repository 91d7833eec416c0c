"""Parse images as an operator writes them: `nginx:1.27`, `ghcr.io/owner/app@sha256:...`."""

from collections.abc import Iterable
from dataclasses import dataclass

import click

from app.oci.errors import RegistryError
from app.oci.reference import Digest, Reference, RepositoryName, Tag
from app.registries import Registries, RepositoryAddress


@dataclass(frozen=True, slots=True)
class Image:
    """A repository of a registry and a reference in it, or None for the whole repository.

    `text` is what the operator wrote.
    """

    registry: str
    repository: RepositoryName
    reference: Reference | None
    text: str


def parse_images(texts: Iterable[str], registries: Registries) -> list[Image]:
    """Return the images that the texts name, without duplicates; raise UsageError if one fails."""
    images: dict[tuple[str, str, Reference | None], Image] = {}
    for text in texts:
        try:
            image = parse_image(text, registries)
        except RegistryError as error:
            message = f"{text}: {error}"
            raise click.UsageError(message) from error
        images.setdefault((image.registry, image.repository, image.reference), image)
    return list(images.values())


def parse_image(text: str, registries: Registries) -> Image:
    """Return the image that a text names, resolved like a pull through this proxy.

    If the text has both a tag and a digest, the digest is used, as clients do. Raise
    RegistryError if the text is not a valid name or its registry is not served.
    """
    name, at_sign, digest = text.partition("@")
    path, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    reference: Reference | None = Tag.parse(tag) if colon else None
    if at_sign:
        reference = Digest.parse(digest)
    address = _resolve(f"{path}{slash}{last}", registries)
    return Image(address.registry.name, address.repository, reference, text)


def _resolve(name: str, registries: Registries) -> RepositoryAddress:
    prefix, slash, remainder = name.partition("/")
    if slash and ":" in prefix:  # repository names have no colon, so this is a registry's name
        return registries.resolve(RepositoryName.parse(remainder), ns=prefix, host="")
    return registries.resolve(RepositoryName.parse(name), ns=None, host="")
