"""What an image says of itself: OCI image-spec, "Image Configuration"."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from app.oci import documents
from app.oci.errors import DigestInvalid
from app.oci.manifest import Descriptor, Platform
from app.oci.reference import Digest

_LAST_THAT_IS_NONE: Final = 1970
"""Builds that want the same bytes every time write this year, and Go's zero time is before it."""

_TWICE: Final = object()
"""In place of what stands in a document twice: readers differ in which one they take."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a manifest's image; None is what cannot be told.

    An index has no platform and no date of its own: clients choose one of its images.
    """

    platform: Platform | None = None
    created: datetime | None = None
    is_index: bool = False


INDEX: Final = Facts(is_index=True)


def config_of(document: bytes) -> Descriptor | None:
    """Return the config that a manifest names, or None for an index; raise ValueError.

    Whatever has a config or layers is an image, be there manifests as well: which of both a client
    takes it for is not known here. Keys are read in any case, as Go's clients do.
    """
    read = documents.read(document, _fields)
    if "config" not in read:
        if isinstance(read.get("manifests"), list) and not {"layers", "fslayers"} & {*read}:
            _see_that_all_is_outside(read["manifests"])
            return None
        message = "it is no index, and has no config"
        raise ValueError(message)
    match read["config"]:
        case {"digest": str(digest), "size": int(size)} if size >= 0:
            try:
                return Descriptor(Digest.parse(digest), size)
            except DigestInvalid as error:
                raise ValueError(error.message) from error
    message = "its config is no descriptor"
    raise ValueError(message)


def _see_that_all_is_outside(manifests: list[Any]) -> None:
    """Raise ValueError for a manifest that stands in its index: nobody would ask for it.

    Clients may take it from there (OCI image-spec, "Content Descriptors", `data`).
    """
    if any(isinstance(one, dict) and one.get("data") for one in manifests):
        message = "a manifest stands in it"
        raise ValueError(message)


def facts_of(config: bytes) -> Facts:
    """Return what a config says; what is no config says nothing."""
    try:
        read = documents.read(config, _fields)
    except ValueError:
        return Facts()
    return Facts(_platform(read), _date(read.get("created")))


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, value in pairs:
        key = name.casefold()
        read[key] = _TWICE if key in read else value
    return read


def _platform(read: dict[str, Any]) -> Platform | None:
    match read.get("os"), read.get("architecture"), read.get("variant") or "":
        case str(system), str(architecture), str(variant):
            try:
                return Platform.of(system, architecture, *filter(None, [variant]))
            except ValueError:
                return None
    return None


def _date(written: Any) -> datetime | None:  # noqa: ANN401 - any JSON value
    try:
        date = datetime.fromisoformat(written)
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo is not None and date.year > _LAST_THAT_IS_NONE else None
