"""Members: which repository is known to hold which content."""

from dataclasses import dataclass

from app.oci.reference import Digest
from app.store.index import Index


@dataclass(frozen=True, slots=True)
class Member:
    """Content that a repository holds; `media_type` is what the registry calls it there, or "".

    `is_shown` tells whether nobody in particular has been let read it there.
    """

    media_type: str
    is_shown: bool


class Members:
    """What registries have said of their repositories; content that goes takes that along.

    A media type belongs to the repository that it was said for: the same bytes may be an index in
    one and a manifest in another, and nobody is to choose what they are elsewhere.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

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
        media_type: str = "",
        *,
        shown: bool = False,
    ) -> None:
        """Note what the registry has said, to nobody in particular if `shown`; raise StoreError."""
        with self._index.writing() as connection:
            connection.execute(
                "INSERT INTO members(registry, repository, digest, media_type, shown) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT(registry, digest, repository) DO UPDATE "
                "SET media_type = coalesce(nullif(excluded.media_type, ''), media_type), "
                "shown = max(shown, excluded.shown)",
                (registry, repository, digest, media_type, shown),
            )

    def remove(self, registry: str, repository: str, digest: Digest) -> None:
        """Forget it, since the registry has said that it is not there; raise StoreError."""
        with self._index.writing() as connection:
            connection.execute(
                "DELETE FROM members WHERE registry = ? AND digest = ? AND repository = ?",
                (registry, digest, repository),
            )
