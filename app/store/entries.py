"""Entries: the index rows of kept content, and the journal of files on the move.

Each function runs within its caller's transaction, and may raise sqlite3.Error.
"""

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from app.oci.reference import Digest
from app.store.blobs import ContentInfo, Entry
from app.store.layout import Layout

COLUMNS: Final = (
    "id", "registry", "digest", "size", "media_type", "taken", "used", "used_at",
)  # fmt: skip
"""The columns that `parse_row` takes, in its order."""

_COLUMNS: Final = ", ".join(COLUMNS)
_NEXT_USE: Final = "(SELECT coalesce(max(used), 0) + 1 FROM entries)"


def find(connection: sqlite3.Connection, registry: str, digest: str) -> Entry | None:
    """Return the entry of a registry's digest, or None if it is not kept."""
    query = f"SELECT {_COLUMNS} FROM entries WHERE registry = ? AND digest = ?"  # noqa: S608 - constants
    row = connection.execute(query, (registry, digest)).fetchone()
    return None if row is None else parse_row(row)


def list_after(connection: sqlite3.Connection, last_id: int, limit: int) -> list[Entry]:
    """Return up to `limit` entries whose id is greater than `last_id`, in order of id.

    Ids are never reused.
    """
    query = f"SELECT {_COLUMNS} FROM entries WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - constants
    return [parse_row(row) for row in connection.execute(query, (last_id, limit))]


def list_least_used(connection: sqlite3.Connection, size: int, limit: int) -> list[Entry]:
    """Return the least recently used entries that together have at least `size` bytes.

    Return at most `limit` entries, even if they have fewer bytes.
    """
    selected, total_size = list[Entry](), 0
    query = f"SELECT {_COLUMNS} FROM entries ORDER BY used LIMIT ?"  # noqa: S608 - constants
    for row in connection.execute(query, (limit,)):
        if total_size >= size:
            break
        selected.append(parse_row(row))
        total_size += selected[-1].size
    return selected


def put(connection: sqlite3.Connection, content: ContentInfo) -> None:
    """Insert or replace the entry of some content, as the most recently used one.

    An empty media type does not replace a known one.
    """
    connection.execute(
        "INSERT INTO entries(registry, digest, size, media_type, taken, used_at, used) "  # noqa: S608 - a constant
        f"VALUES (?1, ?2, ?3, ?4, ?5, ?5, {_NEXT_USE}) "
        "ON CONFLICT(registry, digest) DO UPDATE SET size = excluded.size, "
        "taken = excluded.taken, used = excluded.used, used_at = excluded.used_at, "
        "media_type = coalesce(nullif(excluded.media_type, ''), media_type)",
        (content.registry, content.digest, content.size, content.media_type, time.time()),
    )


def touch(connection: sqlite3.Connection, uses: Mapping[int, float]) -> None:
    """Mark entries as most recently used, in the order given.

    `uses` maps the id of each entry to the wall-clock time of its use in seconds.
    """
    connection.executemany(
        f"UPDATE entries SET used = {_NEXT_USE}, used_at = ? WHERE id = ?",  # noqa: S608 - a constant
        [(moment, identity) for identity, moment in uses.items()],
    )


def sum_sizes(connection: sqlite3.Connection) -> int:
    """Return the size of all entries together, in bytes."""
    (size,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM totals").fetchone()
    return int(size)


def parse_row(row: Sequence[Any]) -> Entry:
    """Return the entry that a row of `COLUMNS` describes."""
    identity, registry, digest, size, media_type, stored_at, use_order, used_at = row
    return Entry(
        identity, registry, Digest(digest), size, media_type, stored_at, use_order, used_at
    )


# The journal of files that arrive or leave.
#
# A file and its row cannot change atomically. So a process first records in the index what it is
# about to do. If it dies, the next start finds the record and completes the move.


@dataclass(frozen=True, slots=True)
class Move:
    """A record in the journal, and the content that it is about."""

    id: int
    content: ContentInfo


def record_arrival(connection: sqlite3.Connection, owner: str, content: ContentInfo) -> Move:
    """Record in the journal that a file is about to arrive; return the record."""
    return _record_move(connection, owner, "in", content)


def record_removal(connection: sqlite3.Connection, owner: str, content: ContentInfo) -> Move:
    """Record in the journal that a file is to be unlinked; return the record."""
    return _record_move(connection, owner, "out", content)


def complete_arrival(connection: sqlite3.Connection, move: Move) -> None:
    """Make an entry of a file that has arrived, and remove its record from the journal."""
    put(connection, move.content)
    connection.execute("DELETE FROM moving WHERE id = ?", (move.id,))


def remove_entries(
    connection: sqlite3.Connection, owner: str, candidates: Iterable[Entry]
) -> list[Move]:
    """Delete entries and record in the journal that their files are to go; return the records.

    An entry that has been replaced or used since the caller read it stays.
    """
    return [
        _record_move(connection, owner, "out", entry.info)
        for entry in candidates
        if connection.execute(
            "DELETE FROM entries WHERE id = ? AND used = ?", (entry.id, entry.use_order)
        ).rowcount
    ]


def complete_removal(connection: sqlite3.Connection, layout: Layout, move: Move) -> int:
    """Unlink a file that has no entry, and remove its record; return the bytes freed.

    The file stays, and 0 is returned, if it has an entry again or another process is about to add
    one. The write transaction makes this safe, since writers wait for each other. Raise OSError if
    the file cannot be unlinked.
    """
    content = move.content
    freed = 0
    if not _is_wanted(connection, move):
        with suppress(FileNotFoundError, NotADirectoryError):
            layout.path(content.registry, content.digest).unlink()
            freed = content.size
    connection.execute("DELETE FROM moving WHERE id = ?", (move.id,))
    return freed


def sum_leaving(connection: sqlite3.Connection) -> int:
    """Return the size in bytes of all files that are about to be unlinked."""
    query = "SELECT coalesce(sum(size), 0) FROM moving WHERE direction = 'out'"
    (size,) = connection.execute(query).fetchone()
    return int(size)


def list_owners(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the processes that have records in the journal."""
    return [owner for (owner,) in connection.execute("SELECT DISTINCT owner FROM moving")]


def complete_moves(connection: sqlite3.Connection, layout: Layout, owner: str) -> None:
    """Complete the moves of a dead process.

    A file that has arrived in full becomes an entry; every other file is unlinked. Raise OSError
    if a file cannot be examined or unlinked.
    """
    query = "SELECT id, direction, registry, digest, size, media_type FROM moving WHERE owner = ?"
    for identity, direction, registry, digest, size, media_type in connection.execute(
        query, (owner,)
    ).fetchall():
        move = Move(
            identity,
            ContentInfo(registry=registry, digest=Digest(digest), size=size, media_type=media_type),
        )
        if direction == "in":
            _complete_or_remove(connection, layout, move)
        else:
            complete_removal(connection, layout, move)


def _complete_or_remove(connection: sqlite3.Connection, layout: Layout, move: Move) -> None:
    content = move.content
    path = layout.path(content.registry, content.digest)
    with suppress(FileNotFoundError, NotADirectoryError):
        if path.lstat().st_size == content.size:
            complete_arrival(connection, move)
            return
    complete_removal(connection, layout, move)


def _is_wanted(connection: sqlite3.Connection, move: Move) -> bool:
    (is_wanted,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM entries WHERE registry = ?1 AND digest = ?2) "
        "OR EXISTS (SELECT 1 FROM moving "
        "WHERE direction = 'in' AND registry = ?1 AND digest = ?2 AND id != ?3)",
        (move.content.registry, move.content.digest, move.id),
    ).fetchone()
    return bool(is_wanted)


def _record_move(
    connection: sqlite3.Connection, owner: str, direction: str, content: ContentInfo
) -> Move:
    cursor = connection.execute(
        "INSERT INTO moving(owner, direction, registry, digest, size, media_type) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (owner, direction, content.registry, content.digest, content.size, content.media_type),
    )
    return Move(int(cursor.lastrowid or 0), content)
