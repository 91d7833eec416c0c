"""Reads what a manifest or an index names (OCI image-spec, "Image Manifest" and "Image Index")."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

from app.oci import documents
from app.oci.errors import DigestInvalid
from app.oci.reference import Digest

LARGEST: Final = 16 * 1024 * 1024
"""The maximum size of a manifest in bytes.

Registries should accept 4 MiB (OCI distribution-spec, "Pushing Manifests").
"""

INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


_ARCHITECTURE_ALIASES: Final = {
    "aarch64": ("arm64", ""),
    "armel": ("arm", "v6"),
    "armhf": ("arm", "v7"),
    "i386": ("386", ""),
    "x86-64": ("amd64", ""),
    "x86_64": ("amd64", ""),
}
"""Names that clients accept for an architecture and variant (containerd, platforms/database.go)."""

_DEFAULT_VARIANTS: Final = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
"""The variant that clients assume for an architecture without one."""

_PLATFORM_PART: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Platform:
    """`linux/arm64/v8`: an operating system, an architecture, and its variant or ""."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the platform written as `os/architecture[/variant]`.

        Raise ValueError if it is malformed.
        """
        return cls.from_parts(*text.split("/"))

    @classmethod
    def from_parts(cls, *parts: str) -> Self:
        """Return the platform of two or three parts, in lower case and without aliases.

        `x86_64` becomes amd64, and `aarch64` arm64. Raise ValueError for malformed parts.
        """
        if len(parts) not in {2, 3} or not all(map(_PLATFORM_PART.fullmatch, parts)):
            message = f"{'/'.join(parts)} is not a platform like linux/amd64 or linux/arm/v7"
            raise ValueError(message)
        system, architecture, *variant = map(str.lower, parts)
        architecture, default_variant = _ARCHITECTURE_ALIASES.get(architecture, (architecture, ""))
        return cls(system, architecture, *(variant or [default_variant]))

    def satisfies(self, required: Self) -> bool:
        """Return whether this platform satisfies `required`, which need not name a variant."""
        if (self.os, self.architecture) != (required.os, required.architecture):
            return False
        default_variant = _DEFAULT_VARIANTS.get(self.architecture, "")
        return not required.variant or required.variant == (self.variant or default_variant)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A piece of content that a manifest names; `size` is in bytes.

    `is_foreign` is true for layers that clients fetch from other hosts and that no registry has.
    """

    digest: Digest
    size: int
    media_type: str = ""
    platform: Platform | None = None
    is_foreign: bool = False


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Everything that one document names: an index names manifests, a manifest names blobs."""

    manifests: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]


def is_manifest(document: bytes) -> bool:
    """Return whether a document is a manifest or an index: JSON with schemaVersion 1 or 2."""
    try:
        manifest = documents.parse_object(document)
    except ValueError:
        return False
    return manifest.get("schemaVersion") in (1, 2)


MOST_BLOBS: Final = 128
"""The most blobs of one image: Docker images have at most 127 layers, and a config."""

LARGEST_OF_IMAGE: Final = 256 * 1024
"""The most bytes of a manifest that is read for its blobs; one with 128 of them has some 30 KB."""


def parse_blobs(document: bytes) -> list[Descriptor]:
    """Return the blobs that a manifest names, once each, at most `MOST_BLOBS`.

    Layers that clients get from other hosts, and that no registry has, are left out. The list is
    empty if the document cannot be read.
    """
    try:
        blobs = parse_descriptors(document).blobs
    except ValueError:
        return []
    distinct = {blob.digest: blob for blob in blobs if not blob.is_foreign}
    return list(distinct.values())[:MOST_BLOBS]


def parse_descriptors(document: bytes) -> Descriptors:
    """Return the manifests and blobs that a document names, whatever its type.

    Malformed descriptors are skipped. Raise ValueError if the document is not a JSON object.
    """
    manifest = documents.parse_object(document)
    blobs = [
        manifest.get("config"),
        *_as_list(manifest.get("layers")),
        *_as_list(manifest.get("blobs")),
    ]
    return Descriptors(
        tuple(_iter_descriptors(_as_list(manifest.get("manifests")))),
        tuple(_iter_descriptors(blobs)),
    )


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, list) else []


def _iter_descriptors(values: list[Any]) -> Iterator[Descriptor]:
    for value in values:
        match value:
            case {"digest": str(digest), "size": int(size)} if size >= 0:
                try:
                    parsed = Digest.parse(digest)
                except DigestInvalid:
                    continue
                yield Descriptor(
                    parsed,
                    size,
                    _as_text(value.get("mediaType")),
                    _parse_platform(value.get("platform")),
                    bool(_as_list(value.get("urls"))),
                )


def _parse_platform(value: Any) -> Platform | None:  # noqa: ANN401 - any JSON value
    match value:
        case {"os": str(system), "architecture": str(architecture)}:
            return Platform(system, architecture, _as_text(value.get("variant")))
    return None


def _as_text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, str) else ""
