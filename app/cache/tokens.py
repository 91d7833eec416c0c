"""Anonymous tokens, shared by all clients without credentials; no other token is cached."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from app.cache import cache_status
from app.cache.authz import callers
from app.cache.authz.callers import DEFAULT_TOKEN_LIFETIME, Callers, parse_lifetime
from app.cache.authz.gate import Gate
from app.cache.disk import DiskExecutor
from app.cache.policy import MAX_WAITS, TOKEN_EXPIRY_MARGIN
from app.cache.stale import TOKENS_OUTAGE_KIND, is_outage, is_outage_status
from app.oci import documents, headers, tokens
from app.oci.errors import (
    NameInvalid,
    RegistryError,
    TooManyRequests,
    UpstreamTimeout,
    UpstreamUnresolved,
)
from app.oci.reference import RepositoryName
from app.oci.scope import Action, Scope
from app.source import Reply, Source, TokenRequest, build_reply, do_nothing
from app.store.ledger import Note
from app.waiting import SingleFlight

_ANONYMOUS_PARAMETERS: Final = frozenset({"scope", "client_id"})
"""Parameters of a token request that are not credentials; any other may hold some."""

_MAX_SCOPES: Final = 16
_MAX_SCOPES_LENGTH: Final = 4 * 1024
_MAX_TOKEN_LENGTH: Final = 16 * 1024
"""Limits for a token that is shared: the number of its scopes, and the length of all scopes and of
the token.

A client asks for two or three scopes; anonymous tokens have some 2,500 characters. A token beyond
these limits is requested each time.
"""

_FAILURE_LIFETIME: Final = 120.0
"""Seconds for which a failure of the token service is remembered."""

_PAUSE: Final = 2.0
"""Seconds for which the token service is not asked again after a failure."""

_LONG_PAUSE: Final = 10.0
"""The same after a 429, or after silence, which would make the next client wait as well."""

_SILENT: Final = "silent"
"""Takes the place of a status if the token service gave no answer in time."""

_TOO_MANY: Final = str(int(HTTPStatus.TOO_MANY_REQUESTS))

_MAX_EXPIRES_IN: Final = 10**9

_REFUSAL_STATUSES: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCache:
    """Requests tokens, and shares anonymous ones until shortly before they expire.

    If the token service fails, anonymous clients get a placeholder token. It never goes to the
    registry, and gives access to cached public content.
    """

    registry: str
    inner: Source
    callers: Callers
    gate: Gate
    disk: DiskExecutor
    single_flight: SingleFlight[str]

    def serve_token(self, request: TokenRequest) -> Reply:
        """Return a token, or the token service's refusal.

        Raise RegistryError if the service cannot be asked and no requested repository is public.
        """
        if not is_anonymous(request):
            return cache_status.mark_reply(self.inner.token(request), [])
        scopes = _parse_scopes(request)
        key = self.callers.hash_secret(f"token for {' '.join(scopes)}")
        if reply := self._serve_shared(key):
            return reply
        for _ in range(MAX_WAITS):
            with self.single_flight.lead(f"{self.registry} {key}", request.client) as is_leader:
                if is_leader:
                    # Another request may have ended between the lookup and the lead.
                    return self._serve_shared(key) or self._fetch(request, key, scopes)
            if reply := self._serve_shared(key):
                return reply
        return self._fetch(request, key, scopes)

    def _serve_shared(self, key: str) -> Reply | None:
        note = self.disk.read(self.disk.ledger.tokens.lookup, callers.SHARED_TOKENS_KIND, key)
        if note is None or note.seconds_left <= 0:
            return None
        return _build_token_reply(note.value, note.seconds_left + TOKEN_EXPIRY_MARGIN)

    def _fetch(self, request: TokenRequest, key: str, scopes: Sequence[str]) -> Reply:
        status = self._lookup_recent_failure()
        if status is not None and (reply := self._serve_placeholder(scopes, status)):
            return reply
        started_at = time.monotonic()
        upstream_request = replace(
            request,
            headers=headers.filter_redirect_headers(request.headers),
            has_fallback=lambda: self._is_public(scopes),
        )
        try:
            reply = self.inner.token(upstream_request)
        except RegistryError as error:
            if is_outage(error) and (
                placeholder := self._serve_placeholder(scopes, _classify_failure(error))
            ):
                return placeholder
            raise
        if is_outage_status(reply.status) and (
            placeholder := self._serve_placeholder(scopes, str(reply.status))
        ):
            reply.close()
            return placeholder
        return cache_status.mark_reply(self._record_answer(reply, key, scopes, started_at), [])

    def _record_answer(
        self, reply: Reply, key: str, scopes: Sequence[str], started_at: float
    ) -> Reply:
        if reply.status == HTTPStatus.OK:
            if len(scopes) > _MAX_SCOPES or len("".join(scopes)) > _MAX_SCOPES_LENGTH:
                return reply
            return self._record_token(reply, key, scopes, started_at)
        if reply.status in _REFUSAL_STATUSES:
            # A token service refuses a request as a whole, without saying which scope was wrong.
            for name in _parse_repositories(scopes) if _is_single_pull(scopes) else []:
                self.gate.record_anonymous_refusal(name)
        return reply

    def _record_token(
        self, reply: Reply, key: str, scopes: Sequence[str], started_at: float
    ) -> Reply:
        """Remember the token of an answer, and that it is an anonymous one."""
        try:
            content = reply.read()
        finally:
            reply.close()
        reply = replace(reply, body=content, close=do_nothing)
        document = documents.parse_object_or_empty(content)
        lifetime = _parse_lifetime(document) - (time.monotonic() - started_at)
        for token in _parse_tokens(document):
            caller = self.callers.hash_bearer(token)
            self.disk.write(
                callers.record_anonymous_token,
                self.disk.ledger,
                caller,
                _parse_repositories(scopes),
                key,
                max(lifetime, 0.0),
            )
            if lifetime > TOKEN_EXPIRY_MARGIN:
                self.disk.write(
                    self.disk.ledger.tokens.record,
                    callers.SHARED_TOKENS_KIND,
                    key,
                    token,
                    lifetime - TOKEN_EXPIRY_MARGIN,
                )
        if self._lookup_failure() is not None:
            self.disk.write(self.disk.ledger.notes.delete, TOKENS_OUTAGE_KIND, self.registry)
        return reply

    def _lookup_recent_failure(self) -> str | None:
        """Return how the token service has just failed: a status, `_SILENT` or "".

        None means that it may be asked again.
        """
        note = self._lookup_failure()
        if note is None or note.age is None:
            return None
        pause = _LONG_PAUSE if note.value in {_SILENT, _TOO_MANY} else _PAUSE
        return note.value if note.age < pause else None

    def _lookup_failure(self) -> Note | None:
        note = self.disk.read(self.disk.ledger.notes.lookup, TOKENS_OUTAGE_KIND, self.registry)
        return None if note is None or note.seconds_left <= 0 else note

    def _serve_placeholder(self, scopes: Sequence[str], status: str) -> Reply | None:
        """Return a placeholder token, or None if no requested repository is public."""
        if not self._is_public(scopes):
            return None
        if self._lookup_recent_failure() is None:
            notes = self.disk.ledger.notes
            self.disk.write(
                notes.record, TOKENS_OUTAGE_KIND, self.registry, status, _FAILURE_LIFETIME
            )
        return _build_token_reply(tokens.STALE_PLACEHOLDER, DEFAULT_TOKEN_LIFETIME)

    def _is_public(self, scopes: Sequence[str]) -> bool:
        return any(self.gate.was_public(name) for name in _parse_repositories(scopes))


def _classify_failure(error: RegistryError) -> str:
    """Return the status to note for a missing answer: 429, `_SILENT` or ""."""
    if isinstance(error, TooManyRequests):
        return _TOO_MANY
    return _SILENT if isinstance(error, UpstreamTimeout | UpstreamUnresolved) else ""


def is_anonymous(request: TokenRequest) -> bool:
    """Return whether a token request has nothing that could be credentials."""
    names = {name for name, _ in request.parameters}
    authorization = headers.get_first(request.headers, "authorization")
    return request.method == "GET" and not authorization and names <= _ANONYMOUS_PARAMETERS


def _parse_scopes(request: TokenRequest) -> list[str]:
    return sorted({
        scope for name, value in request.parameters if name == "scope" for scope in value.split()
    })  # fmt: skip


def _parse_repositories(scopes: Sequence[str]) -> list[RepositoryName]:
    """Return the repositories that the scopes name; scopes that cannot be read are left out."""
    repositories = []
    for text in scopes:
        scope = Scope.parse(text)
        if scope is not None and scope.is_repository:
            with suppress(NameInvalid):
                repositories.append(RepositoryName.parse(scope.name))
    return repositories


def _is_single_pull(scopes: Sequence[str]) -> bool:
    """Return whether the scopes only ask to pull from one repository."""
    parsed_scopes = [Scope.parse(text) for text in scopes]
    return [scope and scope.actions for scope in parsed_scopes] == [Action.PULL]


def _build_token_reply(token: str, seconds_left: float) -> Reply:
    fields = [("Content-Type", "application/json"), cache_status.PRIVATE]
    return build_reply(HTTPStatus.OK, fields, tokens.build_answer(token, seconds_left))


def _parse_tokens(document: dict[str, Any]) -> list[str]:
    is_placeholder = tokens.is_placeholder
    return [
        token
        for token in tokens.list_tokens(document)
        if len(token) <= _MAX_TOKEN_LENGTH and not is_placeholder(f"Bearer {token}")
    ]


def _parse_lifetime(document: dict[str, Any]) -> float:
    """Return for how many seconds a response's token is valid: the shortest time it states."""
    expires_in = document.get("expires_in")
    lifetimes = [DEFAULT_TOKEN_LIFETIME]
    if (
        isinstance(expires_in, int | float)
        and 0 < expires_in < _MAX_EXPIRES_IN
        and not isinstance(expires_in, bool)
    ):
        lifetimes = [float(expires_in)]
    with suppress(ValueError, TypeError, KeyError):
        age = datetime.now(UTC) - datetime.fromisoformat(document["issued_at"])
        lifetimes.append(lifetimes[0] - max(age.total_seconds(), 0.0))
    claimed_lifetimes = [parse_lifetime(token) for token in _parse_tokens(document)]
    return min(lifetimes + [lifetime for lifetime in claimed_lifetimes if lifetime is not None])
