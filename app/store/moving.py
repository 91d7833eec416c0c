"""Notes of files that come or go, so that nothing is lost of what a dead process had begun.

A file and its row cannot change at once. So the index says beforehand what is about to be done,
and whoever finds the note of a dead process ends it.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from app.oci.reference import Digest
from app.store import entries
from app.store.entries import Described, Entry
from app.store.places import Places


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
    entries.put(connection, move.content)
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
