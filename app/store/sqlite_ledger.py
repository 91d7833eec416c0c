"""The ledger of a directory: tables of the index, which all workers of the machine share.

Nothing but members and notes outlives a boot of the machine, and all times come from the store's
clock, which nobody can set.
"""

import sqlite3
from collections.abc import Hashable
from contextlib import AbstractContextManager
from typing import Any, Final

from app.oci.reference import Digest
from app.store import entries, sqlite_notes
from app.store.index import Index
from app.store.layout import Flags
from app.store.ledger import (
    ANONYMOUS_TOKENS_KIND,
    NOBODY,
    Access,
    Clock,
    Confirmation,
    Denial,
    Member,
    MemberContent,
    Recorded,
    build_caller_subject,
    build_digest_subject,
)
from app.store.sqlite_notes import SqliteNotes

_SWEEP_LIMIT: Final = 8
"""Expired grants that each new one removes, so that they do not accumulate."""

_LOOKUP: Final = (
    "SELECT grants.boot, grants.since, grants.until, publics.boot, publics.since, "  # noqa: S608 - constants
    "members.media_type, members.shown, tokens.value, tokens.boot, tokens.since, tokens.until, "
    f"{', '.join(f'entries.{column}' for column in entries.COLUMNS)} FROM (SELECT 1) "
    "LEFT JOIN grants ON grants.registry = ?1 AND grants.repository = ?2 AND grants.caller = ?3 "
    "LEFT JOIN publics ON publics.registry = ?1 AND publics.repository = ?2 "
    "LEFT JOIN members ON members.registry = ?1 AND members.digest = ?4 "
    "AND members.repository = ?2 "
    f"LEFT JOIN tokens ON tokens.kind = '{ANONYMOUS_TOKENS_KIND}' AND tokens.key = ?3 "
    "LEFT JOIN entries ON entries.registry = ?1 AND entries.digest = ?4"
)
"""One row, whatever is missing: each table has at most one that matches."""

_FIND_MANIFEST: Final = (
    "SELECT digest, members.media_type, size FROM members JOIN entries USING (registry, digest) "
    "WHERE registry = ?1 AND repository = ?2 AND members.media_type != '' LIMIT 1"
)


class SqliteLedger:
    """A `Ledger` in the index of a directory.

    When content is removed, its members go with it. A media type applies to one repository only:
    the same bytes may be an index in one and a manifest in another, and nobody may choose what they
    are in somebody else's repository.
    """

    def __init__(self, index: Index, clock: Clock, flags: Flags) -> None:
        self._index = index
        self._clock = clock
        self.flags = flags
        self.notes = SqliteNotes(index, clock, "notes")
        self.tags = SqliteNotes(index, clock, "tags")
        self.tokens = SqliteNotes(index, clock, "tokens")
        self.lists = SqliteNotes(index, clock, "lists")

    def now(self) -> float:
        """Return the seconds since the machine booted."""
        return self._clock.now()

    def read_version(self) -> Hashable | None:
        """Return the state of the index; None if it cannot be trusted.

        Return None, too, if another worker has a refusal that it could not write.
        """
        state = self._index.read_state()
        return None if state is None or self.flags.is_any_set_elsewhere() else state

    def transaction(self) -> AbstractContextManager[object]:
        """Return a block whose reads and writes, on this thread, are one transaction."""
        return self._index.transaction()

    def delete_expired(self) -> None:
        """Delete expired grants, and all records of earlier boots; may raise StoreError."""
        with self._index.transaction() as connection:
            connection.execute(
                "DELETE FROM grants WHERE boot != ? OR until <= ?",
                (self._clock.boot, self._clock.now()),
            )
            for table in ("publics", "refusals"):
                connection.execute(
                    f"DELETE FROM {table} WHERE boot != ?",  # noqa: S608 - two names
                    (self._clock.boot,),
                )
            self.tokens.delete_expired()

    def lookup(
        self, caller: str, registry: str, repository: str, digest: Digest | None = None
    ) -> Access:
        """Return what is known of a caller, a repository and a digest, by one statement."""
        row = self._index.query_first(_LOOKUP, registry, repository, caller, digest)
        if row is None:
            return Access()
        return Access(
            seconds_left=self._compute_left(*row[0:3]),
            public_age=self._compute_age(*row[3:5]),
            member=None if row[5] is None else Member(row[5], bool(row[6])),
            anonymous_token=row[7] if self._compute_left(*row[8:11]) > 0 else None,
            entry=None if row[11] is None else entries.parse_row(row[11:]),
        )

    def find_manifest(self, registry: str, repository: str) -> MemberContent | None:
        """Return any one kept manifest of a repository; None if none is known."""
        row = self._index.query_first(_FIND_MANIFEST, registry, repository)
        return None if row is None else MemberContent(Digest(row[0]), row[1], row[2])

    def record(self, confirmation: Confirmation) -> Recorded:
        """Write all that a confirmation says, each part unless a refusal of it is younger."""
        with self._index.transaction() as connection:
            if confirmation.member is not None and confirmation.digest is not None:
                self._put_member(connection, confirmation, confirmation.digest, confirmation.member)
            return Recorded(
                has_grant=confirmation.grant_seconds is not None
                and self._put_grant(connection, confirmation, confirmation.grant_seconds),
                is_public=confirmation.is_public and self._put_public(connection, confirmation),
            )

    def refuse(self, denial: Denial) -> None:
        """Take away what a denial says, and record the refusal of each part as of now."""
        registry, repository = denial.registry, denial.repository
        with self._index.transaction() as connection:
            if denial.is_public:
                connection.execute(
                    "DELETE FROM publics WHERE registry = ? AND repository = ?",
                    (registry, repository),
                )
                sqlite_notes.record_refusal(connection, self._clock, (registry, repository, NOBODY))
            if denial.caller is not None:
                connection.execute(
                    "DELETE FROM grants WHERE registry = ? AND repository = ? AND caller = ?",
                    (registry, repository, denial.caller),
                )
                subject = build_caller_subject(denial.caller)
                sqlite_notes.record_refusal(
                    connection, self._clock, (registry, repository, subject)
                )
            if denial.absent is not None:
                connection.execute(
                    "DELETE FROM members WHERE registry = ? AND digest = ? AND repository = ?",
                    (registry, denial.absent, repository),
                )
                subject = build_digest_subject(denial.absent)
                sqlite_notes.record_refusal(
                    connection, self._clock, (registry, repository, subject)
                )

    def mark_public(self, registry: str, repository: str, digest: Digest) -> None:
        """Record that an anonymous request was allowed to read a member; may raise StoreError."""
        with self._index.transaction() as connection:
            connection.execute(
                "UPDATE members SET shown = 1 WHERE registry = ? AND digest = ? AND repository = ?",
                (registry, digest, repository),
            )

    def _put_grant(
        self, connection: sqlite3.Connection, confirmation: Confirmation, seconds: float
    ) -> bool:
        repository_key = (confirmation.registry, confirmation.repository)
        subject = (*repository_key, build_caller_subject(confirmation.caller))
        if sqlite_notes.is_late(connection, self._clock, subject, confirmation.requested_at):
            return False
        now = self._clock.now()
        connection.execute(
            "DELETE FROM grants WHERE registry = ? AND repository = ? AND caller = ? "
            "OR rowid IN (SELECT rowid FROM grants WHERE until <= ? ORDER BY until LIMIT ?)",
            (*repository_key, confirmation.caller, now, _SWEEP_LIMIT),
        )
        connection.execute(
            "INSERT INTO grants(registry, repository, caller, boot, since, until) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (*repository_key, confirmation.caller, self._clock.boot, now, now + seconds),
        )
        return True

    def _put_public(self, connection: sqlite3.Connection, confirmation: Confirmation) -> bool:
        repository_key, requested_at = (
            (confirmation.registry, confirmation.repository),
            confirmation.requested_at,
        )
        if sqlite_notes.is_late(connection, self._clock, (*repository_key, NOBODY), requested_at):
            return False
        (since,) = connection.execute(
            "SELECT max(since) FROM publics "
            "WHERE registry = ? AND repository = ? AND boot = ? AND since <= ?",
            (*repository_key, self._clock.boot, self._clock.now()),
        ).fetchone()
        connection.execute(
            "DELETE FROM publics WHERE registry = ? AND repository = ?", repository_key
        )
        connection.execute(
            "INSERT INTO publics(registry, repository, boot, since) VALUES (?, ?, ?, ?)",
            (
                *repository_key,
                self._clock.boot,
                requested_at if since is None else max(requested_at, since),
            ),
        )
        return True

    def _put_member(
        self,
        connection: sqlite3.Connection,
        confirmation: Confirmation,
        digest: Digest,
        member: Member,
    ) -> None:
        repository_key = (confirmation.registry, confirmation.repository)
        subject = (*repository_key, build_digest_subject(digest))
        if sqlite_notes.is_late(connection, self._clock, subject, confirmation.requested_at):
            return
        connection.execute(
            "INSERT INTO members(registry, repository, digest, media_type, shown) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT(registry, digest, repository) DO UPDATE "
            "SET media_type = coalesce(nullif(excluded.media_type, ''), media_type), "
            "shown = max(shown, excluded.shown)",
            (*repository_key, digest, member.media_type, member.is_public),
        )

    def _compute_left(self, boot: Any, since: Any, until: Any) -> float:  # noqa: ANN401 - columns
        """Return the seconds until `until`; 0 if there is no row, or it is of another boot."""
        if boot is None:
            return 0.0
        now = self._clock.now()
        is_current = boot == self._clock.boot and since <= now
        return max(float(until) - now, 0.0) if is_current else 0.0

    def _compute_age(self, boot: Any, since: Any) -> float | None:  # noqa: ANN401 - columns
        """Return the seconds since `since`; None if there is no row, or it is of another boot."""
        if boot is None:
            return None
        age = self._clock.now() - float(since)
        return age if boot == self._clock.boot and age >= 0 else None
