"""Members: which repository holds which content, as far as the registry has said so."""

from dataclasses import dataclass
from typing import Final

from app.oci.reference import Digest
from app.store import refusals
from app.store.clock import Clock
from app.store.index import Index


@dataclass(frozen=True, slots=True)
class Member:
    """What is known of content in a repository.

    `media_type` is the type that the registry reports there, or "" if it is unknown. `is_public`
    says whether the registry has let an anonymous request read the content there.
    """

    media_type: str
    is_public: bool


PLAIN: Final = Member("", is_public=False)
"""A blob, if no anonymous request has been allowed to read it."""


class Members:
    """Records which content registries have said their repositories hold.

    When content is removed, its members go with it. A media type applies to one repository only:
    the same bytes may be an index in one and a manifest in another, and nobody may choose what they
    are in somebody else's repository.
    """

    def __init__(self, index: Index, clock: Clock) -> None:
        self._index = index
        self._clock = clock

    def lookup(self, registry: str, repository: str, digest: Digest) -> Member | None:
        """Return the member, or None if it is unknown or the index cannot be read.

        None does not mean that the repository lacks the content.
        """
        row = self._index.query_first(
            "SELECT media_type, shown FROM members "
            "WHERE registry = ? AND digest = ? AND repository = ?",
            registry, digest, repository,
        )  # fmt: skip
        return None if row is None else Member(row[0], bool(row[1]))

    def record(
        self,
        registry: str,
        repository: str,
        digest: Digest,
        member: Member = PLAIN,
        *,
        asked: float,
    ) -> None:
        """Record that the registry has confirmed a member; raise StoreError.

        `asked` is when the registry was asked, by the store's clock. If the registry has said since
        then that the content is not there, write nothing. A media type replaces the known one; an
        empty one does not. Content that was once shown to an anonymous request stays shown.
        """
        subject = (registry, repository, refusals.build_digest_subject(digest))
        with self._index.transaction() as connection:
            if refusals.is_late(connection, self._clock, subject, asked):
                return
            connection.execute(
                "INSERT INTO members(registry, repository, digest, media_type, shown) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT(registry, digest, repository) DO UPDATE "
                "SET media_type = coalesce(nullif(excluded.media_type, ''), media_type), "
                "shown = max(shown, excluded.shown)",
                (registry, repository, digest, member.media_type, member.is_public),
            )

    def mark_public(self, registry: str, repository: str, digest: Digest) -> None:
        """Record that an anonymous request was allowed to read a member; raise StoreError.

        If the member is unknown, do nothing.
        """
        with self._index.transaction() as connection:
            connection.execute(
                "UPDATE members SET shown = 1 WHERE registry = ? AND digest = ? AND repository = ?",
                (registry, digest, repository),
            )

    def remove(self, registry: str, repository: str, digest: Digest) -> None:
        """Delete a member, since the registry has just said that the content is not there.

        Record that refusal too; raise StoreError.
        """
        with self._index.transaction() as connection:
            connection.execute(
                "DELETE FROM members WHERE registry = ? AND digest = ? AND repository = ?",
                (registry, digest, repository),
            )
            refusals.record(
                connection,
                self._clock,
                (registry, repository, refusals.build_digest_subject(digest)),
            )
