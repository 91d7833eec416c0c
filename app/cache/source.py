"""CachedSource(Source): a registry that is asked only for what is not kept."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.cache import marks
from app.cache.blobs import Blobs
from app.cache.callers import Callers
from app.cache.lists import Lists
from app.cache.manifests import Manifests
from app.cache.pings import Pings
from app.cache.tagged import Tagged
from app.cache.tokens import Tokens
from app.content import NOBODY, Event, Observer, Reply, Request, Source, TokenRequest
from app.oci.errors import RegistryError
from app.oci.reference import Digest, Reference, RepositoryName, Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSource:
    """Asks `inner` in the caller's name, and keeps what the answer lets be kept."""

    inner: Source
    callers: Callers
    pings: Pings
    tokens: Tokens
    manifests: Manifests
    tagged: Tagged
    blobs: Blobs
    lists: Lists
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
        if isinstance(reference, Tag):
            reply = self._marked(lambda: self.tagged.manifest(caller, name, reference, own))
        else:
            reply = self._marked(lambda: self.manifests.manifest(caller, name, reference, own))
        if request.method == "GET" and not reply.is_error and marks.outcome(reply) != "miss":
            self.observer.happened(Event.PULL_SAVED)
        return reply

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Fetch a blob."""
        caller, own = self.callers.told_apart(request)
        return self._marked(lambda: self.blobs.blob(caller, name, digest, own))

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """List tags."""
        caller, own = self.callers.told_apart(request)
        ask = partial(self.inner.tags, name)
        return self._marked(lambda: self.lists.answer(caller, name, "tags", own, ask))

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """List referrers."""
        caller, own = self.callers.told_apart(request)
        ask = partial(self.inner.referrers, name, digest)
        about = f"referrers {digest}"
        return self._marked(lambda: self.lists.answer(caller, name, about, own, ask))

    def _marked(self, answer: Callable[[], Reply]) -> Reply:
        """Have an error say, as every answer does, what the cache did; and tell it."""
        try:
            reply = answer()
        except RegistryError as error:
            self.observer.happened(Event.CACHE, "miss")
            raise marks.failed(error) from error.__cause__
        self.observer.happened(Event.CACHE, marks.outcome(reply))
        return reply
