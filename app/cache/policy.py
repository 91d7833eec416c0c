"""For how long what is kept counts."""

from dataclasses import dataclass
from typing import Final

MARGIN: Final = 60.0
"""Seconds before its end from which on a token is shared with nobody new: pulls take their time."""

AHEAD: Final = 64 * 1024 * 1024
"""Bytes: a range that begins further ahead of a running fetch is asked of the registry instead."""

MANIFEST_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of a manifest: no registry's are larger (app/upstream reads no more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Seconds: of a grant, of a tag that is not asked for again, and of what is public."""

    grant_ttl: float = 300.0
    tag_ttl: float = 0.0
    stale_ttl: float = 7 * 24 * 3600.0
