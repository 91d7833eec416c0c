"""The cache of this machine: one directory, and a Source over each registry's."""

from pathlib import Path

from app.cache.away import Away
from app.cache.blobs import Blobs
from app.cache.callers import Callers
from app.cache.disk import Disk
from app.cache.gate import Gate
from app.cache.policy import Policy
from app.cache.secret import secret_of
from app.cache.source import CachedSource
from app.cache.spooling import fetches_of
from app.content import Source
from app.registries import Registry
from app.spools.terms import UNREAD_LIMIT
from app.store.room import Limits
from app.store.store import Store


class Cache:
    """What all registries' caches share: the directory, and for how long what is in it counts."""

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        policy: Policy,
        unread_limit: int = UNREAD_LIMIT,
        accel_location: str | None = None,
    ) -> None:
        """Open the directory; raise StoreError if it cannot be used.

        Nothing is open afterwards that a fork would share.
        """
        self.directory, self.limits = directory, limits
        self.store = Store(directory, limits)
        self._disk = Disk(self.store)
        self._policy = policy
        self._unread_limit = unread_limit
        self._accel_location = accel_location
        self._key = secret_of(directory)

    def over(self, inner: Source, registry: Registry) -> CachedSource:
        """Return the source of a registry that keeps what it gives."""
        gate = Gate(registry.name, self._disk, self._policy)
        away = Away(registry.name, self._disk)
        fetches = fetches_of(self._disk, self.directory, registry.name, self._unread_limit)
        blobs = Blobs(inner, gate, away, fetches, self._accel_location)
        return CachedSource(inner, Callers(registry, self._key), blobs)
