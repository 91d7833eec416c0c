"""Manifests by tag: a HEAD asks the registry for the digest, and the cache serves the content."""

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from app.cache import cache_status
from app.cache.authz.callers import Caller
from app.cache.head_first import conclude
from app.cache.manifests.copies import Copies
from app.cache.manifests.fetch import Fetching, Told, accepts, conditional
from app.cache.manifests.tags import Meaning, Said, Tags
from app.cache.policy import Policy
from app.cache.singleflight import Flights
from app.cache.stale import Away
from app.oci import media_types
from app.oci.reference import RepositoryName, Tag
from app.source import Reply, Request

_TRIES: Final = 2
"""Fetches of others that a request waits for; the first may have been for another key that shares
its lock, or may have failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """Answers from the cache if the registry says that the tag still means what is cached.

    The registry need not say so again within `policy.tag_ttl` seconds.
    """

    registry: str
    policy: Policy
    away: Away
    copies: Copies
    fetching: Fetching
    flights: Flights
    tags: Tags

    def manifest(self, caller: Caller, name: RepositoryName, tag: Tag, request: Request) -> Reply:
        """Return the answer to a GET or HEAD, or the registry's refusal.

        Raise RegistryError if the registry cannot be asked and no public copy is cached.
        """
        came = time.monotonic()
        known = self.tags.find(name, tag, accepts(request))
        if known is not None and known.exact and known.is_younger(self.policy.tag_ttl):
            copy = self.copies.find(caller, name, known.digest)
            if copy is not None:
                return copy.answer(request, cache_status.hit(known.age or 0.0), lasting=False)

        def ask(asked: Request) -> Reply:
            if asked.method == "HEAD":
                return self._head(caller, name, tag, asked, known)
            confirmed = self._confirmed(caller, name, tag, asked) if known else None
            return confirmed or self._get(caller, name, tag, asked, came)

        return self.away.ask(
            caller,
            name,
            request,
            ask,
            lambda status: self._stale(name, tag, request, status),
            lasting=False,
        )

    def _stale(
        self, name: RepositoryName, tag: Tag, request: Request, status: int | None
    ) -> Reply | None:
        known = self.tags.find(name, tag, accepts(request))
        if known is None or not known.is_younger(self.policy.stale_ttl):
            return None
        copy = self.copies.find_stale(name, known.digest)
        if copy is None or not (known.exact or copy.fits(request)):
            return None
        return copy.answer(request, cache_status.stale(status, known.age or 0.0), lasting=False)

    def _head(
        self,
        caller: Caller,
        name: RepositoryName,
        tag: Tag,
        request: Request,
        known: Meaning | None,
    ) -> Reply:
        told = self._asked(caller, name, tag, request)
        status = told.reply.status
        fields = cache_status.forwarded(status, why="stale" if known else "uri-miss")
        if told.digest is None:
            return cache_status.marked(told.reply, fields)
        fields += cache_status.of_content(told.digest, 0.0)
        return conditional(cache_status.marked(told.reply, fields), request, told.digest)

    def _get(
        self, caller: Caller, name: RepositoryName, tag: Tag, request: Request, came: float
    ) -> Reply:
        taken = media_types.fingerprint(accepts(request))
        for _ in range(_TRIES):
            with self.flights.lead(f"{self.registry}/{name}:{tag} {taken}") as leads:
                if leads:
                    # Another fetch may have ended between the lookup and the lead.
                    overtaken = self._overtaken(caller, name, tag, request, came)
                    return overtaken or self._fetched(caller, name, tag, request)
            if reply := self._joined(caller, name, tag, request, came):
                return reply
        return self._fetched(caller, name, tag, request)

    def _overtaken(
        self, caller: Caller, name: RepositoryName, tag: Tag, request: Request, came: float
    ) -> Reply | None:
        """Return the answer from a fetch that ended after this client came; None if there is none.

        A note carries the time of the registry's answer, but becomes visible only when it is
        written. If the client came between the two, the registry confirms the note with a HEAD.
        """
        if fresh := self._fresh(caller, name, tag, request, came):
            return fresh
        known = self.tags.find(name, tag, accepts(request))
        if known is None or self.copies.find(caller, name, known.digest) is None:
            return None
        return self._confirmed(caller, name, tag, request)

    def _joined(
        self, caller: Caller, name: RepositoryName, tag: Tag, request: Request, came: float
    ) -> Reply | None:
        """Return the answer from another request's fetch, confirmed with a HEAD if it is older."""
        if fresh := self._fresh(caller, name, tag, request, came):
            return fresh
        if self.tags.find(name, tag, accepts(request)) is None:
            return None
        return self._confirmed(caller, name, tag, request)

    def _fresh(
        self, caller: Caller, name: RepositoryName, tag: Tag, request: Request, came: float
    ) -> Reply | None:
        """Return the answer from what the registry said, to any client, since this one came.

        `came` is monotonic seconds. None if the registry has said nothing since, or this client
        cannot have it.
        """
        known = self.tags.find(name, tag, accepts(request))
        if known is None or not known.exact or not known.is_younger(time.monotonic() - came):
            return None
        copy = self.copies.find(caller, name, known.digest)
        return None if copy is None else copy.answer(request, cache_status.joined(), lasting=False)

    def _confirmed(
        self, caller: Caller, name: RepositoryName, tag: Tag, request: Request
    ) -> Reply | None:
        """Ask the registry with a HEAD what the tag means; None if that is not cached."""
        told = self._asked(caller, name, tag, request)
        if refusal := conclude(told.reply, request):
            return cache_status.marked(refusal, cache_status.forwarded(refusal.status))
        told.reply.close()
        if told.digest is None or (copy := self.copies.find(caller, name, told.digest)) is None:
            return None
        return copy.answer(request, cache_status.revalidated(), lasting=False)

    def _asked(self, caller: Caller, name: RepositoryName, tag: Tag, request: Request) -> Told:
        return self._noted(name, tag, request, self.fetching.head(caller, name, tag, request))

    def _fetched(self, caller: Caller, name: RepositoryName, tag: Tag, request: Request) -> Reply:
        told = self.fetching.get(caller, name, tag, request)
        return self._noted(name, tag, request, told).reply

    def _noted(self, name: RepositoryName, tag: Tag, request: Request, told: Told) -> Told:
        if told.digest is not None:
            said = Said(told.digest, told.media_type, told.asked)
            self.tags.note(name, tag, accepts(request), said)
        elif told.reply.status == HTTPStatus.NOT_FOUND and self._is_taken(name, tag, request):
            self.tags.forget(name, tag)
        return told

    def _is_taken(self, name: RepositoryName, tag: Tag, request: Request) -> bool:
        """Return whether the client accepts the media type that the tag is known to have.

        Some registries answer 404 for a media type that the client does not accept.
        """
        known = self.tags.find(name, tag, accepts(request))
        return known is None or media_types.acceptable(known.media_type, accepts(request))
