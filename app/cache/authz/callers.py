"""Identifies callers by names from which their credentials cannot be recovered.

A name is an HMAC of the Authorization header; its key is the secret that all workers share.
"""

import hashlib
import hmac
import json
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from cachetools import LRUCache

from app.oci import headers, tokens
from app.registries import Registry
from app.source import Request
from app.store.ledger import ANONYMOUS_TOKENS_KIND, Ledger

# Anonymous tokens: issued through Docxy to clients without credentials.

SHARED_TOKENS_KIND: Final = "token for nobody"
"""The kind of the notes that hold a token to be given out again. Notes of the kind
`ANONYMOUS_TOKENS_KIND` say that a caller's token is such a token."""


@dataclass(frozen=True, slots=True)
class AnonymousToken:
    """An anonymous token: its repositories, and the key of its `SHARED_TOKENS_KIND` note."""

    repositories: frozenset[str]
    shared_key: str


def record_anonymous_token(
    ledger: Ledger, caller: str, names: Iterable[str], shared_key: str, seconds: float
) -> None:
    """Record for `seconds` that a caller's name is that of an anonymous token.

    `shared_key` is the key of the token's `SHARED_TOKENS_KIND` note. May raise StoreError.
    """
    value = json.dumps({"names": sorted(names), "shared": shared_key})
    ledger.tokens.record(ANONYMOUS_TOKENS_KIND, caller, value, seconds)


def lookup_anonymous_token(ledger: Ledger, caller: str) -> AnonymousToken | None:
    """Return the anonymous token that a caller presents; None if it is not one, or has expired."""
    note = ledger.tokens.lookup(ANONYMOUS_TOKENS_KIND, caller)
    if note is None or note.seconds_left <= 0:
        return None
    return parse_anonymous_token(note.value)


def parse_anonymous_token(value: str | None) -> AnonymousToken | None:
    """Return the anonymous token that a note describes; None if it describes none."""
    if value is None:
        return None
    try:
        document = json.loads(value)
        return AnonymousToken(frozenset(map(str, document["names"])), str(document["shared"]))
    except (ValueError, KeyError, TypeError):
        return None


def forget_anonymous_token(ledger: Ledger, token: AnonymousToken) -> None:
    """Stop giving out a token, since the registry does not accept it; may raise StoreError."""
    if ledger.tokens.lookup(SHARED_TOKENS_KIND, token.shared_key) is not None:
        ledger.tokens.delete(SHARED_TOKENS_KIND, token.shared_key)


DEFAULT_TOKEN_LIFETIME: Final = 60.0
"""Seconds that a token is valid if nothing is known about it: the minimum in distribution's
`spec/auth/token.md`."""

ACCEL_FAILED: Final = "X-Accel-Failed"
"""The header with which nginx repeats a request for a file that it could not open. It never goes to
the registry."""

_MAX_TOKENS: Final = 10_000
"""Tokens whose expiry is remembered."""


class CallerKind(Enum):
    """The kind of credentials that a caller presents."""

    ANONYMOUS = auto()
    """No Authorization, or a placeholder token that stands for no credentials."""
    TOKEN = auto()
    CREDENTIALS = auto()
    """Basic, and every scheme other than Bearer."""
    ACCOUNT = auto()
    """Credentials that do not matter: the registry is asked with Docxy's own account."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated or anonymous identity. `lifetime`: seconds until its credentials expire."""

    name: str
    kind: CallerKind
    lifetime: float = math.inf
    has_stale_placeholder: bool = False
    """Whether the caller presents the placeholder for a token that could not be fetched.

    The registry's 401 says nothing about such a caller.
    """


class Callers:
    """Identifies the callers of one registry by everything they present to it, and nothing else."""

    def __init__(self, registry: Registry, key: bytes) -> None:
        self._registry = registry
        self._key = key
        account = registry.account.username if registry.account else ""
        kind = CallerKind.ACCOUNT if account else CallerKind.ANONYMOUS
        # Keyed by the names of callers, so that no token stays in memory. NaN: it does not say.
        self._expiries = LRUCache[str, float](_MAX_TOKENS)
        self._lock = threading.Lock()
        self._anonymous = Caller(self.hash_secret(""), CallerKind.ANONYMOUS)
        # An Authorization header has no line break, so no client can pass for the account.
        self._managed_account = Caller(self.hash_secret(f"account\n{account}"), kind)

    def hash_secret(self, text: str) -> str:
        """Return a fingerprint of a secret for this registry, as hex (HMAC-SHA256).

        The secret cannot be recovered from it.
        """
        registry = self._registry
        message = f"{registry.name}\0{registry.url}\0{text}".encode(errors="surrogateescape")
        return hmac.digest(self._key, message, hashlib.sha256).hex()

    def identify(self, request: Request) -> tuple[Caller, Request]:
        """Return the caller, and the request to send to the registry in the caller's name.

        That request has only the headers that identify the caller and those that say what is
        wanted. Any other header might give access at the registry, and what it opened would then be
        cached under the wrong caller.
        """
        authorization = request.authorization.strip()
        fields = headers.filter_redirect_headers(request.headers)
        if accel_failed := headers.get_first(request.headers, ACCEL_FAILED):
            fields.append((ACCEL_FAILED, accel_failed))
        if self._registry.managed:
            return self._managed_account, replace(request, headers=fields)
        if not authorization or tokens.is_placeholder(authorization):
            is_stale = tokens.is_stale_placeholder(authorization)
            return replace(self._anonymous, has_stale_placeholder=is_stale), replace(
                request, headers=fields
            )
        fields.append(("Authorization", authorization))
        return self._identify_by_authorization(authorization), replace(request, headers=fields)

    def _identify_by_authorization(self, authorization: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return Caller(
                self.hash_secret(authorization), CallerKind.CREDENTIALS, DEFAULT_TOKEN_LIFETIME
            )
        token = token.strip()
        name = self.hash_bearer(token)
        return Caller(name, CallerKind.TOKEN, self._estimate_lifetime(name, token))

    def _estimate_lifetime(self, name: str, token: str) -> float:
        """Return the seconds left of a token, or `DEFAULT_TOKEN_LIFETIME` if it does not say.

        A token is read once for its many requests; `name` is its caller's.
        """
        with self._lock:
            expiry = self._expiries.get(name)
        if expiry is None:
            seconds_left = parse_lifetime(token)
            expiry = math.nan if seconds_left is None else time.time() + seconds_left
            with self._lock:
                self._expiries[name] = expiry
        return DEFAULT_TOKEN_LIFETIME if math.isnan(expiry) else max(expiry - time.time(), 0.0)

    def hash_bearer(self, token: str) -> str:
        """Return the name of a caller who presents this Bearer token."""
        return self.hash_secret(f"Bearer {token}")


def parse_lifetime(token: str) -> float | None:
    """Return for how many more seconds a token says it is valid (wall-clock); None if it does not.

    This is the `exp` claim of a JWT, whose signature is not verified. It need not be: the claim can
    only shorten what the registry has let the bearer do.
    """
    expiry = tokens.parse_claims(token).get("exp")
    if isinstance(expiry, bool) or not isinstance(expiry, int | float):
        return None
    try:
        seconds_left = float(expiry) - time.time()
    except OverflowError:
        return None
    return max(seconds_left, 0.0) if math.isfinite(seconds_left) else None
