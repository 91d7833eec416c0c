"""The cache of this machine: one directory, and a Source over each registry's."""

from pathlib import Path

from app.cache import spooling
from app.cache.away import Away
from app.cache.blobs import Blobs
from app.cache.callers import Callers
from app.cache.copies import Copies
from app.cache.disk import Disk
from app.cache.fetching import Fetching
from app.cache.flights import Flights
from app.cache.gate import Gate
from app.cache.lately import Lately
from app.cache.lists import Lists
from app.cache.manifests import Manifests
from app.cache.origins import Origins
from app.cache.pings import Pings
from app.cache.policy import Policy
from app.cache.secret import secret_of
from app.cache.source import CachedSource
from app.cache.tagged import Tagged
from app.cache.tags import Tags
from app.cache.tokens import Tokens
from app.content import NOBODY, Observer, Source
from app.registries import Registry
from app.store.clock import Clock
from app.store.room import Limits
from app.store.store import Store


class Cache:
    """What all registries' caches share: the directory, and for how long what is in it counts."""

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        policy: Policy,
        clock: Clock | None = None,
        observer: Observer = NOBODY,
    ) -> None:
        """Open the directory; raise StoreError if it cannot be used.

        Nothing is open afterwards that a fork would share.
        """
        self.directory, self.limits = directory, limits
        self.store = Store(directory, limits, clock, beside=lambda: spooling.held(directory)[1])
        self._disk = Disk(self.store, observer)
        self._policy = policy
        self._key = secret_of(directory)
        self._flights = Flights(directory)

    def held(self) -> tuple[int, int]:
        """Return how many entries are kept, of all registries, and of how many bytes."""
        shares = self._disk.read(self.store.upkeep.statistics).registries.values()
        return sum(share.entries for share in shares), sum(share.bytes for share in shares)

    def over(self, inner: Source, registry: Registry, observer: Observer = NOBODY) -> CachedSource:
        """Return the source of a registry that keeps what it gives."""
        name, disk, policy = registry.name, self._disk, self._policy
        inner = Origins(name, inner, disk)
        callers = Callers(registry, self._key)
        gate, away = Gate(name, disk, policy), Away(name, disk, inner.reach)
        copies = Copies(name, gate, disk)
        fetching = Fetching(inner, gate, copies)
        manifests = Manifests(
            registry=name,
            gate=gate,
            away=away,
            copies=copies,
            fetching=fetching,
            flights=self._flights,
        )
        tagged = Tagged(
            registry=name,
            policy=policy,
            away=away,
            copies=copies,
            fetching=fetching,
            flights=self._flights,
            tags=Tags(name, disk),
        )
        tokens = Tokens(
            registry=name,
            inner=inner,
            callers=callers,
            gate=gate,
            disk=disk,
            flights=self._flights,
        )
        fetches = spooling.fetches_of(disk, self.directory, name, policy.unread)
        return CachedSource(
            inner=inner,
            callers=callers,
            # A ping is answered from memory: it does not tell that the registry is back.
            pings=Pings(name, inner, disk, Away(name, disk, inner.reach), Lately()),
            tokens=tokens,
            manifests=manifests,
            tagged=tagged,
            blobs=Blobs(inner, gate, away, fetches, policy),
            lists=Lists(registry=name, policy=policy, gate=gate, disk=disk, away=away),
            observer=observer,
        )
