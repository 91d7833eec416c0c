"""What repositories hold, as their registry has said, and whether to nobody in particular.

Every method waits for the disk, and is called on its threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from app.cache.authz.callers import Caller
from app.cache.authz.grants import Rights
from app.oci import media_types
from app.oci.reference import Digest, RepositoryName
from app.store.contents import Content
from app.store.members import Member
from app.store.store import Store

# What is kept, opened for somebody who may read it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Content):
    """Content of a repository: `media_type` is what it is called there.

    `left` is for how many seconds it may be read, `public_left` for how many others on the way may
    keep it: 0 unless it is public.
    """

    left: float
    public_left: float

    @classmethod
    def of(cls, content: Content, media_type: str, left: float, public_left: float) -> Self:
        """Return content as a repository has it."""
        return cls(
            file=content.file,
            size=content.size,
            media_type=media_type,
            taken=content.taken,
            location=content.location,
            left=left,
            public_left=public_left,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known where a caller may not be given what is kept, or nothing is.

    `permitted` is the caller to read the repository, which `holds` the content; the content
    `is_kept`, whoever may read it.
    """

    permitted: bool
    holds: bool
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Said:
    """What a registry, asked at a moment of the store's clock, has said of content."""

    size: int | None
    media_type: str
    asked: float


class Membership:
    """The members of one registry; what writes raises StoreError."""

    def __init__(self, registry: str, store: Store, rights: Rights) -> None:
        self._registry = registry
        self._store = store
        self._rights = rights

    def add(
        self, caller: Caller, name: RepositoryName, digest: Digest, sent: tuple[str, float]
    ) -> None:
        """Note that a repository holds what a caller may read there.

        `sent` is its media type, and when it was asked for.
        """
        media_type, asked = sent
        member = Member(media_type, is_shown=self._rights.is_nobody(caller, name))
        self._store.members.add(self._registry, name, digest, member, asked=asked)

    def confirm(self, caller: Caller, name: RepositoryName, digest: Digest, said: Said) -> None:
        """Note that a repository holds what is kept, of which the registry tells the same size."""
        if not self.has_size(digest, said.size):
            return
        known = self._store.members.find(self._registry, name, digest)
        # A GET has told the type of the bytes that it sent; some registries' HEADs tell another.
        if known is None or (said.media_type and not known.media_type):
            self.add(caller, name, digest, (said.media_type, said.asked))
        elif self.is_news(caller, name, known):
            self.add(caller, name, digest, ("", said.asked))

    def show(self, name: RepositoryName, digest: Digest) -> None:
        """Note that nobody in particular was let read what a repository holds."""
        self._store.members.show(self._registry, name, digest)

    def has_size(self, digest: Digest, size: int | None) -> bool:
        """Tell whether something is kept, and has this size."""
        return size is not None and size == self._store.size(self._registry, digest)

    def lost(self, name: RepositoryName, digest: Digest, accepts: Sequence[str]) -> None:
        """Note that a repository does not hold something, as its registry says.

        Of a manifest that a client does not take some say 404 to this client: that says nothing.
        """
        self._rights.changes += 1
        known = self._store.members.find(self._registry, name, digest)
        if (
            known is None
            or not known.media_type
            or media_types.acceptable(known.media_type, accepts)
        ):
            self._store.members.remove(self._registry, name, digest)

    def is_news(self, caller: Caller, name: RepositoryName, member: Member) -> bool:
        """Tell whether a caller is the first of nobody in particular who may read it."""
        return not member.is_shown and self._rights.is_nobody(caller, name)

    def unconfirmed(
        self, caller: Caller, name: RepositoryName, digests: Sequence[Digest]
    ) -> tuple[list[Digest], list[Digest]]:
        """Return what is kept and not known to be a member, and what is not kept.

        For nobody in particular, a member that nobody was let read counts as not known.
        """
        found, absent = list[Digest](), list[Digest]()
        for digest in digests:
            member = self._store.members.find(self._registry, name, digest)
            if not self._store.has(self._registry, digest):
                absent.append(digest)
            elif member is None or self.is_news(caller, name, member):
                found.append(digest)
        return found, absent

    def open(
        self, name: RepositoryName, digest: Digest, *, shown: bool = False
    ) -> tuple[Content, Member] | None:
        """Open what a repository is known to hold, and tell what is known of it there.

        If `shown`, only what nobody in particular was let read.
        """
        member = self._store.members.find(self._registry, name, digest)
        if member is None or (shown and not member.is_shown):
            return None
        content = self._store.open(self._registry, digest)
        return None if content is None else (content, member)

    def standing(self, caller: Caller, name: RepositoryName, digest: Digest) -> Standing:
        """Tell how it stands with what could not be opened."""
        return Standing(
            permitted=self._rights.permits(caller, name),
            holds=self._store.members.find(self._registry, name, digest) is not None,
            is_kept=self._store.has(self._registry, digest),
        )
