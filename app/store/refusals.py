"""Refusals: when a registry last said no, so that no older yes is written after it.

Answers overtake each other: while one worker waits for a registry, another worker is refused for
the same caller. The first worker's yes is then older than the refusal, however late it arrives.
Every refusal is therefore recorded, even one that deletes nothing. The transaction that writes a
yes compares the moment at which its request began with the last refusal.
"""

import sqlite3
from typing import Final

from app.store.clock import Clock

LIFETIME: Final = 24 * 3600.0
"""Seconds for which a refusal is recorded. A yes to an older request is ignored."""

NOBODY: Final = "nobody"
"""The subject of a refused anonymous request: the repository is not public."""

_SWEPT: Final = 8
"""Old rows that each refusal removes, so that they do not accumulate."""

Subject = tuple[str, str, str]
"""A registry, a repository, and what was refused there: `NOBODY`, a caller, a digest or a tag."""


def build_caller_subject(name: str) -> str:
    """Return the subject of a refusal to a caller."""
    return f"caller {name}"


def build_digest_subject(name: str) -> str:
    """Return the subject of an answer that content is not there."""
    return f"digest {name}"


def build_tag_subject(name: str) -> str:
    """Return the subject of an answer that a tag is not there."""
    return f"tag {name}"


def record(connection: sqlite3.Connection, clock: Clock, subject: Subject) -> None:
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
