"""Media types: those that a client accepts (RFC 9110, 12.5.1), and those of manifests and blobs."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

# An unterminated string extends to the end. So every match starts where the one before it stopped,
# and no character is read twice.
_RANGE: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))++', re.DOTALL)
_WEIGHT: Final = re.compile(r"[01](?:\.[0-9]*)?")
_MAX_ACCEPT_LENGTH: Final = 4 * 1024
"""The maximum number of characters read from all lines of Accept; clients send about 500."""
_CACHE_SIZE: Final = 64
"""The number of Accept values that are cached; all clients of a kind send the same one."""


def essence(media_type: str) -> str:
    """Return a media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def is_acceptable(media_type: str, accepts: Iterable[str]) -> bool:
    """Return whether a client accepts a media type; without Accept, it accepts every known one.

    Parameters other than `q` are ignored: no registry distinguishes types by them.
    Of a longer Accept, only the ranges within the first 4 KiB count. For any other type, the
    registry is asked, which gets the whole header.
    """
    kind = essence(media_type)
    if not kind:
        return False
    accept = ",".join(accepts)
    ranges = _parse_ranges(_truncate_accept(accept))
    if not ranges:
        return len(accept) <= _MAX_ACCEPT_LENGTH
    for media_range in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if media_range in ranges:
            return ranges[media_range] > 0
    return False


def fingerprint(accepts: Iterable[str]) -> str:
    """Return 16 hexadecimal digits that are equal for clients that accept the same types.

    The order of ranges and lines does not matter up to 4 KiB. Beyond that, only equal texts have
    the same digits, since not all of their ranges are read.
    """
    accept = ",".join(accepts)
    if len(accept) > _MAX_ACCEPT_LENGTH:
        text = accept
    else:
        ranges = _parse_ranges(accept)
        text = ",".join(f"{name};q={quality:g}" for name, quality in sorted(ranges.items()))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _truncate_accept(accept: str) -> str:
    """Return the part of an Accept value with the ranges that end within the first 4 KiB."""
    return (
        accept
        if len(accept) <= _MAX_ACCEPT_LENGTH
        else accept[:_MAX_ACCEPT_LENGTH].rpartition(",")[0]
    )


@lru_cache(_CACHE_SIZE)
def _parse_ranges(accept: str) -> Mapping[str, float]:
    """Return the weight of each media range, the highest one if the range is repeated."""
    weights: dict[str, float] = {}
    for media_range in _RANGE.findall(accept):
        name, _, parameters = media_range.partition(";")
        name = name.strip().lower()
        if name:
            weights[name] = max(weights.get(name, 0.0), _parse_quality(parameters))
    return weights


def _parse_quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            return _parse_weight(value.strip())
    return 1.0


def _parse_weight(text: str) -> float:
    """Return a weight from 0 to 1; a malformed one counts as absent, which is 1."""
    return float(text[:5]) if _WEIGHT.fullmatch(text) else 1.0


# The Content-Types of manifests and blobs

_VENDOR: Final = re.compile(r"application/vnd\.[a-z0-9.+-]*")
_MANIFEST_WORDS: Final = ("manifest", "image.index")
"""Parts of the types of OCI, of both of Docker's schemas, and of artifacts."""

_MAX_CONTENT_TYPE_LENGTH: Final = 255
"""The maximum length of a type. RFC 6838, section 4.2, allows 127 characters on each side of the
slash."""

_PAGE_TYPES: Final = frozenset({"text/html", "application/xhtml+xml"})

_MESSAGE_TYPES: Final = frozenset({
    "application/json", "application/problem+json", "application/hal+json",
    "application/vnd.api+json", "application/vnd.error+json",
    "application/xml", "application/problem+xml", "application/javascript",
})  # fmt: skip


def drop_overlong(content_type: str) -> str:
    """Return a Content-Type as the cache stores it, or "" if it is longer than any type can be.

    The length is bounded because one is stored for each manifest that a repository holds.
    """
    return content_type if len(content_type) <= _MAX_CONTENT_TYPE_LENGTH else ""


def is_html(content_type: str) -> bool:
    """Return whether a Content-Type is that of a web page, which no content of a registry is."""
    return essence(content_type) in _PAGE_TYPES


def can_be_manifest(content_type: str) -> bool:
    """Return whether a Content-Type is used for manifests and nothing else."""
    # One pattern for both checks would backtrack over each place of the word, in a header whose
    # length the registry chooses.
    media_type = essence(content_type)
    return bool(_VENDOR.fullmatch(media_type)) and any(
        word in media_type for word in _MANIFEST_WORDS
    )


def can_be_blob(content_type: str) -> bool:
    """Return whether a Content-Type can be a blob's, and is not one of servers' own messages.

    Registries and CDNs send many types for blobs, most often octet-stream, or none at all. A
    registry that sends a blob as JSON names it in Docker-Content-Digest.
    """
    media_type = essence(content_type)
    return media_type not in _PAGE_TYPES | _MESSAGE_TYPES and not media_type.startswith("text/")
