"""Scheme, host and port: what credentials are for (RFC 6454, section 4)."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

Origin = tuple[str, str, int]

_URLS: Final = 128
"""URLs that are remembered, as many as urllib.parse does: each is asked for several times."""

AUTHORITY: Final = re.compile(
    r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]{1,5})?"
)
"""What all URL parsers read alike: no userinfo, and nothing in a host that some decode."""


@lru_cache(_URLS)
def origin(url: str) -> Origin:
    """Return the origin of a URL, its default port written out."""
    parts = urlsplit(url)
    return (
        parts.scheme,
        parts.hostname or "",
        parts.port or (443 if parts.scheme == "https" else 80),
    )
