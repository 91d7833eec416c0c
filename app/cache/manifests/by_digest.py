"""Manifests by digest, which never change: a cached one is a hit without asking the registry."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from app.cache import cache_status
from app.cache.authz import evidence
from app.cache.authz.callers import Caller
from app.cache.authz.gate import Gate
from app.cache.head_first import conclude
from app.cache.manifests.copies import Copies, Copy
from app.cache.manifests.fetch import Fetching, conditional
from app.cache.singleflight import Flights
from app.cache.stale import Away
from app.oci.reference import Digest, RepositoryName
from app.source import Reply, Request

_TRIES: Final = 2
"""Fetches of others that a request waits for; the first may have been for another key that shares
its lock, or may have failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """Answers from the cache or from the registry; concurrent requests share one fetch."""

    registry: str
    gate: Gate
    away: Away
    copies: Copies
    fetching: Fetching
    flights: Flights

    def manifest(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply:
        """Return the answer to a GET or HEAD, or the registry's refusal.

        Raise RegistryError if the registry cannot be asked and no public copy is cached.
        """
        copy = self.copies.find(caller, name, digest)
        if copy is not None and copy.fits(request):
            return _hit(copy, request)

        def stale(status: int | None) -> Reply | None:
            kept = self.copies.find_stale(name, digest)
            if kept is None or not kept.fits(request):
                return None
            fields = cache_status.stale(status, cache_status.age_of(kept.taken))
            return kept.answer(request, fields, lasting=True)

        ask = self._head if request.method == "HEAD" else self._get
        return self.away.ask(
            caller, name, request, lambda asked: ask(caller, name, digest, asked), stale
        )

    def _head(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply:
        reply = self.fetching.head(caller, name, digest, request).reply
        fields = cache_status.forwarded(reply.status)
        if reply.status != HTTPStatus.OK or not evidence.is_manifest(reply, digest):
            return cache_status.marked(reply, fields)
        fields += cache_status.of_content(digest, self.gate.public_left(caller, name))
        return conditional(cache_status.marked(reply, fields), request, digest)

    def _get(self, caller: Caller, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        if reply := self._confirmed(caller, name, digest, request):
            return reply
        for _ in range(_TRIES):
            with self.flights.lead(f"{self.registry}/{name}@{digest}") as leads:
                if leads:
                    # Another fetch may have ended between the lookup and the lead.
                    joined = self._joined(caller, name, digest, request)
                    return joined or self.fetching.get(caller, name, digest, request).reply
            if reply := self._joined(caller, name, digest, request):
                return reply
            if reply := self._confirmed(caller, name, digest, request):
                return reply
        return self.fetching.get(caller, name, digest, request).reply

    def _joined(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply | None:
        """Return the answer from another request's fetch; None if the client cannot have that."""
        copy = self.copies.find(caller, name, digest)
        if copy is None or not copy.fits(request):
            return None
        return copy.answer(request, cache_status.joined(), lasting=True)

    def _confirmed(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply | None:
        """Ask the registry with a HEAD whether this caller may read a cached manifest.

        Docker Hub counts a GET as a pull, and does not count a HEAD. Return None if the manifest is
        not cached, or if the HEAD does not settle the matter.
        """
        if self.gate.kept_size(digest) is None:
            return None
        told = self.fetching.head(caller, name, digest, request)
        if refusal := conclude(told.reply, request):
            return cache_status.marked(refusal, cache_status.forwarded(refusal.status))
        told.reply.close()
        if told.digest is None or (copy := self.copies.find(caller, name, digest)) is None:
            return None
        return copy.answer(request, cache_status.revalidated(), lasting=True)


def _hit(copy: Copy, request: Request) -> Reply:
    return copy.answer(request, cache_status.hit(cache_status.age_of(copy.taken)), lasting=True)
