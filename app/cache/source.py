"""CachedSource, a `Source` that asks the registry only for what is not cached.

`Cache` is what all caches share: one storage, and a `CachedSource` over each registry's source.
The kinds of content have rooms of their own (`manifests_by_digest`, `blobs`, `lists`); `authz.gate`
decides who may read what they keep.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from app.background import BackgroundPool
from app.cache import cache_status
from app.cache.authz.callers import Caller, Callers
from app.cache.authz.gate import Gate
from app.cache.authz.grants import BoundedMap
from app.cache.blobs.blobs import BlobCache
from app.cache.blobs.unfinished import build_transfers, measure_unfinished
from app.cache.confirming import MembershipConfirmer
from app.cache.disk import DiskExecutor
from app.cache.head_start import HeadStart
from app.cache.lists import ListCache
from app.cache.manifests.by_digest import ManifestsByDigest
from app.cache.manifests.by_tag import ManifestsByTag
from app.cache.manifests.copies import CachedManifests
from app.cache.manifests.fetch import ManifestFetcher
from app.cache.manifests.tags import TagTargets
from app.cache.origins import OriginTracker
from app.cache.pings import PingCache
from app.cache.policy import CachePolicy
from app.cache.stale import StaleIfError
from app.cache.tokens import TokenCache
from app.events import NOBODY, Event, Observer
from app.oci.errors import RegistryError
from app.oci.reference import Digest, Kind, Operation, Tag
from app.registries import Registry
from app.source import CacheState, Reply, Request, Source, TokenRequest
from app.store.errors import Fault, StoreError
from app.store.storage import Storage
from app.waiting import SingleFlight

_PATIENCE: Final = 30.0
"""Seconds to wait for another request's fetch before fetching as well."""

_REGISTRY_OUTCOMES: Final = frozenset({"miss"})
"""Outcomes whose bytes came from the registry, so the access rules were applied along the way.

"revalidated" is not one of them: a registry may answer HEADs itself, and redirect only GETs.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSource:
    """Answers from the cache, or asks `inner` in the caller's name and keeps what it may.

    Its methods raise RegistryError if there is no answer to give.
    """

    inner: OriginTracker
    callers: Callers
    pings: PingCache
    tokens: TokenCache
    manifests_by_digest: ManifestsByDigest
    manifests_by_tag: ManifestsByTag
    blobs: BlobCache
    lists: ListCache
    confirmer: MembershipConfirmer | None = None
    head_start: HeadStart | None = None
    observer: Observer = NOBODY

    def answer(self, operation: Operation, request: Request) -> Reply:
        """Return what the operation asks for, or the registry's refusal."""
        caller, upstream_request = self.callers.identify(request)
        if operation.kind is Kind.PING:
            return self.pings.serve_ping(caller, upstream_request)
        reply, outcome = self._report_outcome(
            lambda: self._serve_permitted(caller, operation, upstream_request)
        )
        if self.head_start is not None and operation.kind is Kind.BLOB and not reply.is_error:
            self.head_start.record_blob_request(caller, operation, upstream_request)
        if operation.kind is Kind.MANIFEST:
            if request.method == "GET" and not reply.is_error and outcome != "miss":
                self.observer.observe(Event.PULL_SAVED)
            if self.head_start is not None and outcome != cache_status.STALE:
                self.head_start.schedule(caller, operation.repository, upstream_request, reply)
            if self.confirmer is not None and outcome != cache_status.STALE:
                self.confirmer.schedule(caller, operation.repository, upstream_request, reply)
        return reply

    def token(self, request: TokenRequest) -> Reply:
        """Return a token; anonymous clients share one."""
        return self.tokens.serve_token(request)

    def reach(self) -> None:
        """Return None if the registry answers; raise RegistryError if it does not."""
        self.inner.reach()

    def _serve_permitted(self, caller: Caller, operation: Operation, request: Request) -> Reply:
        """Return the cache's answer, or the registry's if a rule denies a cached answer's origin.

        The registry is asked again in that case because its redirects may lead elsewhere by now.
        """
        reply = self._serve(caller, operation, request)
        if request.permit is None:
            return reply
        was_asked = reply.is_error or cache_status.parse_outcome(reply) in _REGISTRY_OUTCOMES
        if was_asked or self.inner.is_allowed(operation, request):
            return reply
        reply.close()
        reply = self.inner.answer(operation, request)
        return cache_status.mark_reply(reply, cache_status.build_forwarded(reply.status))

    def _serve(self, caller: Caller, operation: Operation, request: Request) -> Reply:
        name = operation.repository
        match operation.kind, operation.reference:
            case Kind.MANIFEST, Tag() as tag:
                return self.manifests_by_tag.serve_manifest(caller, name, tag, request)
            case Kind.MANIFEST, Digest() as digest:
                return self.manifests_by_digest.serve_manifest(caller, name, digest, request)
            case Kind.BLOB, Digest() as digest:
                return self.blobs.serve_blob(caller, name, digest, request)
            case _:
                return self.lists.serve_list(caller, operation, request)

    def _report_outcome(self, answer: Callable[[], Reply]) -> tuple[Reply, str]:
        """Return the answer and what the cache did, and report that to the observer.

        A RegistryError gets the same `Cache-Status` header that every answer has.
        """
        try:
            reply = answer()
        except RegistryError as error:
            self.observer.observe(Event.CACHE_OUTCOME, "miss")
            raise cache_status.mark_error(error) from error.__cause__
        outcome = cache_status.parse_outcome(reply)
        self.observer.observe(Event.CACHE_OUTCOME, outcome)
        return reply, outcome


_STATE_LIFETIME: Final = 5.0
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
    """The part that the caches of all registries share: the storage and the policy."""

    def __init__(self, storage: Storage, policy: CachePolicy, observer: Observer = NOBODY) -> None:
        self.storage = storage
        self._disk = DiskExecutor(storage.blobs, storage.ledger, observer)
        self._policy = policy
        self._single_flight = SingleFlight(storage.leases, patience=_PATIENCE)
        self._last_usage = (0, 0)
        self._state = CacheState()
        self._checked_at = float("-inf")

    def read_state(self) -> CacheState:
        """Return whether the cache can keep anything, as of at most 5 s ago.

        The check writes to the store as keeping does, since only a write shows that a disk takes
        nothing more.
        """
        if time.monotonic() - self._checked_at > _STATE_LIFETIME:
            self._checked_at = time.monotonic()  # so that concurrent callers do not write too
            self._state = self._disk.write_or_raise(self._check_state)
        return self._state

    def _check_state(self) -> CacheState:
        fault, free, unfinished = "", 0, 0
        try:
            free = self._disk.blobs.count_free_bytes()
            unfinished = measure_unfinished(self.storage.unfinished)[1]
            self._disk.blobs.probe()
        except OSError as error:  # a StoreError, or an error of the transfers
            fault = self._disk.blobs.fault_of(error)
        if fault == Fault.BUSY:  # other workers hold the lock, and so can keep something
            fault = ""
        limits = self._disk.blobs.limits
        return CacheState(
            fault=fault,
            reason=_REASONS.get(fault, _REASONS[Fault.IO]) if fault else "",
            free=free,
            min_free=limits.min_free,
            max_size=limits.max_size,
            unfinished=unfinished,
        )

    def measure_usage(self) -> tuple[int, int]:
        """Return the number of cached entries of all registries, and their size in bytes.

        When the index cannot be read, return the last known numbers and count the error: an
        operator who looks at the metrics then must see why.
        """
        try:
            usages = self._disk.read(self._disk.blobs.measure_usage).values()
        except StoreError as error:
            self._disk.count_failure(error)
        else:
            self._last_usage = (
                sum(usage.entries for usage in usages),
                sum(usage.bytes for usage in usages),
            )
        return self._last_usage

    def wrap(
        self,
        inner: Source,
        registry: Registry,
        observer: Observer = NOBODY,
        background: BackgroundPool | None = None,
        head_starts: BackgroundPool | None = None,
    ) -> CachedSource:
        """Return a caching source over `inner`, the source of a registry.

        `background` runs requests that no client waits for, and `head_starts` those that clients
        are expected to make next. Without them the registry receives only the requests that clients
        cause.
        """
        name, disk, policy = registry.name, self._disk, self._policy
        inner = OriginTracker(name, inner, disk)
        callers = Callers(registry, self.storage.secret)
        gate, stale_if_error = Gate(name, disk, policy), StaleIfError(name, disk, inner.reach)
        cached_manifests = CachedManifests(name, gate, disk)
        fetcher = ManifestFetcher(inner, gate, cached_manifests)
        manifests_by_digest = ManifestsByDigest(
            registry=name,
            gate=gate,
            stale_if_error=stale_if_error,
            cached_manifests=cached_manifests,
            fetcher=fetcher,
            single_flight=self._single_flight,
        )
        manifests_by_tag = ManifestsByTag(
            registry=name,
            policy=policy,
            stale_if_error=stale_if_error,
            cached_manifests=cached_manifests,
            fetcher=fetcher,
            single_flight=self._single_flight,
            tags=TagTargets(name, disk),
        )
        tokens = TokenCache(
            registry=name,
            inner=inner,
            callers=callers,
            gate=gate,
            disk=disk,
            single_flight=self._single_flight,
        )
        transfers = build_transfers(disk, self.storage.unfinished, name, policy, observer)
        blobs = BlobCache(inner, gate, stale_if_error, transfers, policy)
        head_start = HeadStart(blobs, gate, head_starts, observer) if head_starts else None
        confirmer = None
        if background is not None:
            confirmer = MembershipConfirmer(
                callers=callers,
                gate=gate,
                disk=disk,
                stale_if_error=stale_if_error,
                fetcher=fetcher,
                blobs=blobs,
                background=background,
            )
        return CachedSource(
            inner=inner,
            callers=callers,
            # With outages of its own: the upstream answers most pings from memory, so a ping that
            # succeeds does not show that the registry is back.
            pings=PingCache(name, inner, disk, StaleIfError(name, disk, inner.reach), BoundedMap()),
            tokens=tokens,
            manifests_by_digest=manifests_by_digest,
            manifests_by_tag=manifests_by_tag,
            blobs=blobs,
            confirmer=confirmer,
            head_start=head_start,
            lists=ListCache(
                registry=name,
                inner=inner,
                policy=policy,
                gate=gate,
                disk=disk,
                stale_if_error=stale_if_error,
            ),
            observer=observer,
        )
