"""Members: which digests a repository holds, as its registry has said, and to which callers.

A member is *shown* once the registry has let an anonymous caller read it in that repository.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from app.cache.authz.grants import Standing
from app.oci import media_types
from app.store.blobs import Content
from app.store.ledger import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedContent(Content):
    """Cached content, opened for a caller who may read it; `media_type` is the repository's.

    `seconds_left`: seconds for which the caller may read it. `public_seconds_left`: seconds for
    which shared caches may keep it; 0 unless it is public.
    """

    seconds_left: float
    public_seconds_left: float

    @classmethod
    def from_content(
        cls, content: Content, media_type: str, left: float, public_left: float
    ) -> Self:
        """Return the content with the media type and the rights it has in one repository."""
        return cls(
            blob=content.blob,
            size=content.size,
            media_type=media_type,
            stored_at=content.stored_at,
            location=content.location,
            seconds_left=left,
            public_seconds_left=public_left,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessState:
    """What is known about content that could not be opened for a caller.

    `has_grant`: the caller may read the repository. `is_member`: the repository holds the digest.
    `is_cached`: the bytes are cached, whoever may read them.
    """

    has_grant: bool
    is_member: bool
    is_cached: bool


@dataclass(frozen=True, slots=True)
class _ReportedContent:
    """What a registry has said about content: its size in bytes (None: unknown) and media type."""

    size: int | None
    media_type: str


def _confirm_member(standing: Standing, said: _ReportedContent) -> Member | None:
    """Return what a registry has newly confirmed of cached content; None if nothing is new.

    It must report the size that the content has.
    """
    if not _has_size(standing, said.size):
        return None
    known = standing.member
    # A media type from a GET is that of the bytes sent; some registries' HEADs report another.
    if known is None or (said.media_type and not known.media_type):
        return Member(said.media_type, is_public=standing.is_anonymous)
    return Member("", is_public=True) if standing.is_newly_public else None


def _has_size(standing: Standing, size: int | None) -> bool:
    """Return whether content is cached with this size in bytes; False if `size` is None."""
    return size is not None and standing.entry is not None and standing.entry.size == size


def _is_absent(known: Member | None, accepts: Sequence[str]) -> bool:
    """Return whether a 404 says that a repository does not hold a known member.

    Some registries answer 404 for a manifest whose media type the client does not accept. The
    member stays in that case.
    """
    return (
        known is None
        or not known.media_type
        or media_types.is_acceptable(known.media_type, accepts)
    )
