"""Grants: whom a registry has lately let read a repository, and what everybody may read.

Nothing here outlives a boot of the machine, and no clock that can be set is asked.
"""

from app.store import refusals
from app.store.clock import Clock
from app.store.index import Index


class Grants:
    """What callers may read, each of them known by a name that tells nothing (an HMAC)."""

    def __init__(self, index: Index, clock: Clock) -> None:
        self._index = index
        self._clock = clock

    def forget_old(self) -> None:
        """Forget what is of an earlier boot or has ended; raise StoreError."""
        with self._index.writing() as connection:
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
        """Let a caller read for so long from now, in place of what was granted before.

        `asked` is the moment, by the store's clock, at which the registry was asked. Return False,
        and write nothing, if the caller has been refused since. Raise StoreError.
        """
        boot, now = self._clock.boot, self._clock.now()
        subject = (registry, repository, refusals.caller(caller))
        with self._index.writing() as connection:
            if refusals.is_late(connection, self._clock, subject, asked):
                return False
            connection.execute(
                "DELETE FROM grants WHERE registry = ? AND repository = ? AND caller = ? "
                # So that what has ended does not gather.
                "OR rowid IN (SELECT rowid FROM grants WHERE until <= ? ORDER BY until LIMIT 8)",
                (registry, repository, caller, now),
            )
            connection.execute(
                "INSERT INTO grants(registry, repository, caller, boot, since, until) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (registry, repository, caller, boot, now, now + seconds),
            )
        return True

    def granted(self, caller: str, registry: str, repository: str) -> bool:
        """Tell whether a caller may read now; where that cannot be found out, it may not."""
        return self.left(caller, registry, repository) > 0

    def left(self, caller: str, registry: str, repository: str) -> float:
        """Return for how many more seconds a caller may read; 0 if it may not."""
        row = self._index.first(
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
        """Take a grant away, if there is one, and record the refusal of this moment.

        Raise StoreError; the grant may then count until its end.
        """
        with self._index.writing() as connection:
            connection.execute(
                "DELETE FROM grants WHERE registry = ? AND repository = ? AND caller = ?",
                (registry, repository, caller),
            )
            refusals.record(
                connection, self._clock, (registry, repository, refusals.caller(caller))
            )

    def make_public(self, registry: str, repository: str, *, asked: float) -> bool:
        """Note that the registry, asked at that moment, has let nobody in particular read this.

        Return False, and write nothing, if it has refused nobody in particular since.
        Raise StoreError.
        """
        boot = self._clock.boot
        with self._index.writing() as connection:
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
        """Return how many seconds ago that was last so, or None: never, or not since the boot."""
        row = self._index.first(
            "SELECT boot, since FROM publics WHERE registry = ? AND repository = ?",
            registry, repository,
        )  # fmt: skip
        if row is None:
            return None
        boot, since = row
        age = self._clock.now() - float(since)
        return age if boot == self._clock.boot and age >= 0 else None

    def make_private(self, registry: str, repository: str) -> None:
        """Note that the registry refuses nobody in particular now; raise StoreError."""
        with self._index.writing() as connection:
            connection.execute(
                "DELETE FROM publics WHERE registry = ? AND repository = ?", (registry, repository)
            )
            refusals.record(connection, self._clock, (registry, repository, refusals.NOBODY))
