"""Where the content of a repository has come from, if redirects have led to other repositories.

What is kept is kept under the name that clients ask for. A rule may deny a client the repository
that it came from, and so that has to be known as long as something may be kept.

An origin is a repository: rules about tags there are asked with the client's own reference, and not
with the one that a redirect has named.
"""

import json
from dataclasses import dataclass, field
from typing import Final

from app.cache.disk import Disk
from app.oci.errors import RegistryError
from app.oci.reference import Digest, Reference, RepositoryName
from app.source import Reply, Request, Source, TokenRequest

_KIND: Final = "origin"

_AGES: Final = 10.0 * 366 * 86400
"""Seconds; notes end by their number. A repository that has lost its note is asked for anew."""

_MOST: Final = 16
"""Origins of one repository; what has more is not given from the cache to whom rules apply."""

_Origins = frozenset[str]
"""Other repositories, as `<registry>/<repository>`: no registry's name has a slash."""


@dataclass(frozen=True, slots=True)
class Origins:
    """A source that notes where its answers have come from."""

    registry: str
    inner: Source
    disk: Disk
    _unwritten: dict[RepositoryName, _Origins] = field(default_factory=dict, repr=False)
    """What the store could not be given yet."""

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
        if request.permit is None:
            return True
        if self._is_unwritten(name):
            return False
        if not self._leads():
            return True
        origins = self._origins(name)
        if origins is None or len(origins) > _MOST:
            return False
        try:
            for origin in origins:
                registry, _, repository = origin.partition("/")
                request.permit(registry, RepositoryName(repository), reference)
        except (RegistryError, KeyError):  # a rule, or a registry that has left the table
            return False
        return True

    def _noted(self, name: RepositoryName, request: Request, reply: Reply) -> Reply:
        """Note the origin of an answer; if it is this registry, only where others have another."""
        if reply.is_error:
            return reply
        led_to = frozenset(f"{registry}/{repository}" for registry, repository in reply.led_to)
        try:
            if led_to or name in self._unwritten or (request.permit and self._leads()):
                self._note(name, led_to)
        except BaseException:
            reply.close()
            raise
        return reply

    def _note(self, name: RepositoryName, led_to: _Origins) -> None:
        """Note origins; while they cannot be written, no worker gives a client what rules judge."""
        led_to |= self._unwritten.get(name, frozenset())
        known = self._origins(name)
        is_known = known is not None and (led_to <= known or len(known) > _MOST)
        if is_known and self._leads():
            return self._settle(name, led_to)
        if self.disk.write(self._write, name, led_to):
            return self._settle(name, led_to)
        if led_to:
            self._unwritten[name] = led_to | self._unwritten.get(name, frozenset())
            self.disk.store.signs.put_up(self._sign(name))
        return None

    def _write(self, name: RepositoryName, led_to: _Origins) -> None:
        store = self.disk.store
        if led_to and store.notes.noted(_KIND, self.registry) is None:
            store.notes.note(_KIND, self.registry, "", _AGES)
        store.tags.add(_KIND, self._key(name), led_to, _MOST, _AGES)

    def _settle(self, name: RepositoryName, written: _Origins) -> None:
        """Forget what was not written before, as far as it is now."""
        left = self._unwritten.get(name, frozenset()) - written
        if left:
            self._unwritten[name] = left
        elif self._unwritten.pop(name, None) is not None:
            self.disk.store.signs.take_down(self._sign(name))

    def _is_unwritten(self, name: RepositoryName) -> bool:
        return name in self._unwritten or self.disk.store.signs.is_up_elsewhere(self._sign(name))

    def _leads(self) -> bool:
        """Tell whether redirects of this registry have ever led to another repository.

        No client can push out this note: of those in its table there are few.
        """
        return self.disk.read(self.disk.store.notes.noted, _KIND, self.registry) is not None

    def _origins(self, name: RepositoryName) -> _Origins | None:
        """Return where the content of a repository has come from; None if that is not known."""
        note = self.disk.read(self.disk.store.tags.noted, _KIND, self._key(name))
        return frozenset(json.loads(note.value)) if note else None

    def _key(self, name: RepositoryName) -> str:
        return f"{self.registry}/{name}"

    def _sign(self, name: RepositoryName) -> str:
        return f"{_KIND}\n{self._key(name)}"
