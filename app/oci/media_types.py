"""Accept: whether a media type is among what a client takes (RFC 9110, section 12.5.1)."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

# A string without its end reaches to the end: every match starts where the one before it stopped,
# and no character is read twice.
_RANGE: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))++', re.DOTALL)
_WEIGHT: Final = re.compile(r"[01](?:\.[0-9]*)?")
_LONGEST: Final = 4 * 1024
"""Characters of all lines together that are read; clients send some 500."""
_CLIENTS: Final = 64
"""Kinds of clients of which it is remembered what they take: each kind says the same."""


def essence(media_type: str) -> str:
    """Return a media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def acceptable(media_type: str, accepts: Iterable[str]) -> bool:
    """Return whether a client takes a media type; without Accept, it takes every known one.

    Parameters other than `q` do not count: no registry tells types apart by them.
    Of more than 4 KiB, only the ranges within the first 4 KiB count: the registry, which gets the
    whole of it, is asked about any other type.
    """
    kind = essence(media_type)
    if not kind:
        return False
    accept = ",".join(accepts)
    ranges = _ranges(_bounded(accept))
    if not ranges:
        return len(accept) <= _LONGEST
    for one in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if one in ranges:
            return ranges[one] > 0
    return False


def fingerprint(accepts: Iterable[str]) -> str:
    """Return 16 hexadecimal digits that are equal for clients that take the same types.

    The order of ranges and lines does not count, up to 4 KiB. Beyond that, only equal texts have
    the same digits, since not all of their ranges are read.
    """
    accept = ",".join(accepts)
    if len(accept) > _LONGEST:
        written = accept
    else:
        ranges = _ranges(accept)
        written = ",".join(f"{name};q={quality:g}" for name, quality in sorted(ranges.items()))
    return hashlib.sha256(written.encode(errors="surrogateescape")).hexdigest()[:16]


def _bounded(accept: str) -> str:
    """Return the ranges that end within the bound."""
    return accept if len(accept) <= _LONGEST else accept[:_LONGEST].rpartition(",")[0]


@lru_cache(_CLIENTS)
def _ranges(accept: str) -> Mapping[str, float]:
    """Return each media range with its weight, the highest one if it is repeated."""
    found: dict[str, float] = {}
    for text in _RANGE.findall(accept):
        name, _, parameters = text.partition(";")
        name = name.strip().lower()
        if name:
            found[name] = max(found.get(name, 0.0), _quality(parameters))
    return found


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            return _number(value.strip())
    return 1.0


def _number(text: str) -> float:
    """Return a weight; one that cannot be read is none."""
    return float(text[:5]) if _WEIGHT.fullmatch(text) else 1.0


# Whether a Content-Type can be that of a manifest, or of a blob.

_VENDOR: Final = re.compile(r"application/vnd\.[a-z0-9.+-]*")
_OF_MANIFESTS: Final = ("manifest", "image.index")
"""What stands in OCI's types, Docker's of both schemas, and those of artifacts."""

_CONTENT_TYPES_LONGEST: Final = 255
"""Characters of a type: RFC 6838, section 4.2, allows 127 on each side of the slash."""

_OF_PEOPLE: Final = frozenset({"text/html", "application/xhtml+xml"})

_OF_PROGRAMS: Final = frozenset({
    "application/json", "application/problem+json", "application/hal+json",
    "application/vnd.api+json", "application/vnd.error+json",
    "application/xml", "application/problem+xml", "application/javascript",
})  # fmt: skip


def remembered(content_type: str) -> str:
    """Return a Content-Type as it is remembered: "" stands for one that is longer than any type.

    What is remembered grows by one of them with each manifest that a repository holds.
    """
    return content_type if len(content_type) <= _CONTENT_TYPES_LONGEST else ""


def is_page(content_type: str) -> bool:
    """Tell whether it is that of a page for people, which nothing of a registry's is."""
    return essence(content_type) in _OF_PEOPLE


def can_be_manifest(content_type: str) -> bool:
    """Tell whether it is one of manifests and of nothing else."""
    # One pattern for both would try each place of the word, to the end of a registry's header.
    kind = essence(content_type)
    return bool(_VENDOR.fullmatch(kind)) and any(word in kind for word in _OF_MANIFESTS)


def can_be_blob(content_type: str) -> bool:
    """Tell whether it is not one that servers have for their own words.

    Registries and CDNs have many for blobs, above all octet-stream, or none at all. One that calls
    a blob JSON says which it is (Docker-Content-Digest).
    """
    kind = essence(content_type)
    return kind not in _OF_PEOPLE | _OF_PROGRAMS and not kind.startswith("text/")
