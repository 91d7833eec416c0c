"""Manifests by tag: a HEAD asks the registry for the digest, and the cache serves the content."""

import time
from dataclasses import dataclass
from http import HTTPStatus

from app.cache import cache_status
from app.cache.authz.callers import Caller
from app.cache.head_first import find_refusal
from app.cache.manifests.copies import CachedManifests
from app.cache.manifests.fetch import (
    FetchedManifest,
    ManifestFetcher,
    apply_conditions,
    get_accept_headers,
)
from app.cache.manifests.tags import TagAnswer, TagTarget, TagTargets
from app.cache.policy import MAX_WAITS, CachePolicy
from app.cache.stale import StaleIfError
from app.oci import media_types
from app.oci.reference import RepositoryName, Tag
from app.source import Reply, Request
from app.waiting import SingleFlight


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestsByTag:
    """Answers from the cache if the registry says that the tag still means what is cached.

    The registry need not say so again within `policy.tag_ttl` seconds.
    """

    registry: str
    policy: CachePolicy
    stale_if_error: StaleIfError
    cached_manifests: CachedManifests
    fetcher: ManifestFetcher
    single_flight: SingleFlight[str]
    tags: TagTargets

    def serve_manifest(
        self, caller: Caller, name: RepositoryName, tag: Tag, request: Request
    ) -> Reply:
        """Return the answer to a GET or HEAD, or the registry's refusal.

        Raise RegistryError if the registry cannot be asked and no public copy is cached.
        """
        arrived_at = time.monotonic()
        target = self.tags.lookup(name, tag, get_accept_headers(request))
        if target is not None and target.is_exact and target.is_younger(self.policy.tag_ttl):
            copy = self.cached_manifests.lookup(caller, name, target.digest)
            if copy is not None:
                return copy.build_reply(
                    request, cache_status.build_hit(target.age or 0.0), lasting=False
                )

        def fetch(upstream_request: Request) -> Reply:
            if upstream_request.method == "HEAD":
                return self._serve_head(caller, name, tag, upstream_request, target)
            if target is not None:
                reply = self._serve_confirmed(caller, name, tag, upstream_request, target)
                if reply is not None:
                    return reply
            return self._serve_get(caller, name, tag, upstream_request, arrived_at)

        return self.stale_if_error.fetch_or_serve_stale(
            caller,
            name,
            request,
            fetch,
            lambda status: self._serve_stale(name, tag, request, status),
            lasting=False,
        )

    def _serve_stale(
        self, name: RepositoryName, tag: Tag, request: Request, status: int | None
    ) -> Reply | None:
        target = self.tags.lookup(name, tag, get_accept_headers(request))
        if target is None or not target.is_younger(self.policy.stale_ttl):
            return None
        copy = self.cached_manifests.lookup_stale(name, target.digest)
        if copy is None or not (target.is_exact or copy.is_accepted_by(request)):
            return None
        return copy.build_reply(
            request, cache_status.build_stale(status, target.age or 0.0), lasting=False
        )

    def _serve_head(
        self,
        caller: Caller,
        name: RepositoryName,
        tag: Tag,
        request: Request,
        target: TagTarget | None,
    ) -> Reply:
        head = self._fetch_head(caller, name, tag, request, target)
        status = head.reply.status
        fields = cache_status.build_forwarded(status, why="stale" if target else "uri-miss")
        if head.digest is None:
            return cache_status.mark_reply(head.reply, fields)
        fields += cache_status.build_content_headers(head.digest, 0.0)
        return apply_conditions(cache_status.mark_reply(head.reply, fields), request, head.digest)

    def _serve_get(
        self, caller: Caller, name: RepositoryName, tag: Tag, request: Request, arrived_at: float
    ) -> Reply:
        key = f"{self.registry}/{name}:{tag} {media_types.fingerprint(get_accept_headers(request))}"
        for _ in range(MAX_WAITS):
            with self.single_flight.lead(key, request.client) as is_leader:
                if is_leader:
                    # Another fetch may have ended between the lookup and the lead.
                    newer_reply = self._serve_newer(caller, name, tag, request, arrived_at)
                    return newer_reply or self._fetch_manifest(caller, name, tag, request)
            if reply := self._serve_joined(caller, name, tag, request, arrived_at):
                return reply
        return self._fetch_manifest(caller, name, tag, request)

    def _serve_newer(
        self, caller: Caller, name: RepositoryName, tag: Tag, request: Request, arrived_at: float
    ) -> Reply | None:
        """Return the answer from a fetch that ended after this request arrived, or None.

        A note carries the time of the registry's answer, but becomes visible only when it is
        written. If the request arrived between the two, the registry confirms the note with a HEAD.
        """
        target = self.tags.lookup(name, tag, get_accept_headers(request))
        if target is None:
            return None
        copy = self.cached_manifests.lookup(caller, name, target.digest)
        if copy is None:
            return None
        if _is_newer(target, arrived_at):
            return copy.build_reply(request, cache_status.build_joined(), lasting=False)
        return self._serve_confirmed(caller, name, tag, request, target)

    def _serve_joined(
        self, caller: Caller, name: RepositoryName, tag: Tag, request: Request, arrived_at: float
    ) -> Reply | None:
        """Return the answer from another request's fetch, confirmed with a HEAD if it is older.

        Return None if there is no such answer, or if this client may not have it.
        """
        target = self.tags.lookup(name, tag, get_accept_headers(request))
        if target is None:
            return None
        if _is_newer(target, arrived_at):
            copy = self.cached_manifests.lookup(caller, name, target.digest)
            if copy is not None:
                return copy.build_reply(request, cache_status.build_joined(), lasting=False)
        return self._serve_confirmed(caller, name, tag, request, target)

    def _serve_confirmed(
        self,
        caller: Caller,
        name: RepositoryName,
        tag: Tag,
        request: Request,
        target: TagTarget,
    ) -> Reply | None:
        """Ask the registry with a HEAD what the tag means; None if that is not cached."""
        head = self._fetch_head(caller, name, tag, request, target)
        if refusal := find_refusal(head.reply, request):
            return cache_status.mark_reply(refusal, cache_status.build_forwarded(refusal.status))
        head.reply.close()
        if (
            head.digest is None
            or (copy := self.cached_manifests.lookup(caller, name, head.digest)) is None
        ):
            return None
        return copy.build_reply(request, cache_status.build_revalidated(), lasting=False)

    def _fetch_head(
        self,
        caller: Caller,
        name: RepositoryName,
        tag: Tag,
        request: Request,
        target: TagTarget | None,
    ) -> FetchedManifest:
        head = self.fetcher.fetch_head(caller, name, tag, request)
        return self._record_target(name, tag, request, head, target)

    def _fetch_manifest(
        self, caller: Caller, name: RepositoryName, tag: Tag, request: Request
    ) -> Reply:
        accepts = get_accept_headers(request)
        fetched_manifest = self.fetcher.fetch_manifest(
            caller, name, tag, request, lambda answer: self.tags.write(name, tag, accepts, answer)
        )
        if not fetched_manifest.is_noted:
            self._record_target(name, tag, request, fetched_manifest, None)
        return fetched_manifest.reply

    def _record_target(
        self,
        name: RepositoryName,
        tag: Tag,
        request: Request,
        fetched_manifest: FetchedManifest,
        target: TagTarget | None,
    ) -> FetchedManifest:
        if fetched_manifest.digest is not None:
            answer = TagAnswer(
                fetched_manifest.digest, fetched_manifest.media_type, fetched_manifest.requested_at
            )
            self.tags.record(name, tag, get_accept_headers(request), answer, target)
        elif fetched_manifest.reply.status == HTTPStatus.NOT_FOUND and self._is_acceptable(
            name, tag, request
        ):
            self.tags.forget(name, tag)
        return fetched_manifest

    def _is_acceptable(self, name: RepositoryName, tag: Tag, request: Request) -> bool:
        """Return whether the client accepts the media type that the tag is known to have.

        Some registries answer 404 for a media type that the client does not accept.
        """
        target = self.tags.lookup(name, tag, get_accept_headers(request))
        return target is None or media_types.is_acceptable(
            target.media_type, get_accept_headers(request)
        )


def _is_newer(target: TagTarget, arrived_at: float) -> bool:
    """Return whether the registry has said so since `arrived_at` (monotonic), for this Accept."""
    return target.is_exact and target.is_younger(time.monotonic() - arrived_at)
