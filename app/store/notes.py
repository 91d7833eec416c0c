"""Notes: small things to remember, fresh for some time."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from errno import EFBIG
from typing import Final, Literal

from app.store import refusals
from app.store.clock import Clock
from app.store.errors import refused
from app.store.index import Index
from app.store.refusals import Subject

LONGEST: Final = 64 * 1024
"""Characters of a value: what is larger is content."""

_EXPIRE: Final = frozenset({"tokens"})
"""Tables of which nobody wants what is stale."""

_AT_ONCE: Final = 16
"""Rows that leave in one statement: a note more takes no longer where many have expired."""

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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a registry, asked at a moment of the store's clock, has said, and of what."""

    subject: Subject
    asked: float


class Notes:
    """Remembers values by kind and key, until a table has too many, or too many bytes of them.

    The oldest go first. What is stale stays, except in the table of tokens.
    """

    def __init__(
        self, index: Index, clock: Clock, table: Literal["notes", "tags", "tokens", "lists"]
    ) -> None:
        self._index = index
        self._clock = clock
        self._table = table

    def note(
        self, kind: str, key: str, value: str, seconds: float, answer: Answer | None = None
    ) -> None:
        """Remember something in place of what was there; raise StoreError.

        An `answer` of a registry's is not written in place of one to a later question, or after
        the registry has said that its subject is not there.
        """
        if len(value) > LONGEST:
            raise refused(EFBIG, f"a {kind} of {len(value)} characters is no note")
        boot, now = self._clock.boot, self._clock.now()
        asked = now if answer is None else answer.asked
        with self._index.writing() as connection:
            if answer is not None and self._is_late(connection, (kind, key), answer):
                return
            self._put(connection, (kind, key, value, boot, asked, now, now + seconds))

    def add(self, kind: str, key: str, members: Iterable[str], most: int, seconds: float) -> None:
        """Add to a set that is remembered as a sorted JSON list; raise StoreError.

        A set of more than `most` members gets no more. Nothing that another process adds at the
        same time is lost.
        """
        with self._index.writing() as connection:
            row = connection.execute(
                f"SELECT value FROM {self._table} WHERE kind = ? AND key = ?",  # noqa: S608 - a name
                (kind, key),
            ).fetchone()
            known: set[str] = set(json.loads(row[0])) if row else set()
            if len(known) > most:
                return
            value = json.dumps(sorted(known | set(members))[: most + 1])
            boot, now = self._clock.boot, self._clock.now()
            self._put(connection, (kind, key, value, boot, now, now, now + seconds))

    def forget_old(self) -> None:
        """Forget what is of an earlier boot or has expired, if that is of no use here.

        Raise StoreError.
        """
        if self._table in _EXPIRE:
            with self._index.writing() as connection:
                connection.execute(
                    f"DELETE FROM {self._table} WHERE boot != ? OR until <= ?",  # noqa: S608 - a name
                    (self._clock.boot, self._clock.now()),
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

    def forget_all(self, kind: str, beginning: str, subject: Subject) -> None:
        """Forget keys that begin so: the registry has just said that their subject is not there.

        Raise StoreError.
        """
        with self._index.writing() as connection:
            connection.execute(
                f"DELETE FROM {self._table} WHERE kind = ? AND key >= ? AND key < ?",  # noqa: S608 - two names
                (kind, beginning, beginning + _LAST),
            )
            refusals.record(connection, self._clock, subject)

    def _is_late(
        self, connection: sqlite3.Connection, key: tuple[str, str], answer: Answer
    ) -> bool:
        (last,) = connection.execute(
            f"SELECT max(asked) FROM {self._table} WHERE kind = ? AND key = ? AND boot = ?",  # noqa: S608 - two names
            (*key, self._clock.boot),
        ).fetchone()
        if last is not None and last > answer.asked:
            return True
        return refusals.is_late(connection, self._clock, answer.subject, answer.asked)

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
        if self._table in _EXPIRE:
            connection.execute(
                f"DELETE FROM {self._table} WHERE rowid IN (SELECT rowid FROM {self._table} "  # noqa: S608 - a name
                "WHERE until <= ? ORDER BY until LIMIT ?)",
                (self._clock.now(), _AT_ONCE),
            )
        oldest = (
            f"DELETE FROM {self._table} WHERE rowid IN (SELECT rowid FROM {self._table} "  # noqa: S608 - a name
            "ORDER BY rowid LIMIT ?) AND (SELECT bytes > most FROM sizes WHERE name = ?)"
        )
        while connection.execute(oldest, (_AT_ONCE, self._table)).rowcount > 0:
            pass

    def _delete(self, connection: sqlite3.Connection, kind: str, key: str) -> None:
        connection.execute(
            f"DELETE FROM {self._table} WHERE kind = ? AND key = ?",  # noqa: S608 - two names
            (kind, key),
        )
