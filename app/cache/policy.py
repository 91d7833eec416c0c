"""For how long what is kept counts, and how it is handed out."""

from dataclasses import dataclass, field
from typing import Final

from app.spools.lead import UnreadLimits

MARGIN: Final = 60.0
"""Seconds before its end from which on a token is shared with nobody new: pulls take their time."""

AHEAD: Final = 64 * 1024 * 1024
"""Bytes: a range that begins further ahead of a running fetch is asked of the registry instead."""

MANIFEST_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of a manifest: no registry's are larger (app/upstream reads no more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What an operator may decide.

    The `ttl`s are seconds: of a grant, of a tag that is not asked for again, of what is public.
    `unread` is how far a fetch goes on that nobody reads, `accel_location` where nginx sends what
    is kept. With `verify_blobs`, no whole blob goes out
    unverified, also where the disk fails.
    """

    grant_ttl: float = 300.0
    tag_ttl: float = 0.0
    stale_ttl: float = 7 * 24 * 3600.0
    unread: UnreadLimits = field(default_factory=UnreadLimits)
    accel_location: str | None = None
    verify_blobs: bool = False
