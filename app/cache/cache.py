"""The cache of this machine: one directory, and a Source over each registry's."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.cache import spooling
from app.cache.away import Away
from app.cache.blobs import Blobs
from app.cache.callers import Callers
from app.cache.confirming import Background, Confirming
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
from app.content import NOBODY, CacheState, Observer, Source
from app.registries import Registry
from app.store.clock import Clock
from app.store.errors import Fault, StoreError
from app.store.room import Limits
from app.store.store import Store

_FRESH: Final = 5.0
"""Seconds for which it counts what was found out."""

_REASONS: Final[Mapping[str, str]] = {
    Fault.NO_SPACE: "the disk is full",
    Fault.MIN_FREE: "less of the disk is free than DOCXY_CACHE_MIN_FREE",
    Fault.MAX_SIZE: "unfinished downloads take all of DOCXY_CACHE_MAX_SIZE",
    Fault.READ_ONLY: "the disk is read-only",
    Fault.PERMISSION: "Docxy's user may not write to DOCXY_CACHE_DIR",
    Fault.IO: "DOCXY_CACHE_DIR cannot be written; the log says more",
}


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
        self._flights = Flights(directory, self._key)
        self._held = (0, 0)
        self._state = CacheState()
        self._looked = float("-inf")

    def state(self) -> CacheState:
        """Return whether anything can be kept now, as it was found out some seconds ago at most.

        Something is written for it, as keeping does: a disk tells no sooner that it takes nothing.
        """
        if time.monotonic() - self._looked > _FRESH:
            self._looked = time.monotonic()  # others that ask meanwhile need not write, too
            self._state = self._disk.examine(self._found)
        return self._state

    def _found(self) -> CacheState:
        fault, free, unfinished = "", 0, 0
        try:
            free = self.store.free()
            unfinished = spooling.held(self.directory)[1]
            self.store.probe()
        except OSError as error:  # a StoreError, or one of the spools'
            fault = self.store.fault_of(error)
        if fault == Fault.BUSY:  # it waits for others, who keep something
            fault = ""
        return CacheState(
            fault=fault,
            reason=_REASONS.get(fault, _REASONS[Fault.IO]) if fault else "",
            free=free,
            min_free=self.limits.min_free,
            max_size=self.limits.max_size,
            unfinished=unfinished,
        )

    def held(self) -> tuple[int, int]:
        """Return how many entries are kept, of all registries, and of how many bytes.

        While the index cannot be read it is what was there last: who looks then has to see why.
        """
        try:
            shares = self._disk.read(self.store.upkeep.statistics).registries.values()
        except StoreError as error:
            self._disk.count(error)
        else:
            self._held = sum(one.entries for one in shares), sum(one.bytes for one in shares)
        return self._held

    def over(
        self,
        inner: Source,
        registry: Registry,
        observer: Observer = NOBODY,
        background: Background | None = None,
    ) -> CachedSource:
        """Return the source of a registry that keeps what it gives.

        `background` does what no client waits for; without it a registry is asked only what
        clients ask.
        """
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
        blobs = Blobs(inner, gate, away, fetches, policy)
        confirming = None
        if background is not None:
            confirming = Confirming(
                callers=callers,
                gate=gate,
                disk=disk,
                away=away,
                fetching=fetching,
                blobs=blobs,
                background=background,
            )
        return CachedSource(
            inner=inner,
            callers=callers,
            # A ping is answered from memory: it does not tell that the registry is back.
            pings=Pings(name, inner, disk, Away(name, disk, inner.reach), Lately()),
            tokens=tokens,
            manifests=manifests,
            tagged=tagged,
            blobs=blobs,
            confirming=confirming,
            lists=Lists(registry=name, policy=policy, gate=gate, disk=disk, away=away),
            observer=observer,
        )
