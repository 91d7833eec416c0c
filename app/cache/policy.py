"""How long cached content and grants count, and how content is sent."""

from dataclasses import dataclass, field
from typing import Final

from app.transfer.shared_blob import CONNECTIONS
from app.transfer.watch import UnreadLimits

TOKEN_EXPIRY_MARGIN: Final = 60.0
"""Seconds before its expiry from which a token is no longer given to new clients, since a pull
takes time."""

MAX_SKIPPED: Final = 64 * 1024 * 1024
"""Bytes that are read and thrown away at most, if a registry answers a range with the whole."""

MAX_WAITS: Final = 2
"""Fetches of others that a request waits for; the first may have been for another key that shares
its lock, or may have failed."""

MANIFEST_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of the largest manifest that is kept (app/upstream reads no more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """The settings of the cache that an operator can configure.

    `grant_ttl`: seconds for which a grant counts. `tag_ttl`: seconds in which the registry is not
    asked again what a tag means. `stale_ttl`: seconds for which a repository counts as public when
    the registry cannot be asked. `unread_limits`: for how many bytes a fetch continues unread.
    `fetch_connections`: the most connections over which a blob is fetched.
    `resume_budget`: seconds without a byte after which no further fetch of a blob begins.
    `accel_location`: the location from which nginx sends cached blobs; None if it does not.
    `verify_blobs`: send no whole blob unverified, even if the disk fails.
    """

    grant_ttl: float = 300.0
    tag_ttl: float = 0.0
    stale_ttl: float = 7 * 24 * 3600.0
    unread_limits: UnreadLimits = field(default_factory=UnreadLimits)
    fetch_connections: int = CONNECTIONS
    resume_budget: float = 60.0
    accel_location: str | None = None
    verify_blobs: bool = False
