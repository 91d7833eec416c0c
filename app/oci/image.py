"""Reads an image's metadata from its config (OCI image-spec, "Image Configuration")."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from app.oci import documents
from app.oci.errors import DigestInvalid
from app.oci.manifest import Descriptor, Platform
from app.oci.reference import Digest

_MAX_UNKNOWN_YEAR: Final = 1970
"""Dates up to this year mean none: reproducible builds write 1970, and Go's zero time is year 1."""

_DUPLICATE: Final = object()
"""Replaces the value of a key that occurs twice: parsers differ in which value they use."""


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """The known metadata of a manifest's image; None if a value is unknown.

    `created` has a time zone. An index has no platform and no date of its own: clients choose one
    of its images.
    """

    platform: Platform | None = None
    created: datetime | None = None
    is_index: bool = False


INDEX: Final = ImageMetadata(is_index=True)


def parse_config_descriptor(document: bytes) -> Descriptor | None:
    """Return the config that a manifest names, or None if the document is an index.

    A document with a config or layers counts as an image even if it has manifests too, since we do
    not know which of the two a client takes it for. Keys are matched in any case, as Go does it.
    Raise ValueError if the document is neither, its config is malformed, or an index embeds one of
    its manifests.
    """
    manifest = documents.parse_object(document, _fold_keys)
    if "config" not in manifest:
        if isinstance(manifest.get("manifests"), list) and not {"layers", "fslayers"} & {*manifest}:
            _refuse_embedded_manifests(manifest["manifests"])
            return None
        message = "it is not an index, and has no config"
        raise ValueError(message)
    match manifest["config"]:
        case {"digest": str(digest), "size": int(size)} if size >= 0:
            try:
                return Descriptor(Digest.parse(digest), size)
            except DigestInvalid as error:
                raise ValueError(error.message) from error
    message = "its config is not a descriptor"
    raise ValueError(message)


def _refuse_embedded_manifests(manifests: list[Any]) -> None:
    """Raise ValueError if an index embeds a manifest.

    A client may use the embedded manifest without a request (OCI image-spec, "Content Descriptors",
    `data`), and then no rule would see it.
    """
    if any(isinstance(descriptor, dict) and descriptor.get("data") for descriptor in manifests):
        message = "it embeds a manifest"
        raise ValueError(message)


def parse_image_metadata(config: bytes) -> ImageMetadata:
    """Return the metadata in a config, all of it unknown if it is not a JSON object."""
    try:
        fields = documents.parse_object(config, _fold_keys)
    except ValueError:
        return ImageMetadata()
    return ImageMetadata(_parse_platform(fields), _parse_date(fields.get("created")))


def _fold_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    folded: dict[str, Any] = {}
    for name, value in pairs:
        key = name.casefold()
        folded[key] = _DUPLICATE if key in folded else value
    return folded


def _parse_platform(config: dict[str, Any]) -> Platform | None:
    match config.get("os"), config.get("architecture"), config.get("variant") or "":
        case str(system), str(architecture), str(variant):
            try:
                return Platform.from_parts(system, architecture, *filter(None, [variant]))
            except ValueError:
                return None
    return None


def _parse_date(value: Any) -> datetime | None:  # noqa: ANN401 - any JSON value
    try:
        date = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo is not None and date.year > _MAX_UNKNOWN_YEAR else None
