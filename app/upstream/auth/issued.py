"""Tokens that this proxy gets itself: one per scope, shared, and renewed before they expire."""

import hashlib
import hmac
import re
import threading
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from cachetools import LRUCache

from app import shared_memory
from app.oci import documents, tokens
from app.oci.errors import (
    AccountRefused,
    Denied,
    RegistryError,
    TooManyRequests,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from app.oci.headers import Headers
from app.registries import Account
from app.source import Reply, Source, TokenRequest
from app.upstream.auth import placeholders
from app.upstream.auth.remembered import PASSING_LIFETIME, get_transient_lifetime
from app.upstream.http.deadlines import NO_LIMIT, Call
from app.waiting import SingleFlight

# Anonymous tokens: if one expires in the middle of a layer, any other anonymous token will do.

_FINGERPRINT_SIZE: Final = 16
"""Bytes of the HMAC that stands for a token: enough that no two tokens have the same."""

_SLOTS: Final = len(shared_memory.MEMORY) // _FINGERPRINT_SIZE


class AnonymousTokens:
    """The anonymous tokens of one registry that any worker has obtained.

    Most registries also mark such a token themselves with an empty `sub` (distribution's
    `spec/auth/jwt.md`). Forging that gains a client nothing but a token that anyone can have.
    Each token has one slot in the memory that all workers share. A newer token with the same slot
    replaces it, and the older one no longer counts as anonymous.
    """

    def __init__(self, registry: str) -> None:
        self._registry = registry

    def record(self, answer: bytes) -> None:
        """Remember the tokens in a token service's answer to an anonymous request."""
        for token in tokens.list_tokens(documents.parse_object_or_empty(answer)):
            offset, fingerprint = self._locate_slot(token)
            shared_memory.MEMORY[offset : offset + _FINGERPRINT_SIZE] = fingerprint

    def is_anonymous(self, authorization: str) -> bool:
        """Return whether an Authorization is a Bearer token that is known to be anonymous."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        offset, fingerprint = self._locate_slot(token)
        is_recorded = shared_memory.MEMORY[offset : offset + _FINGERPRINT_SIZE] == fingerprint
        return is_recorded or tokens.parse_claims(token).get("sub") == ""

    def _locate_slot(self, token: str) -> tuple[int, bytes]:
        """Return the offset of a token's slot, and the part of its HMAC that is stored there.

        The token itself is never stored.
        """
        text = f"{self._registry}\0{token}".encode(errors="surrogateescape")
        digest = hmac.digest(shared_memory.KEY, text, hashlib.sha256)
        return int.from_bytes(digest[_FINGERPRINT_SIZE:]) % _SLOTS * _FINGERPRINT_SIZE, digest[
            :_FINGERPRINT_SIZE
        ]


_MAX_SCOPES: Final = 10_000
"""Scopes whose tokens are kept. Each takes a few KB."""

_DEFAULT_LIFETIME: Final = 60.0
"""Seconds that a token is valid if its service does not say: `spec/auth/token.md`."""

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")

_MAX_LIFETIME: Final = 86400.0
"""The longest lifetime of a token in seconds, whatever its service says."""

_RENEWAL_MARGIN: Final = 30.0
"""Seconds before its expiry at which a token is renewed, or a third of its lifetime if that is
shorter."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, when to renew it and when it expires, in monotonic seconds."""

    value: str = field(repr=False)
    renew_at: float
    expires_at: float


@dataclass(slots=True)
class _Slot:
    token: IssuedToken | None = None
    failure: RegistryError | None = None
    retry_at: float = 0.0


class IssuedTokens:
    """Gets the token of each scope from `issue_token`, in one call for all callers (single-flight).

    While one caller renews a token, the others use the old one until it expires.
    A failure is repeated from memory for some seconds, because many callers may be waiting.
    """

    def __init__(self, issue: Callable[[str, Call], IssuedToken]) -> None:
        self._issue = issue
        self._slots = LRUCache[str, _Slot](_MAX_SCOPES)
        self._lock = threading.Lock()
        self._single_flight = SingleFlight[str]()

    def get(self, scope: str, call: Call = NO_LIMIT) -> str:
        """Return a valid token for a scope; raise RegistryError if `issue_token` gives none.

        `call` belongs to the caller, who may have to wait for the token. Raise ClientGone if its
        client disconnects while another caller gets the token.
        """
        slot = self._get_slot(scope)
        token, now = slot.token, time.monotonic()
        if token is not None and now < token.renew_at:
            return token.value
        if token is None or now >= token.expires_at:
            return self._get_or_renew(scope, slot, call)
        with self._single_flight.lead(scope, patience=0) as is_leader:
            if not is_leader:
                return token.value
            return _unwrap(_recall(slot) or self._renew(scope, slot, call))

    def replace_refused(self, refused: str, scope: str, call: Call = NO_LIMIT) -> str:
        """Return a newer token than `refused`, which the registry has refused.

        Raise RegistryError if `issue_token` gives none.
        """
        return self._get_or_renew(scope, self._get_slot(scope), call, refused)

    def _get_or_renew(self, scope: str, slot: _Slot, call: Call, refused: str = "") -> str:
        outcome = self._single_flight.get(
            scope,
            partial(_recall, slot, refused),
            partial(self._renew, scope, slot, call),
            call.client,
        )
        return _unwrap(outcome)

    def _renew(self, scope: str, slot: _Slot, call: Call) -> str | RegistryError:
        """Return a new token, or the old one if that fails and it is still valid, or the error."""
        try:
            slot.token = token = self._issue(scope, call.share())
        except RegistryError as error:
            # A copy without its traceback, which would keep a client's request alive.
            slot.failure = copy(error)
            is_good = slot.token is not None and time.monotonic() < slot.token.expires_at
            pause = PASSING_LIFETIME if is_good else get_transient_lifetime(error)
            slot.retry_at = time.monotonic() + pause
            return slot.token.value if slot.token is not None and is_good else slot.failure
        slot.failure = None
        return token.value

    def _get_slot(self, scope: str) -> _Slot:
        with self._lock:
            return self._slots.setdefault(scope, _Slot())


def _recall(slot: _Slot, refused: str = "") -> str | RegistryError | None:
    """Return the token or the failure that counts at present; None if a token has to be got.

    A token that was `refused` is forgotten.
    """
    if slot.token is not None and slot.token.value == refused:
        slot.token = None
    token, now = slot.token, time.monotonic()
    if token is not None and now < token.renew_at:
        return token.value
    if slot.failure is None or now >= slot.retry_at:
        return None
    return token.value if token is not None and now < token.expires_at else slot.failure


def _unwrap(outcome: str | RegistryError) -> str:
    """Return a token, or raise a copy of a failure, which other callers raise as well."""
    if isinstance(outcome, RegistryError):
        raise copy(outcome)
    return outcome


def issue_token(
    source: Source, account: Account | None, scope: str, call: Call = NO_LIMIT
) -> IssuedToken:
    """Return a new token for a scope, with an account or, if that is None, anonymously.

    Raise AccountRefused if the token service refuses the account, Denied if it refuses the scope,
    TooManyRequests on a 429, or another RegistryError if its answer has no token.
    """
    requested_at = time.monotonic()
    parameters = [("client_id", "docxy")]
    if scope:
        parameters.append(("scope", scope))
    fields: Headers = []
    if account is not None:
        parameters.append(("account", account.username))
        fields.append(
            (
                "Authorization",
                placeholders.format_basic_authorization(account.username, account.password),
            )
        )
    request = TokenRequest(
        method="GET",
        parameters=parameters,
        headers=fields,
        has_fallback=call.has_fallback,
        deadline=call.deadline,
    )
    reply = source.token(request)
    try:
        content = reply.read()
    finally:
        reply.close()
    if reply.status != HTTPStatus.OK:
        raise _build_error(reply, account)
    return _parse_token(content, requested_at)


def _build_error(reply: Reply, account: Account | None) -> RegistryError:
    match reply.status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return TooManyRequests(headers={"Retry-After": reply.header("retry-after") or "30"})
        case HTTPStatus.UNAUTHORIZED if account is not None:
            return AccountRefused()
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN | HTTPStatus.NOT_FOUND:
            return Denied()
    message = f"the token service answered {reply.status}"
    if reply.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return UpstreamMisbehaved(message)
    return UpstreamUnavailable(message)


def _parse_token(content: bytes, requested_at: float) -> IssuedToken:
    document = documents.parse_object_or_empty(content)
    value = tokens.get_token(document)
    if not _TOKEN.fullmatch(value):
        message = "the token service gave no token"
        raise UpstreamMisbehaved(message)
    expires_in: Any = document.get("expires_in")
    is_valid = (
        isinstance(expires_in, int | float) and not isinstance(expires_in, bool) and expires_in > 0
    )
    lifetime = min(expires_in, _MAX_LIFETIME) if is_valid else _DEFAULT_LIFETIME
    expires_at = requested_at + lifetime
    return IssuedToken(value, expires_at - min(_RENEWAL_MARGIN, lifetime / 3), expires_at)
