"""Origins: scheme, host and port (RFC 6454, section 4). Credentials are for one origin."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

Origin = tuple[str, str, int]

_URLS: Final = 128
"""URLs whose origin is cached, as many as urllib.parse caches: each is needed several times."""

AUTHORITY: Final = re.compile(
    r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]{1,5})?"
)
"""An authority that all URL parsers read alike: without userinfo, and with no character in the host
that some of them decode."""


@lru_cache(_URLS)
def parse_origin(url: str) -> Origin:
    """Return the scheme, host and port of a URL, with the default port if it names none.

    Raise ValueError if the port is not a number from 0 to 65535.
    """
    parts = urlsplit(url)
    return (
        parts.scheme,
        parts.hostname or "",
        parts.port or (443 if parts.scheme == "https" else 80),
    )
