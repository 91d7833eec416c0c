"""Members: which digests a repository holds, as its registry has said, and to which callers.

A member is *shown* once the registry has let an anonymous caller read it in that repository.

The methods of `RegistryMembers` wait for the disk, and are called on its threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from app.cache.authz.callers import Caller
from app.cache.authz.grants import RegistryGrants
from app.oci import media_types
from app.oci.reference import Digest, RepositoryName
from app.store.contents import Content
from app.store.members import Member
from app.store.store import Store


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
            file=content.file,
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
class ReportedContent:
    """What a registry has said about content: its size in bytes (None: unknown) and media type.

    `requested_at` is when the request began, by the store's clock.
    """

    size: int | None
    media_type: str
    requested_at: float


class RegistryMembers:
    """The members of one registry; methods that write raise StoreError."""

    def __init__(self, registry: str, store: Store, rights: RegistryGrants) -> None:
        self._registry = registry
        self._store = store
        self._grants = rights

    def record(
        self, caller: Caller, name: RepositoryName, digest: Digest, sent: tuple[str, float]
    ) -> None:
        """Record that a repository holds a digest, which the caller may read there.

        `sent` is its media type, and the moment of the request by the store's clock.
        """
        media_type, asked = sent
        member = Member(media_type, is_public=self._grants.is_anonymous(caller, name))
        self._store.members.record(self._registry, name, digest, member, asked=asked)

    def confirm(
        self, caller: Caller, name: RepositoryName, digest: Digest, said: ReportedContent
    ) -> None:
        """Record that a repository holds a cached digest, if the registry reports the same size."""
        if not self.has_size(digest, said.size):
            return
        known = self._store.members.lookup(self._registry, name, digest)
        # A media type from a GET is that of the bytes sent; some registries' HEADs report another.
        if known is None or (said.media_type and not known.media_type):
            self.record(caller, name, digest, (said.media_type, said.requested_at))
        elif self.is_newly_public(caller, name, known):
            self.record(caller, name, digest, ("", said.requested_at))

    def mark_public(self, name: RepositoryName, digest: Digest) -> None:
        """Record that an anonymous caller was let read a member."""
        self._store.members.mark_public(self._registry, name, digest)

    def has_size(self, digest: Digest, size: int | None) -> bool:
        """Return whether the digest is cached with this size in bytes; False if `size` is None."""
        return size is not None and size == self._store.lookup_size(self._registry, digest)

    def record_absence(self, name: RepositoryName, digest: Digest, accepts: Sequence[str]) -> None:
        """Record that the registry says that a repository does not hold a digest.

        Some registries answer 404 for a manifest whose media type the client does not accept. The
        member stays in that case.
        """
        self._grants.revocation_count += 1
        known = self._store.members.lookup(self._registry, name, digest)
        if (
            known is None
            or not known.media_type
            or media_types.is_acceptable(known.media_type, accepts)
        ):
            self._store.members.remove(self._registry, name, digest)

    def is_newly_public(self, caller: Caller, name: RepositoryName, member: Member) -> bool:
        """Return whether the caller is the first anonymous one who may read the member."""
        return not member.is_public and self._grants.is_anonymous(caller, name)

    def find_unconfirmed(
        self, caller: Caller, name: RepositoryName, digests: Sequence[Digest]
    ) -> tuple[list[Digest], list[Digest]]:
        """Return the digests that are cached but not known members, and those that are not cached.

        For an anonymous caller, a member that no anonymous caller was let read is not known.
        """
        found, absent = list[Digest](), list[Digest]()
        for digest in digests:
            member = self._store.members.lookup(self._registry, name, digest)
            if not self._store.has(self._registry, digest):
                absent.append(digest)
            elif member is None or self.is_newly_public(caller, name, member):
                found.append(digest)
        return found, absent

    def open(
        self, name: RepositoryName, digest: Digest, *, shown: bool = False
    ) -> tuple[Content, Member] | None:
        """Return a member's cached content, opened, and what is known about the member.

        Return None if the digest is not a known member or not cached. With `shown`, only members
        that an anonymous caller was let read count.
        """
        member = self._store.members.lookup(self._registry, name, digest)
        if member is None or (shown and not member.is_public):
            return None
        content = self._store.open(self._registry, digest)
        return None if content is None else (content, member)

    def lookup_access(self, caller: Caller, name: RepositoryName, digest: Digest) -> AccessState:
        """Return what is known about content that could not be opened; this grants nothing."""
        return AccessState(
            has_grant=self._grants.has_grant(caller, name),
            is_member=self._store.members.lookup(self._registry, name, digest) is not None,
            is_cached=self._store.has(self._registry, digest),
        )
