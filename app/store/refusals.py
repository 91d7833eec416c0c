"""Refusals in the index: when a registry last said no, so that no older yes is written after it.

Answers overtake each other: while one worker waits for a registry, another worker is refused for
the same caller. The first worker's yes is then older than the refusal, however late it arrives.
Every refusal is therefore recorded, even one that deletes nothing. The transaction that writes a
yes compares the moment at which its request began with the last refusal.
"""

import sqlite3
from typing import Final

from app.store.clock import Clock
from app.store.ledger import LIFETIME, Subject

_SWEPT: Final = 8
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
        (*subject, _SWEPT, boot, now - LIFETIME),
    )
    connection.execute(
        "INSERT INTO refusals(registry, repository, subject, boot, at) VALUES (?, ?, ?, ?, ?)",
        (*subject, boot, now),
    )


def is_late(connection: sqlite3.Connection, clock: Clock, subject: Subject, asked: float) -> bool:
    """Return whether a request that began at `asked` is, or may be, older than a refusal.

    `asked` is a moment of `clock`. This runs within the caller's transaction; raise sqlite3.Error.
    """
    if clock.now() - asked >= LIFETIME:
        return True
    (last,) = connection.execute(
        "SELECT max(at) FROM ("
        "SELECT at FROM refusals "
        "WHERE registry = ?1 AND repository = ?2 AND subject = ?3 AND boot = ?4 "
        # A full table has forgotten refusals, none of them younger than the oldest row.
        "UNION ALL SELECT at FROM (SELECT boot, at FROM refusals ORDER BY rowid LIMIT 1) "
        "WHERE boot = ?4 AND (SELECT present >= most FROM counts WHERE name = 'refusals'))",
        (*subject, clock.boot),
    ).fetchone()
    return last is not None and last >= asked
