"""CachedSource, a `Source` that asks the registry only for what is not cached.

`Cache` is the cache of this machine: one directory, and a `CachedSource` over each registry's
source. The kinds of content have rooms of their own (`manifests`, `blobs`, `lists`); `authz.gate`
decides who may read what they keep.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from app.cache import cache_status
from app.cache.authz.callers import Callers, secret_of
from app.cache.authz.gate import Gate
from app.cache.authz.grants import Lately
from app.cache.blobs import blobs as blobs_blobs
from app.cache.blobs.blobs import Blobs
from app.cache.confirming import Background, Confirming
from app.cache.disk import Disk
from app.cache.lists import REFERRERS, Lists
from app.cache.manifests.by_digest import Manifests
from app.cache.manifests.by_tag import Tagged
from app.cache.manifests.copies import Copies
from app.cache.manifests.fetch import Fetching
from app.cache.manifests.tags import Tags
from app.cache.origins import Origins
from app.cache.pings import Pings
from app.cache.policy import Policy
from app.cache.singleflight import Flights
from app.cache.stale import Away
from app.cache.tokens import Tokens
from app.oci.errors import RegistryError
from app.oci.reference import Digest, Reference, RepositoryName, Tag
from app.registries import Registry
from app.source import NOBODY, CacheState, Event, Observer, Reply, Request, Source, TokenRequest
from app.store.clock import Clock
from app.store.errors import Fault, StoreError
from app.store.eviction import Limits
from app.store.store import Store

_ASKED: Final = frozenset({"miss"})
"""Outcomes whose bytes came from the registry, so the access rules were applied on the way.

"revalidated" is not one of them: a registry may answer HEADs itself, and redirect only GETs.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSource:
    """Answers from the cache, or asks `inner` in the caller's name and keeps what it may.

    The methods raise RegistryError if there is no answer to give.
    """

    inner: Origins
    callers: Callers
    pings: Pings
    tokens: Tokens
    manifests: Manifests
    tagged: Tagged
    blobs: Blobs
    lists: Lists
    confirming: Confirming | None = None
    observer: Observer = NOBODY

    def ping(self, request: Request) -> Reply:
        """Return the answer to `GET /v2/`."""
        return self.pings.ping(*self.callers.told_apart(request))

    def reach(self) -> None:
        """Return if the registry answers; raise RegistryError if not."""
        self.inner.reach()

    def token(self, request: TokenRequest) -> Reply:
        """Return a token; anonymous clients share one."""
        return self.tokens.token(request)

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Return a manifest, or the registry's refusal."""
        caller, own = self.callers.told_apart(request)

        def answer() -> Reply:
            if isinstance(reference, Tag):
                return self.tagged.manifest(caller, name, reference, own)
            return self.manifests.manifest(caller, name, reference, own)

        ask = partial(self.inner.manifest, name, reference, own)
        reply = self._marked(lambda: self._permitted(answer, ask, name, own, reference))
        if request.method == "GET" and not reply.is_error and cache_status.outcome(reply) != "miss":
            self.observer.happened(Event.PULL_SAVED)
        if self.confirming is not None:
            self.confirming.notice(caller, name, own, reply)
        return reply

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Return a blob or the requested part of it, or the registry's refusal."""
        caller, own = self.callers.told_apart(request)
        answer = partial(self.blobs.blob, caller, name, digest, own)
        ask = partial(self.inner.blob, name, digest, own)
        return self._marked(lambda: self._permitted(answer, ask, name, own))

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """Return a page of a repository's tags, from the registry while it can be asked."""
        caller, own = self.callers.told_apart(request)
        ask = partial(self.inner.tags, name)
        return self._marked(lambda: self.lists.answer(caller, name, "tags", own, ask))

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Return the referrers of a manifest, from the registry while it can be asked."""
        caller, own = self.callers.told_apart(request)
        ask = partial(self.inner.referrers, name, digest)
        about = f"{REFERRERS} {digest}"
        answer = partial(self.lists.answer, caller, name, about, own, ask)
        return self._marked(lambda: self._permitted(answer, partial(ask, own), name, own))

    def _permitted(
        self,
        answer: Callable[[], Reply],
        ask: Callable[[], Reply],
        name: RepositoryName,
        request: Request,
        reference: Reference | None = None,
    ) -> Reply:
        """Return the cache's answer, or the registry's if a rule denies a cached answer's origin.

        The registry is asked again in that case because its redirects may lead elsewhere by now.
        """
        reply = answer()
        was_asked = reply.is_error or cache_status.outcome(reply) in _ASKED
        if was_asked or self.inner.permit(request, name, reference):
            return reply
        reply.close()
        reply = ask()
        return cache_status.marked(reply, cache_status.forwarded(reply.status))

    def _marked(self, answer: Callable[[], Reply]) -> Reply:
        """Return the answer, and report to the observer what the cache did.

        A RegistryError gets the same `Cache-Status` header that every answer has.
        """
        try:
            reply = answer()
        except RegistryError as error:
            self.observer.happened(Event.CACHE, "miss")
            raise cache_status.failed(error) from error.__cause__
        self.observer.happened(Event.CACHE, cache_status.outcome(reply))
        return reply


_FRESH: Final = 5.0
"""Seconds for which a `CacheState` is reused."""

_REASONS: Final[Mapping[str, str]] = {
    Fault.NO_SPACE: "the disk is full",
    Fault.MIN_FREE: "less of the disk is free than DOCXY_CACHE_MIN_FREE",
    Fault.MAX_SIZE: "unfinished downloads take all of DOCXY_CACHE_MAX_SIZE",
    Fault.READ_ONLY: "the disk is read-only",
    Fault.PERMISSION: "Docxy's user may not write to DOCXY_CACHE_DIR",
    Fault.IO: "DOCXY_CACHE_DIR cannot be written; the log says more",
}


class Cache:
    """What the caches of all registries share: the directory, its limits and the policy."""

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        policy: Policy,
        clock: Clock | None = None,
        observer: Observer = NOBODY,
    ) -> None:
        """Open the directory; raise StoreError if it cannot be used.

        No file stays open that a fork would share with its parent.
        """
        self.directory, self.limits = directory, limits
        self.store = Store(directory, limits, clock, beside=lambda: blobs_blobs.held(directory)[1])
        self._disk = Disk(self.store, observer)
        self._policy = policy
        self._key = secret_of(directory)
        self._flights = Flights(directory, self._key)
        self._held = (0, 0)
        self._state = CacheState()
        self._looked = float("-inf")

    def state(self) -> CacheState:
        """Return whether the cache can keep anything, as of at most 5 s ago.

        The check writes to the store as keeping does, since only a write shows that a disk takes
        nothing more.
        """
        if time.monotonic() - self._looked > _FRESH:
            self._looked = time.monotonic()  # so that concurrent callers do not write too
            self._state = self._disk.examine(self._found)
        return self._state

    def _found(self) -> CacheState:
        fault, free, unfinished = "", 0, 0
        try:
            free = self.store.free()
            unfinished = blobs_blobs.held(self.directory)[1]
            self.store.probe()
        except OSError as error:  # a StoreError, or an error of the spools
            fault = self.store.fault_of(error)
        if fault == Fault.BUSY:  # other workers hold the lock, and so can keep something
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
        """Return the number of cached entries of all registries, and their size in bytes.

        When the index cannot be read, return the last known numbers and count the error: an
        operator who looks at the metrics then must see why.
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
        """Return a caching source over `inner`, the source of a registry.

        `background` runs requests that no client waits for. Without it the registry receives only
        the requests that clients cause.
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
        fetches = blobs_blobs.fetches_of(disk, self.directory, name, policy.unread)
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
            # With outages of its own: the upstream answers most pings from memory, so a ping that
            # succeeds does not show that the registry is back.
            pings=Pings(name, inner, disk, Away(name, disk, inner.reach), Lately()),
            tokens=tokens,
            manifests=manifests,
            tagged=tagged,
            blobs=blobs,
            confirming=confirming,
            lists=Lists(registry=name, policy=policy, gate=gate, disk=disk, away=away),
            observer=observer,
        )
