"""Grants: who may read a repository, as the registry has lately confirmed, and what is public.

Nothing here outlives a boot of the machine, and all times come from the store's clock, which
nobody can set.
"""

from app.store import refusals
from app.store.clock import Clock
from app.store.index import Index


class Grants:
    """Records what callers may read. A caller's name is an HMAC, which reveals nothing."""

    def __init__(self, index: Index, clock: Clock) -> None:
        self._index = index
        self._clock = clock

    def delete_expired(self) -> None:
        """Delete grants that have expired, and all records of earlier boots; raise StoreError."""
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

    def grant(
        self, caller: str, registry: str, repository: str, seconds: float, *, asked: float
    ) -> bool:
        """Let a caller read a repository for `seconds` from now; replace any earlier grant.

        `asked` is when the registry was asked, by the store's clock. Return True if the grant was
        written. Return False, and write nothing, if the caller has been refused since `asked`.
        Raise StoreError.
        """
        boot, now = self._clock.boot, self._clock.now()
        subject = (registry, repository, refusals.build_caller_subject(caller))
        with self._index.transaction() as connection:
            if refusals.is_late(connection, self._clock, subject, asked):
                return False
            connection.execute(
                "DELETE FROM grants WHERE registry = ? AND repository = ? AND caller = ? "
                # Remove some expired grants too, so that they do not accumulate.
                "OR rowid IN (SELECT rowid FROM grants WHERE until <= ? ORDER BY until LIMIT 8)",
                (registry, repository, caller, now),
            )
            connection.execute(
                "INSERT INTO grants(registry, repository, caller, boot, since, until) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (registry, repository, caller, boot, now, now + seconds),
            )
        return True

    def has_grant(self, caller: str, registry: str, repository: str) -> bool:
        """Return whether a caller may read now; False if the index cannot be read."""
        return self.seconds_left(caller, registry, repository) > 0

    def seconds_left(self, caller: str, registry: str, repository: str) -> float:
        """Return for how many more seconds a caller may read; 0 if it may not.

        The result is 0 also if the index cannot be read.
        """
        row = self._index.query_first(
            "SELECT boot, since, until FROM grants "
            "WHERE registry = ? AND repository = ? AND caller = ?",
            registry, repository, caller,
        )  # fmt: skip
        if row is None:
            return 0.0
        boot, since, until = row
        now = self._clock.now()
        return max(float(until) - now, 0.0) if boot == self._clock.boot and since <= now else 0.0

    def revoke(self, caller: str, registry: str, repository: str) -> None:
        """Delete a caller's grant, if there is one, and record that it was refused now.

        Raise StoreError; in that case the grant may count until it expires.
        """
        with self._index.transaction() as connection:
            connection.execute(
                "DELETE FROM grants WHERE registry = ? AND repository = ? AND caller = ?",
                (registry, repository, caller),
            )
            refusals.record(
                connection,
                self._clock,
                (registry, repository, refusals.build_caller_subject(caller)),
            )

    def make_public(self, registry: str, repository: str, *, asked: float) -> bool:
        """Record that the registry allowed an anonymous request that started at `asked`.

        `asked` is a moment of the store's clock. Return True if this was written. Return False, and
        write nothing, if the registry has refused an anonymous request since. Raise StoreError.
        """
        boot = self._clock.boot
        with self._index.transaction() as connection:
            if refusals.is_late(
                connection, self._clock, (registry, repository, refusals.NOBODY), asked
            ):
                return False
            (since,) = connection.execute(
                "SELECT max(since) FROM publics "
                "WHERE registry = ? AND repository = ? AND boot = ? AND since <= ?",
                (registry, repository, boot, self._clock.now()),
            ).fetchone()
            connection.execute(
                "DELETE FROM publics WHERE registry = ? AND repository = ?", (registry, repository)
            )
            connection.execute(
                "INSERT INTO publics(registry, repository, boot, since) VALUES (?, ?, ?, ?)",
                (registry, repository, boot, asked if since is None else max(asked, since)),
            )
        return True

    def public_age(self, registry: str, repository: str) -> float | None:
        """Return how many seconds ago the last allowed anonymous request started.

        Return None if there was none since the machine booted, if one was refused since, or if the
        index cannot be read.
        """
        row = self._index.query_first(
            "SELECT boot, since FROM publics WHERE registry = ? AND repository = ?",
            registry, repository,
        )  # fmt: skip
        if row is None:
            return None
        boot, since = row
        age = self._clock.now() - float(since)
        return age if boot == self._clock.boot and age >= 0 else None

    def make_private(self, registry: str, repository: str) -> None:
        """Record that the registry has refused an anonymous request now; raise StoreError."""
        with self._index.transaction() as connection:
            connection.execute(
                "DELETE FROM publics WHERE registry = ? AND repository = ?", (registry, repository)
            )
            refusals.record(connection, self._clock, (registry, repository, refusals.NOBODY))
