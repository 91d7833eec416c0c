"""What an operator does with the store, and what each start does for it."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOENT
from io import FileIO
from typing import Final

from app.oci.reference import Digest, digest_of_file
from app.store import entries
from app.store.entries import Described, Entry
from app.store.errors import StoreError, translated
from app.store.eviction import Room
from app.store.index import Index
from app.store.layout import Found, Places
from app.store.schema import MOST
from app.store.staging import Aside

# What a repository holds of what is kept, to look through it and to let it go.

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


_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Share:
    """What one registry has in the store."""

    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is in the store: content by registry, and rows by table."""

    registries: dict[str, Share]
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that was looked at, or an entry without one; `fault` is "" where all is well."""

    registry: str
    digest: Digest
    size: int
    fault: str


class Upkeep:
    """Counts, verifies, removes and tidies; everything may raise StoreError."""

    def __init__(self, places: Places, index: Index, aside: Aside, room: Room) -> None:
        self._places = places
        self._index = index
        self._aside = aside
        self._room = room

    def statistics(self) -> Statistics:
        """Count what is there, at a cost that does not depend on it."""
        with self._index.reading() as connection:
            totals = connection.execute(
                "SELECT registry, entries, bytes FROM totals WHERE entries > 0 ORDER BY registry"
            ).fetchall()
            counts = connection.execute("SELECT name, present FROM counts").fetchall()
        return Statistics(
            {registry: Share(number, held) for registry, number, held in totals}, dict(counts)
        )

    def verify(self) -> Iterator[Checked]:
        """Read every file, and yield what was found; what is wrong is taken away.

        A file that is right and has no entry gets one.
        """
        with translated("verify"):
            for found in self._places.walk():
                if (checked := self._checked(found)) is not None:
                    yield checked
            for entry in self._entries():
                if self._lacks_file(entry):
                    self._room.forget(entry)
                    yield Checked(entry.registry, entry.digest, entry.size, "the file is missing")

    def remove(self, digest: Digest) -> int:
        """Take content away, whichever registry it is of; return how many entries went."""
        return self._remove(lambda entry: entry.digest == digest)

    def remove_repository(self, registry: str, repository: str) -> int:
        """Forget a repository, and take away what no other one is known to hold.

        Return how many entries went.
        """
        with self._index.writing() as connection:
            held = connection.execute(
                "SELECT digest FROM members AS ours WHERE registry = ?1 AND repository = ?2 "
                "AND NOT EXISTS (SELECT 1 FROM members WHERE registry = ?1 "
                "AND digest = ours.digest AND repository != ?2)",
                (registry, repository),
            ).fetchall()
            for table in ("members", "grants", "publics"):
                connection.execute(
                    f"DELETE FROM {table} WHERE registry = ? AND repository = ?",  # noqa: S608 - three names
                    (registry, repository),
                )
        return sum(self._room.drop(registry, Digest(digest)) for (digest,) in held)

    def remove_older(self, seconds: float) -> int:
        """Take away what came longer ago, by the wall clock; return how many entries went."""
        since = time.time() - seconds
        return self._remove(lambda entry: entry.taken <= since)

    def remove_unused(self, seconds: float) -> int:
        """Take away what was used last longer ago, as `remove_older` does."""
        since = time.time() - seconds
        return self._remove(lambda entry: entry.used_at <= since)

    def remove_all(self) -> int:
        """Take all content away, and forget all that is known; return how many entries went.

        Refusals stay: an answer that is on its way may be older than one of them.
        """
        with self._index.writing() as connection:
            for table in MOST.keys() - {"refusals"}:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
        return self._remove(lambda _: True)

    def tidy(self) -> None:
        """End what dead processes had begun, and take away what they have left."""
        with translated("tidy"):
            for folder in self._aside.dead():
                with suppress(FileNotFoundError):
                    for file in folder.iterdir():
                        file.unlink()
                    folder.rmdir()
            with self._index.reading() as connection:
                owners = entries.owners(connection)
            for owner in owners:
                if not (self._places.aside / owner).exists():
                    with self._index.writing() as connection:
                        entries.settle(connection, self._places, owner)

    def _checked(self, found: Found) -> Checked | None:
        """Verify one file; None if it has gone meanwhile."""
        try:
            with FileIO(found.path) as file:
                right = digest_of_file(file, found.digest) == found.digest
        except OSError as error:
            if error.errno == ENOENT:
                return None
            right = False  # what cannot be read is as good as wrong
        with self._index.reading() as connection:
            entry = entries.find(connection, found.registry, found.digest)
        if right and entry is None and not found.path.exists():
            return None  # it was evicted while it was read
        fault = self._mend(found, entry, right=right)
        return Checked(found.registry, found.digest, found.size, fault)

    def _lacks_file(self, entry: Entry) -> bool:
        if self._places.path(entry.registry, entry.digest).exists():
            return False
        # What is evicted meanwhile loses its entry first.
        with self._index.reading() as connection:
            return entries.find(connection, entry.registry, entry.digest) is not None

    def _mend(self, found: Found, entry: Entry | None, *, right: bool) -> str:
        described = Described(
            registry=found.registry, digest=found.digest, size=found.size, media_type=""
        )
        if not right:
            if entry is None:
                self._room.clear(described)
            else:
                self._room.forget(entry)
            return "the bytes are wrong"
        if entry is not None and entry.size == found.size:
            return ""
        with self._index.writing() as connection:
            entries.put(connection, described)
        return "it had no entry" if entry is None else "its entry had another size"

    def _remove(self, unwanted: Callable[[Entry], bool]) -> int:
        found = (entry for entry in self._entries() if unwanted(entry))
        return sum(self._room.drop(entry.registry, entry.digest) for entry in found)

    def _entries(self) -> Iterator[Entry]:
        last = 0
        while True:
            with self._index.reading() as connection:
                some = entries.after(connection, last, _BATCH)
            if not some:
                return
            yield from some
            last = some[-1].id
