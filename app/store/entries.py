"""The rows of what is kept; each function is part of its caller's transaction."""

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.oci.reference import Digest

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
