"""Notes and refusals: tables of the index.

A note is a small value by kind and key, which is fresh for some time. A refusal is the moment at
which a registry last said no to something.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from errno import EFBIG
from typing import Final, Literal

from app.store.errors import build_error
from app.store.index import Index
from app.store.ledger import MAX_NOTE_LENGTH, REFUSAL_LIFETIME, Clock, Evidence, Note, Subject

# Refusals: when a registry last said no, so that no older yes is written after it.
#
# Answers overtake each other: while one worker waits for a registry, another worker is refused for
# the same caller. The first worker's yes is then older than the refusal, however late it arrives.
# Every refusal is therefore recorded, even one that deletes nothing. The transaction that writes a
# yes compares the moment at which its request began with the last refusal.

_SWEEP_LIMIT: Final = 8
"""Old rows that each refusal removes, so that they do not accumulate."""


def record_refusal(connection: sqlite3.Connection, clock: Clock, subject: Subject) -> None:
    """Record that the registry refused a subject now, within the caller's transaction.

    Raise sqlite3.Error.
    """
    boot, now = clock.boot, clock.now()
    connection.execute(
        "DELETE FROM refusals WHERE (registry = ? AND repository = ? AND subject = ?) "
        "OR rowid IN (SELECT rowid FROM "
        "(SELECT rowid, boot, at FROM refusals ORDER BY rowid LIMIT ?) WHERE boot != ? OR at <= ?)",
        (*subject, _SWEEP_LIMIT, boot, now - REFUSAL_LIFETIME),
    )
    connection.execute(
        "INSERT INTO refusals(registry, repository, subject, boot, at) VALUES (?, ?, ?, ?, ?)",
        (*subject, boot, now),
    )


def is_late(
    connection: sqlite3.Connection, clock: Clock, subject: Subject, requested_at: float
) -> bool:
    """Return whether a request that began at `requested_at` is, or may be, older than a refusal.

    `requested_at` is a moment of `clock`. This runs within the caller's transaction; raise
    sqlite3.Error.
    """
    if clock.now() - requested_at >= REFUSAL_LIFETIME:
        return True
    (refused_at,) = connection.execute(
        "SELECT max(at) FROM ("
        "SELECT at FROM refusals "
        "WHERE registry = ?1 AND repository = ?2 AND subject = ?3 AND boot = ?4 "
        # A full table has forgotten refusals, none of them younger than the oldest row.
        "UNION ALL SELECT at FROM (SELECT boot, at FROM refusals ORDER BY rowid LIMIT 1) "
        "WHERE boot = ?4 AND (SELECT present >= most FROM counts WHERE name = 'refusals'))",
        (*subject, clock.boot),
    ).fetchone()
    return refused_at is not None and refused_at >= requested_at


# Notes.

_EXPIRING_TABLES: Final = frozenset({"tokens"})
"""Tables whose stale notes are of no use."""

_DELETE_BATCH: Final = 16
"""Rows deleted by one statement, so that adding a note is not slow when many have expired."""

_LAST_CHARACTER: Final = chr(0x10FFFF)
"""Sorts after every character in a key, and occurs in no key: U+10FFFF is a noncharacter."""


class SqliteNotes:
    """A table of the index that holds `Notes`."""

    def __init__(
        self, index: Index, clock: Clock, table: Literal["notes", "tags", "tokens", "lists"]
    ) -> None:
        self._index = index
        self._clock = clock
        self._table = table

    def record(
        self, kind: str, key: str, value: str, seconds: float, answer: Evidence | None = None
    ) -> None:
        """Remember a value for `seconds`, in place of the key's earlier value.

        If the value comes from a registry, `answer` identifies the answer. Nothing is written if
        the earlier value answers a later question, or if the registry has said since `requested_at`
        that the subject is not there. May raise StoreError.
        """
        if len(value) > MAX_NOTE_LENGTH:
            raise build_error(EFBIG, f"a {kind} of {len(value)} characters is too long for a note")
        boot, now = self._clock.boot, self._clock.now()
        requested_at = now if answer is None else answer.requested_at
        with self._index.transaction() as connection:
            if answer is not None and self._is_late(connection, (kind, key), answer):
                return
            self._put(connection, (kind, key, value, boot, requested_at, now, now + seconds))

    def add_to_set(
        self, kind: str, key: str, members: Iterable[str], limit: int, seconds: float
    ) -> None:
        """Add members to a set, which is stored as a sorted JSON list; may raise StoreError.

        The set holds at most `limit` + 1 members; with more than `limit` it does not change any
        more. Concurrent additions by other processes are not lost.
        """
        with self._index.transaction() as connection:
            row = connection.execute(
                f"SELECT value FROM {self._table} WHERE kind = ? AND key = ?",  # noqa: S608 - a name
                (kind, key),
            ).fetchone()
            existing: set[str] = set(json.loads(row[0])) if row else set()
            if len(existing) > limit:
                return
            value = json.dumps(sorted(existing | set(members))[: limit + 1])
            boot, now = self._clock.boot, self._clock.now()
            self._put(connection, (kind, key, value, boot, now, now, now + seconds))

    def delete_expired(self) -> None:
        """Delete notes that have expired or are of an earlier boot; may raise StoreError.

        In a table whose stale notes are of use, do nothing.
        """
        if self._table in _EXPIRING_TABLES:
            with self._index.transaction() as connection:
                connection.execute(
                    f"DELETE FROM {self._table} WHERE boot != ? OR until <= ?",  # noqa: S608 - a name
                    (self._clock.boot, self._clock.now()),
                )

    def lookup(self, kind: str, key: str) -> Note | None:
        """Return a note, fresh or stale; None if it is missing or the index cannot be read."""
        return self.lookup_all(kind, (key,)).get(key)

    def lookup_all(self, kind: str, keys: Sequence[str]) -> dict[str, Note]:
        """Return the notes that exist, by key; {} if the index cannot be read."""
        rows = self._index.query(
            f"SELECT key, value, boot, since, until FROM {self._table} "  # noqa: S608 - a name and marks
            f"WHERE kind = ? AND key IN ({', '.join('?' * len(keys))})",
            kind, *keys,
        )  # fmt: skip
        return {key: self._build_note(*row) for key, *row in rows}

    def delete(self, kind: str, key: str) -> None:
        """Delete a note, if there is one; may raise StoreError."""
        with self._index.transaction() as connection:
            self._delete(connection, kind, key)

    def lookup_prefix(self, kind: str, prefix: str) -> dict[str, str]:
        """Return the values, fresh or stale, of all keys with a prefix, by key.

        The cost depends only on how many notes match, not on the size of the table.
        May raise StoreError.
        """
        with self._index.connection() as connection:
            rows = connection.execute(
                f"SELECT key, value FROM {self._table} "  # noqa: S608 - two names
                "WHERE kind = ? AND key >= ? AND key < ?",
                (kind, prefix, prefix + _LAST_CHARACTER),
            ).fetchall()
        return dict(rows)

    def keep_latest(self, kind: str, prefix: str, limit: int) -> None:
        """Delete all but the `limit` latest notes whose keys have a prefix.

        May raise StoreError.
        """
        with self._index.transaction() as connection:
            connection.execute(
                f"DELETE FROM {self._table} WHERE rowid IN (SELECT rowid FROM {self._table} "  # noqa: S608 - two names
                "WHERE kind = ? AND key >= ? AND key < ? ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                (kind, prefix, prefix + _LAST_CHARACTER, limit),
            )

    def delete_refused(self, kind: str, prefix: str, subject: Subject) -> None:
        """Delete the notes whose keys have a prefix, and record a refusal of their subject now.

        Call this when the registry has just said that the subject is not there. May raise
        StoreError.
        """
        with self._index.transaction() as connection:
            connection.execute(
                f"DELETE FROM {self._table} WHERE kind = ? AND key >= ? AND key < ?",  # noqa: S608 - two names
                (kind, prefix, prefix + _LAST_CHARACTER),
            )
            record_refusal(connection, self._clock, subject)

    def _build_note(self, value: str, boot: str, since: float, until: float) -> Note:
        now = self._clock.now()
        if boot != self._clock.boot or now < since:
            return Note(value, 0.0, None)
        return Note(value, max(until - now, 0.0), now - since)

    def _is_late(
        self, connection: sqlite3.Connection, key: tuple[str, str], answer: Evidence
    ) -> bool:
        (last_requested_at,) = connection.execute(
            f"SELECT max(asked) FROM {self._table} WHERE kind = ? AND key = ? AND boot = ?",  # noqa: S608 - two names
            (*key, self._clock.boot),
        ).fetchone()
        if last_requested_at is not None and last_requested_at > answer.requested_at:
            return True
        return is_late(connection, self._clock, answer.subject, answer.requested_at)

    def _put(
        self,
        connection: sqlite3.Connection,
        row: tuple[str, str, str, str, float, float, float],
    ) -> None:
        self._delete(connection, *row[:2])
        connection.execute(
            f"INSERT INTO {self._table}(kind, key, value, boot, asked, since, until) "  # noqa: S608 - two names
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        self._make_room(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        if self._table in _EXPIRING_TABLES:
            connection.execute(
                f"DELETE FROM {self._table} WHERE rowid IN (SELECT rowid FROM {self._table} "  # noqa: S608 - a name
                "WHERE until <= ? ORDER BY until LIMIT ?)",
                (self._clock.now(), _DELETE_BATCH),
            )
        statement = (
            f"DELETE FROM {self._table} WHERE rowid IN (SELECT rowid FROM {self._table} "  # noqa: S608 - a name
            "ORDER BY rowid LIMIT ?) AND (SELECT bytes > most FROM sizes WHERE name = ?)"
        )
        while connection.execute(statement, (_DELETE_BATCH, self._table)).rowcount > 0:
            pass

    def _delete(self, connection: sqlite3.Connection, kind: str, key: str) -> None:
        connection.execute(
            f"DELETE FROM {self._table} WHERE kind = ? AND key = ?",  # noqa: S608 - two names
            (kind, key),
        )
