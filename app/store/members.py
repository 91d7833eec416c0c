"""Members: which repository is known to hold which content."""

from dataclasses import dataclass
from typing import Final

from app.oci.reference import Digest
from app.store import refusals
from app.store.clock import Clock
from app.store.index import Index


@dataclass(frozen=True, slots=True)
class Member:
    """Content that a repository holds; `media_type` is what the registry calls it there, or "".

    `is_shown` tells whether nobody in particular has been let read it there.
    """

    media_type: str
    is_shown: bool


PLAIN: Final = Member("", is_shown=False)
"""A blob that was shown to somebody in particular."""


class Members:
    """What registries have said of their repositories; content that goes takes that along.

    A media type belongs to the repository that it was said for: the same bytes may be an index in
    one and a manifest in another, and nobody is to choose what they are elsewhere.
    """

    def __init__(self, index: Index, clock: Clock) -> None:
        self._index = index
        self._clock = clock

    def find(self, registry: str, repository: str, digest: Digest) -> Member | None:
        """Return what was said of it, or None: it may be there all the same."""
        row = self._index.first(
            "SELECT media_type, shown FROM members "
            "WHERE registry = ? AND digest = ? AND repository = ?",
            registry, digest, repository,
        )  # fmt: skip
        return None if row is None else Member(row[0], bool(row[1]))

    def add(
        self,
        registry: str,
        repository: str,
        digest: Digest,
        member: Member = PLAIN,
        *,
        asked: float,
    ) -> None:
        """Note what the registry, asked at that moment of the store's clock, has said.

        A media type replaces the one that was known, and what was shown once stays so. Write
        nothing if the registry has said since then that the content is not there.
        Raise StoreError.
        """
        subject = (registry, repository, refusals.digest(digest))
        with self._index.writing() as connection:
            if refusals.is_late(connection, self._clock, subject, asked):
                return
            connection.execute(
                "INSERT INTO members(registry, repository, digest, media_type, shown) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT(registry, digest, repository) DO UPDATE "
                "SET media_type = coalesce(nullif(excluded.media_type, ''), media_type), "
                "shown = max(shown, excluded.shown)",
                (registry, repository, digest, member.media_type, member.is_shown),
            )

    def show(self, registry: str, repository: str, digest: Digest) -> None:
        """Note that nobody in particular was let read what is a member; raise StoreError."""
        with self._index.writing() as connection:
            connection.execute(
                "UPDATE members SET shown = 1 WHERE registry = ? AND digest = ? AND repository = ?",
                (registry, digest, repository),
            )

    def remove(self, registry: str, repository: str, digest: Digest) -> None:
        """Note that the registry has just said that it is not there; raise StoreError."""
        with self._index.writing() as connection:
            connection.execute(
                "DELETE FROM members WHERE registry = ? AND digest = ? AND repository = ?",
                (registry, digest, repository),
            )
            refusals.record(
                connection, self._clock, (registry, repository, refusals.digest(digest))
            )
