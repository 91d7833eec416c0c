"""Scheme, host and port: what credentials are for (RFC 6454, section 4)."""

from urllib.parse import urlsplit

Origin = tuple[str, str, int]


def origin(url: str) -> Origin:
    """Return the origin of a URL, its default port written out."""
    parts = urlsplit(url)
    return (
        parts.scheme,
        parts.hostname or "",
        parts.port or (443 if parts.scheme == "https" else 80),
    )
