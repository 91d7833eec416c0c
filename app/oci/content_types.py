"""Whether a Content-Type can be that of a manifest, or of a blob."""

import re
from typing import Final

from app.oci import accept

_VENDOR: Final = re.compile(r"application/vnd\.[a-z0-9.+-]*")
_OF_MANIFESTS: Final = ("manifest", "image.index")
"""What stands in OCI's types, Docker's of both schemas, and those of artifacts."""

_LONGEST: Final = 255
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
    return content_type if len(content_type) <= _LONGEST else ""


def is_page(content_type: str) -> bool:
    """Tell whether it is that of a page for people, which nothing of a registry's is."""
    return accept.essence(content_type) in _OF_PEOPLE


def can_be_manifest(content_type: str) -> bool:
    """Tell whether it is one of manifests and of nothing else."""
    # One pattern for both would try each place of the word, to the end of a registry's header.
    kind = accept.essence(content_type)
    return bool(_VENDOR.fullmatch(kind)) and any(word in kind for word in _OF_MANIFESTS)


def can_be_blob(content_type: str) -> bool:
    """Tell whether it is not one that servers have for their own words.

    Registries and CDNs have many for blobs, above all octet-stream, or none at all. One that calls
    a blob JSON says which it is (Docker-Content-Digest).
    """
    kind = accept.essence(content_type)
    return kind not in _OF_PEOPLE | _OF_PROGRAMS and not kind.startswith("text/")
