"""What a repository holds of what is kept, to look through it and to let it go."""

from dataclasses import dataclass
from io import FileIO
from typing import Final

from app.oci.reference import Digest
from app.store.errors import StoreError, translated
from app.store.index import Index
from app.store.places import Places
from app.store.room import Room

_OF_ONE: Final = "registry = ?1 AND repository = ?2"


@dataclass(frozen=True, slots=True)
class Held:
    """Content that a repository is known to hold, and what the registry calls it there."""

    digest: Digest
    media_type: str
    size: int


class Holdings:
    """For an operator, not for clients: nobody is asked who may read. All may raise StoreError."""

    def __init__(self, places: Places, index: Index, room: Room) -> None:
        self._places = places
        self._index = index
        self._room = room

    def of(self, registry: str, repository: str) -> list[Held]:
        """Return what is kept of a repository."""
        with self._index.reading() as connection:
            rows = connection.execute(
                "SELECT digest, members.media_type, size FROM members "  # noqa: S608 - a constant
                f"JOIN entries USING (registry, digest) WHERE {_OF_ONE}",
                (registry, repository),
            ).fetchall()
        return [Held(Digest(digest), media_type, size) for digest, media_type, size in rows]

    def manifest_of(self, registry: str, repository: str) -> Held | None:
        """Return any manifest that is kept of a repository."""
        with self._index.reading() as connection:
            row = connection.execute(
                "SELECT digest, members.media_type, size FROM members "  # noqa: S608 - a constant
                "JOIN entries USING (registry, digest) "
                f"WHERE {_OF_ONE} AND members.media_type != '' LIMIT 1",
                (registry, repository),
            ).fetchone()
        return None if row is None else Held(Digest(row[0]), row[1], row[2])

    def read(self, registry: str, digest: Digest, most: int) -> bytes:
        """Return content, which is not used by that; b"" where there is none, or too much."""
        try:
            with translated("read"), FileIO(self._places.path(registry, digest)) as file:
                data = file.read(most + 1) or b""
        except StoreError:
            return b""
        return data if len(data) <= most else b""

    def release(self, registry: str, repository: str, digests: list[Digest]) -> list[Digest]:
        """Forget that a repository holds something; return what went, since no other one does."""
        with self._index.writing() as connection:
            released = [
                digest
                for digest in digests
                if connection.execute(
                    f"DELETE FROM members WHERE {_OF_ONE} AND digest = ?3",  # noqa: S608 - a constant
                    (registry, repository, digest),
                ).rowcount
                and connection.execute(
                    "SELECT 1 FROM members WHERE registry = ? AND digest = ?", (registry, digest)
                ).fetchone()
                is None
            ]
        return [digest for digest in released if self._room.drop(registry, digest)]
