"""Notes: small things to remember, fresh for some time."""

import sqlite3
from dataclasses import dataclass
from errno import EFBIG
from typing import Final, Literal

from app.store.clock import Clock
from app.store.errors import refused
from app.store.index import Index

LONGEST: Final = 64 * 1024
"""Characters of a value: what is larger is content."""

_LAST: Final = chr(0x10FFFF)
"""Sorts after all that stands in a key, and stands in none: it is no character."""


@dataclass(frozen=True, slots=True)
class Note:
    """What was noted, and for how many more seconds it is fresh: 0 when it is stale.

    `age` is how many seconds ago that was, or None where the machine was started since: `left` is
    0 then.
    """

    value: str
    left: float
    age: float | None


class Notes:
    """Remembers values by kind and key, the stale ones too, until there are too many in a table."""

    def __init__(
        self, index: Index, clock: Clock, table: Literal["notes", "tags", "tokens", "lists"]
    ) -> None:
        self._index = index
        self._clock = clock
        self._table = table

    def note(self, kind: str, key: str, value: str, seconds: float) -> None:
        """Remember something in place of what was there; raise StoreError."""
        if len(value) > LONGEST:
            raise refused(EFBIG, f"a {kind} of {len(value)} characters is no note")
        boot, now = self._clock.boot, self._clock.now()
        with self._index.writing() as connection:
            self._delete(connection, kind, key)
            connection.execute(
                f"INSERT INTO {self._table}(kind, key, value, boot, since, until) "  # noqa: S608 - two names
                "VALUES (?, ?, ?, ?, ?, ?)",
                (kind, key, value, boot, now, now + seconds),
            )

    def noted(self, kind: str, key: str) -> Note | None:
        """Return what is remembered, fresh or stale, or None."""
        row = self._index.first(
            f"SELECT value, boot, since, until FROM {self._table} "  # noqa: S608 - two names
            "WHERE kind = ? AND key = ?",
            kind, key,
        )  # fmt: skip
        if row is None:
            return None
        value, boot, since, until = row
        age = self._clock.now() - float(since)
        if boot != self._clock.boot or age < 0:
            return Note(value, 0.0, None)
        return Note(value, max(float(until) - self._clock.now(), 0.0), age)

    def forget(self, kind: str, key: str) -> None:
        """Remember it no more; raise StoreError."""
        with self._index.writing() as connection:
            self._delete(connection, kind, key)

    def beginning(self, kind: str, beginning: str) -> dict[str, str]:
        """Return the values, fresh or stale, of keys that begin so; raise StoreError.

        It costs what is found, however much else there is.
        """
        with self._index.reading() as connection:
            rows = connection.execute(
                f"SELECT key, value FROM {self._table} "  # noqa: S608 - two names
                "WHERE kind = ? AND key >= ? AND key < ?",
                (kind, beginning, beginning + _LAST),
            ).fetchall()
        return dict(rows)

    def keep_latest(self, kind: str, beginning: str, most: int) -> None:
        """Forget all but the latest, so many, of keys that begin so; raise StoreError."""
        with self._index.writing() as connection:
            connection.execute(
                f"DELETE FROM {self._table} WHERE rowid IN (SELECT rowid FROM {self._table} "  # noqa: S608 - two names
                "WHERE kind = ? AND key >= ? AND key < ? ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                (kind, beginning, beginning + _LAST, most),
            )

    def _delete(self, connection: sqlite3.Connection, kind: str, key: str) -> None:
        connection.execute(
            f"DELETE FROM {self._table} WHERE kind = ? AND key = ?",  # noqa: S608 - two names
            (kind, key),
        )
