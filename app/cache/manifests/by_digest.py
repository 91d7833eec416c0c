"""Manifests by digest, which never change: a cached one is served without asking the registry."""

from dataclasses import dataclass
from http import HTTPStatus

from app.cache import cache_status
from app.cache.authz import evidence
from app.cache.authz.callers import Caller
from app.cache.authz.gate import Gate
from app.cache.head_first import find_refusal
from app.cache.manifests.copies import CachedManifest, CachedManifests
from app.cache.manifests.fetch import ManifestFetcher, apply_conditions
from app.cache.policy import MAX_WAITS
from app.cache.stale import StaleIfError
from app.oci.reference import Digest, RepositoryName
from app.source import Reply, Request
from app.waiting import SingleFlight


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestsByDigest:
    """Answers from the cache or from the registry; concurrent requests share one fetch."""

    registry: str
    gate: Gate
    stale_if_error: StaleIfError
    cached_manifests: CachedManifests
    fetcher: ManifestFetcher
    single_flight: SingleFlight[str]

    def serve_manifest(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply:
        """Return the answer to a GET or HEAD, or the registry's refusal.

        Raise RegistryError if the registry cannot be asked and no public copy is cached.
        """
        copy = self.cached_manifests.lookup(caller, name, digest)
        if copy is not None and copy.is_accepted_by(request):
            return _build_hit(copy, request)

        def serve_stale(status: int | None) -> Reply | None:
            stale_copy = self.cached_manifests.lookup_stale(name, digest)
            if stale_copy is None or not stale_copy.is_accepted_by(request):
                return None
            fields = cache_status.build_stale(
                status, cache_status.compute_age(stale_copy.stored_at)
            )
            return stale_copy.build_reply(request, fields, lasting=True)

        serve = self._serve_head if request.method == "HEAD" else self._serve_get
        return self.stale_if_error.fetch_or_serve_stale(
            caller,
            name,
            request,
            lambda upstream_request: serve(caller, name, digest, upstream_request),
            serve_stale,
        )

    def _serve_head(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply:
        reply = self.fetcher.fetch_head(caller, name, digest, request).reply
        fields = cache_status.build_forwarded(reply.status)
        if reply.status != HTTPStatus.OK or not evidence.is_manifest(reply, digest):
            return cache_status.mark_reply(reply, fields)
        fields += cache_status.build_content_headers(
            digest, self.gate.public_seconds_left(caller, name)
        )
        return apply_conditions(cache_status.mark_reply(reply, fields), request, digest)

    def _serve_get(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply:
        if reply := self._serve_confirmed(caller, name, digest, request):
            return reply
        for _ in range(MAX_WAITS):
            with self.single_flight.lead(
                f"{self.registry}/{name}@{digest}", request.client
            ) as is_leader:
                if is_leader:
                    # Another fetch may have ended between the lookup and the lead.
                    joined_reply = self._serve_joined(caller, name, digest, request)
                    return (
                        joined_reply
                        or self.fetcher.fetch_manifest(caller, name, digest, request).reply
                    )
            if reply := self._serve_joined(caller, name, digest, request):
                return reply
            if reply := self._serve_confirmed(caller, name, digest, request):
                return reply
        return self.fetcher.fetch_manifest(caller, name, digest, request).reply

    def _serve_joined(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply | None:
        """Return the answer from another request's fetch; None if this client may not have it."""
        copy = self.cached_manifests.lookup(caller, name, digest)
        if copy is None or not copy.is_accepted_by(request):
            return None
        return copy.build_reply(request, cache_status.build_joined(), lasting=True)

    def _serve_confirmed(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply | None:
        """Ask the registry with a HEAD whether this caller may read a cached manifest.

        Docker Hub counts a GET as a pull, and does not count a HEAD. Return None if the manifest is
        not cached, or if the HEAD does not settle the matter.
        """
        if self.gate.lookup_size(digest) is None:
            return None
        head = self.fetcher.fetch_head(caller, name, digest, request)
        if refusal := find_refusal(head.reply, request):
            return cache_status.mark_reply(refusal, cache_status.build_forwarded(refusal.status))
        head.reply.close()
        if (
            head.digest is None
            or (copy := self.cached_manifests.lookup(caller, name, digest)) is None
        ):
            return None
        return copy.build_reply(request, cache_status.build_revalidated(), lasting=True)


def _build_hit(copy: CachedManifest, request: Request) -> Reply:
    return copy.build_reply(
        request, cache_status.build_hit(cache_status.compute_age(copy.stored_at)), lasting=True
    )
