"""Origins: the other repositories that content came from, if redirects led there.

Content is cached under the name that clients ask for. An access rule may deny a client the
repository that it came from, so the origins must be known for as long as content may be cached.

An origin is a repository. Rules about its tags are checked with the client's own reference, and not
with the one that a redirect named.
"""

import json
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from app.cache.disk import DiskExecutor
from app.oci.errors import RegistryError
from app.oci.reference import Kind, Operation, RepositoryName
from app.source import Reply, Request, Source, TokenRequest
from app.store.errors import StoreError

_KIND: Final = "origin"

_NOTE_LIFETIME: Final = 10.0 * 366 * 86400
"""Seconds (ten years): notes are limited by their number, not by age. If a repository has lost its
note, the registry is asked again."""

_MAX_ORIGINS: Final = 16
"""Origins of one repository. If there are more, clients to whom rules apply get nothing of it from
the cache."""

_WITHOUT_ORIGIN: Final = frozenset({Kind.PING, Kind.TAGS})
"""Operations whose answers no registry fetches from another."""

_Origins = frozenset[str]
"""Other repositories, as `<registry>/<repository>`; no registry's name contains a slash."""


@dataclass(frozen=True, slots=True)
class OriginTracker:
    """A source that records where the answers of `inner` came from.

    Its methods return the answers of `inner` unchanged, and raise RegistryError as it does.
    """

    registry: str
    inner: Source
    disk: DiskExecutor
    _unwritten: dict[RepositoryName, _Origins] = field(default_factory=dict, repr=False)
    """Origins that the store could not write yet."""
    _none_as_of: dict[str, Hashable] = field(default_factory=dict, repr=False)
    """The ledger's version in which this registry had no origins."""

    def answer(self, operation: Operation, request: Request) -> Reply:
        """Return the answer of `inner`, and record its origin if it is content or refers to it."""
        reply = self.inner.answer(operation, request)
        if operation.kind in _WITHOUT_ORIGIN:
            return reply
        return self._record_origin(operation.repository, request, reply)

    def token(self, request: TokenRequest) -> Reply:
        """Return the token service's answer."""
        return self.inner.token(request)

    def reach(self) -> None:
        """Return None if the registry answers; raise RegistryError if it does not."""
        self.inner.reach()

    def is_allowed(self, operation: Operation, request: Request) -> bool:
        """Return whether the access rules allow a client the cached content, whatever its origin.

        False if an origin is denied, unknown or could not be written. Call this once the answer has
        been found: the origin of all content is recorded before the content is cached.
        """
        if request.permit is None or operation.kind in _WITHOUT_ORIGIN:
            return True
        name = operation.repository
        if self._is_unwritten(name):
            return False
        if not self._has_origins():
            return True
        origins = self._lookup_origins(name)
        if origins is None or len(origins) > _MAX_ORIGINS:
            return False
        try:
            for origin in origins:
                registry, _, repository = origin.partition("/")
                request.permit(registry, RepositoryName(repository), operation.manifest_reference)
        except (RegistryError, KeyError):  # denied by a rule, or no longer configured
            return False
        return True

    def _record_origin(self, name: RepositoryName, request: Request, reply: Reply) -> Reply:
        """Record the origin of an answer, and return the answer.

        If no redirect led elsewhere, record that only if other answers were redirected.
        """
        if reply.is_error:
            return reply
        origins = frozenset(
            f"{registry}/{repository}" for registry, repository in reply.redirect_targets
        )
        try:
            if origins or name in self._unwritten or (request.permit and self._has_origins()):
                self._record(name, origins)
        except BaseException:
            reply.close()
            raise
        return reply

    def _record(self, name: RepositoryName, origins: _Origins) -> None:
        """Record origins.

        Until they can be written, no worker serves this repository from the cache to clients to
        whom rules apply.
        """
        origins |= self._unwritten.get(name, frozenset())
        known_origins = self._lookup_origins(name)
        is_known = known_origins is not None and (
            origins <= known_origins or len(known_origins) > _MAX_ORIGINS
        )
        if is_known and self._has_origins():
            return self._clear_unwritten(name, origins)
        if self.disk.write(self._write, name, origins):
            return self._clear_unwritten(name, origins)
        if origins:
            self._unwritten[name] = origins | self._unwritten.get(name, frozenset())
            self.disk.ledger.flags.set_flag(self._build_flag(name))
        return None

    def _write(self, name: RepositoryName, origins: _Origins) -> None:
        ledger = self.disk.ledger
        if origins and ledger.notes.lookup(_KIND, self.registry) is None:
            ledger.notes.record(_KIND, self.registry, "", _NOTE_LIFETIME)
        ledger.tags.add_to_set(_KIND, self._build_key(name), origins, _MAX_ORIGINS, _NOTE_LIFETIME)

    def _clear_unwritten(self, name: RepositoryName, written_origins: _Origins) -> None:
        """Remove from the unwritten origins those that are written now."""
        remaining = self._unwritten.get(name, frozenset()) - written_origins
        if remaining:
            self._unwritten[name] = remaining
        elif self._unwritten.pop(name, None) is not None:
            self.disk.ledger.flags.clear_flag(self._build_flag(name))

    def _is_unwritten(self, name: RepositoryName) -> bool:
        return name in self._unwritten or self.disk.ledger.flags.is_set_elsewhere(
            self._build_flag(name)
        )

    def _has_origins(self) -> bool:
        """Return whether redirects of this registry have ever led to another repository.

        No client can push this note out of its table, which holds few notes. Its absence
        is remembered until the ledger is written to; a failure to read it is not.
        """
        version = self.disk.ledger.read_version()
        if version is not None and self._none_as_of.get(self.registry) == version:
            return False
        try:
            notes = self.disk.read(self.disk.ledger.notes.lookup_prefix, _KIND, self.registry)
        except StoreError as error:
            self.disk.log_failure(error)
            return False
        if self.registry in notes:
            return True
        if version is not None:
            self._none_as_of[self.registry] = version
        return False

    def _lookup_origins(self, name: RepositoryName) -> _Origins | None:
        """Return the origins of a repository's content; None if they are not known."""
        note = self.disk.read(self.disk.ledger.tags.lookup, _KIND, self._build_key(name))
        return frozenset(json.loads(note.value)) if note else None

    def _build_key(self, name: RepositoryName) -> str:
        return f"{self.registry}/{name}"

    def _build_flag(self, name: RepositoryName) -> str:
        return f"{_KIND}\n{self._build_key(name)}"
