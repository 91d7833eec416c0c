"""CachedSource(Source): a registry that is asked only for what is not kept."""

from app.cache.blobs import Blobs
from app.cache.callers import Callers
from app.content import Reply, Request, Source, TokenRequest
from app.oci.reference import Digest, Reference, RepositoryName


class CachedSource:
    """Asks `inner` in the caller's name, and keeps what the answer lets be kept."""

    def __init__(self, inner: Source, callers: Callers, blobs: Blobs) -> None:
        self.inner = inner
        self._callers = callers
        self._blobs = blobs

    def ping(self, request: Request) -> Reply:
        """Answer `GET /v2/`."""
        return self.inner.ping(request)

    def reach(self) -> None:
        """Return if the registry answers; raise RegistryError if not."""
        self.inner.reach()

    def token(self, request: TokenRequest) -> Reply:
        """Get a token."""
        return self.inner.token(request)

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Fetch a manifest."""
        return self.inner.manifest(name, reference, request)

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Fetch a blob."""
        caller, own = self._callers.told_apart(request)
        return self._blobs.blob(caller, name, digest, own)

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """List tags."""
        return self.inner.tags(name, request)

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """List referrers."""
        return self.inner.referrers(name, digest, request)
