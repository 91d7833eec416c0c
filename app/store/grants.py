"""Grants: whom a registry has lately let read a repository, and what everybody may read.

Nothing here outlives a boot of the machine, and no clock that can be set is asked.
"""

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
            connection.execute("DELETE FROM publics WHERE boot != ?", (self._clock.boot,))

    def grant(self, caller: str, registry: str, repository: str, seconds: float) -> None:
        """Let a caller read for so long from now, in place of what was granted before.

        Raise StoreError.
        """
        boot, now = self._clock.boot, self._clock.now()
        with self._index.writing() as connection:
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
        """Take a grant away; raise StoreError, and then it may still count until its end."""
        with self._index.writing() as connection:
            connection.execute(
                "DELETE FROM grants WHERE registry = ? AND repository = ? AND caller = ?",
                (registry, repository, caller),
            )

    def make_public(self, registry: str, repository: str) -> None:
        """Note that the registry has let nobody in particular read this; raise StoreError."""
        with self._index.writing() as connection:
            connection.execute(
                "DELETE FROM publics WHERE registry = ? AND repository = ?", (registry, repository)
            )
            connection.execute(
                "INSERT INTO publics(registry, repository, boot, since) VALUES (?, ?, ?, ?)",
                (registry, repository, self._clock.boot, self._clock.now()),
            )

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
        """Forget that it was so, since the registry has refused nobody; raise StoreError."""
        with self._index.writing() as connection:
            connection.execute(
                "DELETE FROM publics WHERE registry = ? AND repository = ?", (registry, repository)
            )
