"""Where the content of a repository has come from, if redirects have led to other repositories.

What is kept is kept under the name that clients ask for. A rule may deny a client the repository
that it came from, and so that has to be known as long as something may be kept.
"""

import json
from dataclasses import dataclass
from typing import Final

from app.cache.disk import Disk
from app.oci.errors import RegistryError
from app.oci.reference import Digest, Reference, RepositoryName
from app.source import Reply, Request, Source, TokenRequest

_KIND: Final = "origins"

_AGES: Final = 10.0 * 366 * 86400
"""Seconds; notes end by their number. A repository that has lost its note is asked for anew."""

_MOST: Final = 16
"""Origins of one repository; what has more is not given from the cache to whom rules apply."""

_Origins = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Origins:
    """A source that notes where its answers have come from."""

    registry: str
    inner: Source
    disk: Disk

    def ping(self, request: Request) -> Reply:
        """Answer `GET /v2/`."""
        return self.inner.ping(request)

    def reach(self) -> None:
        """Return if the registry answers; raise RegistryError if not."""
        self.inner.reach()

    def token(self, request: TokenRequest) -> Reply:
        """Pass a request to the token service."""
        return self.inner.token(request)

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Fetch a manifest."""
        return self._noted(name, request, self.inner.manifest(name, reference, request))

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Fetch a blob."""
        return self._noted(name, request, self.inner.blob(name, digest, request))

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """List tags, for which no redirect leads to another registry."""
        return self.inner.tags(name, request)

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """List referrers."""
        return self._noted(name, request, self.inner.referrers(name, digest, request))

    def permit(self, request: Request, name: RepositoryName, reference: Reference | None) -> bool:
        """Tell whether a client may have what is kept of a repository, wherever it has come from.

        Ask this when the answer is at hand: whatever can be in it was noted before it was kept.
        """
        if request.permit is None or self.registry not in self._leading():
            return True
        origins = self._origins(name)
        if origins is None or len(origins) > _MOST:
            return False
        try:
            for registry, repository in origins:
                request.permit(registry, RepositoryName(repository), reference)
        except (RegistryError, KeyError):  # a rule, or a registry that has left the table
            return False
        return True

    def _noted(self, name: RepositoryName, request: Request, reply: Reply) -> Reply:
        """Note the origin of an answer; if it is this registry, only where others have another."""
        if reply.is_error:
            return reply
        led_to = frozenset((registry, str(repository)) for registry, repository in reply.led_to)
        try:
            leading = self._leading() if led_to or request.permit else frozenset()
            if led_to or self.registry in leading:
                self._note(name, led_to, leading)
        except BaseException:
            reply.close()
            raise
        return reply

    def _note(self, name: RepositoryName, led_to: _Origins, leading: frozenset[str]) -> None:
        known = self._origins(name)
        if self.registry not in leading:
            value = json.dumps(sorted({*leading, self.registry}))
            self.disk.write(self.disk.store.notes.note, _KIND, "", value, _AGES)
        if known is None or not led_to <= known:
            key, value = self._key(name), json.dumps(sorted(led_to | (known or frozenset())))
            self.disk.write(self.disk.store.tags.note, _KIND, key, value, _AGES)

    def _leading(self) -> frozenset[str]:
        """Return the registries whose redirects have ever led to another repository.

        No client can push out this note: of those in its table there are few.
        """
        note = self.disk.read(self.disk.store.notes.noted, _KIND, "")
        return frozenset(json.loads(note.value)) if note else frozenset()

    def _origins(self, name: RepositoryName) -> _Origins | None:
        """Return where the content of a repository has come from; None if that is not known."""
        note = self.disk.read(self.disk.store.tags.noted, _KIND, self._key(name))
        return frozenset((one, other) for one, other in json.loads(note.value)) if note else None

    def _key(self, name: RepositoryName) -> str:
        return f"{self.registry}/{name}"
