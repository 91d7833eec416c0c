"""The rows of what is kept; each function is part of its caller's transaction."""

import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from app.oci.reference import Digest
from app.store.layout import Places

_COLUMNS: Final = "id, registry, digest, size, media_type, taken, used, used_at"
_NEXT_USE: Final = "(SELECT coalesce(max(used), 0) + 1 FROM entries)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Content that becomes an entry."""

    registry: str
    digest: Digest
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a file of content.

    `taken` and `used_at` are seconds of the wall clock; `used` is no time, but an order.
    """

    id: int
    registry: str
    digest: Digest
    size: int
    media_type: str
    taken: float
    used: int
    used_at: float

    @property
    def described(self) -> Described:
        """What the file is."""
        return Described(
            registry=self.registry,
            digest=self.digest,
            size=self.size,
            media_type=self.media_type,
        )


def find(connection: sqlite3.Connection, registry: str, digest: str) -> Entry | None:
    """Return one entry."""
    query = f"SELECT {_COLUMNS} FROM entries WHERE registry = ? AND digest = ?"  # noqa: S608 - constants
    row = connection.execute(query, (registry, digest)).fetchone()
    return None if row is None else _entry(row)


def after(connection: sqlite3.Connection, last: int, most: int) -> list[Entry]:
    """Return some entries in the order of their ids, which are never used again."""
    query = f"SELECT {_COLUMNS} FROM entries WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - constants
    return [_entry(row) for row in connection.execute(query, (last, most))]


def least_used(connection: sqlite3.Connection, size: int, most: int) -> list[Entry]:
    """Return what was used longest ago: as much as holds so many bytes, or all that may be."""
    found, held = list[Entry](), 0
    query = f"SELECT {_COLUMNS} FROM entries ORDER BY used LIMIT ?"  # noqa: S608 - constants
    for row in connection.execute(query, (most,)):
        if held >= size:
            break
        found.append(_entry(row))
        held += found[-1].size
    return found


def put(connection: sqlite3.Connection, content: Described) -> None:
    """Make content the most lately used entry; what was there of it is replaced."""
    connection.execute(
        "INSERT INTO entries(registry, digest, size, media_type, taken, used_at, used) "  # noqa: S608 - a constant
        f"VALUES (?1, ?2, ?3, ?4, ?5, ?5, {_NEXT_USE}) "
        "ON CONFLICT(registry, digest) DO UPDATE SET size = excluded.size, "
        "taken = excluded.taken, used = excluded.used, used_at = excluded.used_at, "
        "media_type = coalesce(nullif(excluded.media_type, ''), media_type)",
        (content.registry, content.digest, content.size, content.media_type, time.time()),
    )


def touch(connection: sqlite3.Connection, uses: Mapping[int, float]) -> None:
    """Make entries the most lately used, the last of them most of all; tell when, by their ids."""
    connection.executemany(
        f"UPDATE entries SET used = {_NEXT_USE}, used_at = ? WHERE id = ?",  # noqa: S608 - a constant
        [(moment, identity) for identity, moment in uses.items()],
    )


def total(connection: sqlite3.Connection) -> int:
    """Return the bytes of all entries."""
    (held,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM totals").fetchone()
    return int(held)


def _entry(row: tuple[int, str, str, int, str, float, int, float]) -> Entry:
    identity, registry, digest, size, media_type, taken, used, used_at = row
    return Entry(identity, registry, Digest(digest), size, media_type, taken, used, used_at)


# Notes of files that come or go, so that nothing is lost of what a dead process had begun.
#
# A file and its row cannot change at once. So the index says beforehand what is about to be done,
# and whoever finds the note of a dead process ends it.


@dataclass(frozen=True, slots=True)
class Move:
    """One such note, and the content it is of."""

    id: int
    content: Described


def come(connection: sqlite3.Connection, owner: str, content: Described) -> Move:
    """Note that a file is about to come."""
    return _noted(connection, owner, "in", content)


def go(connection: sqlite3.Connection, owner: str, content: Described) -> Move:
    """Note that a file is to go."""
    return _noted(connection, owner, "out", content)


def arrived(connection: sqlite3.Connection, move: Move) -> None:
    """Make an entry of a file that has come."""
    put(connection, move.content)
    connection.execute("DELETE FROM moving WHERE id = ?", (move.id,))


def leave(connection: sqlite3.Connection, owner: str, leaving: Iterable[Entry]) -> list[Move]:
    """Take entries away and note that their files are to go; return those notes.

    One that was replaced or used since it was read stays.
    """
    return [
        _noted(connection, owner, "out", entry.described)
        for entry in leaving
        if connection.execute(
            "DELETE FROM entries WHERE id = ? AND used = ?", (entry.id, entry.used)
        ).rowcount
    ]


def gone(connection: sqlite3.Connection, places: Places, move: Move) -> int:
    """Unlink a file that nothing holds any more; return the bytes that are freed by it.

    It stays if it came back meanwhile, or is about to: a file and its entry change together only
    in here, where all who write wait for each other. Raise OSError.
    """
    content = move.content
    freed = 0
    if not _is_wanted(connection, move):
        with suppress(FileNotFoundError, NotADirectoryError):
            places.path(content.registry, content.digest).unlink()
            freed = content.size
    connection.execute("DELETE FROM moving WHERE id = ?", (move.id,))
    return freed


def leaving(connection: sqlite3.Connection) -> int:
    """Return the bytes of the files that are about to go."""
    query = "SELECT coalesce(sum(size), 0) FROM moving WHERE direction = 'out'"
    (held,) = connection.execute(query).fetchone()
    return int(held)


def owners(connection: sqlite3.Connection) -> list[str]:
    """Return all who have notes here."""
    return [owner for (owner,) in connection.execute("SELECT DISTINCT owner FROM moving")]


def settle(connection: sqlite3.Connection, places: Places, owner: str) -> None:
    """End what one has begun: what has come is an entry, and what was to go goes."""
    query = "SELECT id, direction, registry, digest, size, media_type FROM moving WHERE owner = ?"
    for identity, direction, registry, digest, size, media_type in connection.execute(
        query, (owner,)
    ).fetchall():
        move = Move(
            identity,
            Described(registry=registry, digest=Digest(digest), size=size, media_type=media_type),
        )
        if direction == "in":
            _settle(connection, places, move)
        else:
            gone(connection, places, move)


def _settle(connection: sqlite3.Connection, places: Places, move: Move) -> None:
    content = move.content
    path = places.path(content.registry, content.digest)
    with suppress(FileNotFoundError, NotADirectoryError):
        if path.lstat().st_size == content.size:
            arrived(connection, move)
            return
    gone(connection, places, move)


def _is_wanted(connection: sqlite3.Connection, move: Move) -> bool:
    (wanted,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM entries WHERE registry = ?1 AND digest = ?2) "
        "OR EXISTS (SELECT 1 FROM moving "
        "WHERE direction = 'in' AND registry = ?1 AND digest = ?2 AND id != ?3)",
        (move.content.registry, move.content.digest, move.id),
    ).fetchone()
    return bool(wanted)


def _noted(connection: sqlite3.Connection, owner: str, direction: str, content: Described) -> Move:
    noted = connection.execute(
        "INSERT INTO moving(owner, direction, registry, digest, size, media_type) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (owner, direction, content.registry, content.digest, content.size, content.media_type),
    )
    return Move(int(noted.lastrowid or 0), content)
