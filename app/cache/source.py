"""CachedSource(Source): a registry that is asked only for what is not kept."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from app.cache import marks
from app.cache.blobs import Blobs
from app.cache.callers import Callers
from app.cache.confirming import Confirming
from app.cache.lists import REFERRERS, Lists
from app.cache.manifests import Manifests
from app.cache.origins import Origins
from app.cache.pings import Pings
from app.cache.tagged import Tagged
from app.cache.tokens import Tokens
from app.content import NOBODY, Event, Observer, Reply, Request, TokenRequest
from app.oci.errors import RegistryError
from app.oci.reference import Digest, Reference, RepositoryName, Tag

_ASKED: Final = frozenset({"miss", marks.REVALIDATED})
"""Outcomes of which the registry was asked in the client's name, and the rules on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSource:
    """Asks `inner` in the caller's name, and keeps what the answer lets be kept."""

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
        """Answer `GET /v2/`."""
        return self.pings.ping(*self.callers.told_apart(request))

    def reach(self) -> None:
        """Return if the registry answers; raise RegistryError if not."""
        self.inner.reach()

    def token(self, request: TokenRequest) -> Reply:
        """Get a token: for nobody, one that others have too."""
        return self.tokens.token(request)

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Fetch a manifest."""
        caller, own = self.callers.told_apart(request)

        def answer() -> Reply:
            if isinstance(reference, Tag):
                return self.tagged.manifest(caller, name, reference, own)
            return self.manifests.manifest(caller, name, reference, own)

        ask = partial(self.inner.manifest, name, reference, own)
        reply = self._marked(lambda: self._permitted(answer, ask, name, own, reference))
        if request.method == "GET" and not reply.is_error and marks.outcome(reply) != "miss":
            self.observer.happened(Event.PULL_SAVED)
        if self.confirming is not None:
            self.confirming.notice(caller, name, own, reply)
        return reply

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Fetch a blob."""
        caller, own = self.callers.told_apart(request)
        answer = partial(self.blobs.blob, caller, name, digest, own)
        ask = partial(self.inner.blob, name, digest, own)
        return self._marked(lambda: self._permitted(answer, ask, name, own))

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """List tags."""
        caller, own = self.callers.told_apart(request)
        ask = partial(self.inner.tags, name)
        return self._marked(lambda: self.lists.answer(caller, name, "tags", own, ask))

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """List referrers."""
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
        """Answer from the cache, or as without one if a rule denies where that has come from.

        Then the registry decides: its redirects may lead to another place by now.
        """
        reply = answer()
        was_asked = reply.is_error or marks.outcome(reply) in _ASKED
        if was_asked or self.inner.permit(request, name, reference):
            return reply
        reply.close()
        reply = ask()
        return marks.marked(reply, marks.forwarded(reply.status))

    def _marked(self, answer: Callable[[], Reply]) -> Reply:
        """Have an error say, as every answer does, what the cache did; and tell it."""
        try:
            reply = answer()
        except RegistryError as error:
            self.observer.happened(Event.CACHE, "miss")
            raise marks.failed(error) from error.__cause__
        self.observer.happened(Event.CACHE, marks.outcome(reply))
        return reply
