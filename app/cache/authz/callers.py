"""Callers: who asks, by a name from which their credentials cannot be recovered.

The name is an HMAC of the Authorization header; its key is in a file of the cache's directory.
"""

import base64
import binascii
import errno
import hashlib
import hmac
import json
import math
import os
import secrets
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from app.oci import headers, placeholder_tokens
from app.registries import Registry
from app.source import Request
from app.store.errors import build_error, translate_errors
from app.store.layout import close, open_descriptor
from app.store.store import Store

_NAME: Final = "secret"
_BYTES: Final = 32
_MODE: Final = 0o600
_OTHERS: Final = 0o007


def load_secret(directory: Path) -> bytes:
    """Return the key of a directory, and create it if there is none; raise StoreError.

    All workers use the same key, because they share grants.
    """
    path = directory / _NAME
    with translate_errors(f"read {path}"):
        try:
            key = _read_key(path)
        except FileNotFoundError:
            _create_key(path)
            key = _read_key(path)
    if len(key) != _BYTES:
        raise build_error(22, f"{path} holds no key; remove it")
    return key


def load_token_key(directory: Path) -> bytes:
    """Return the key that signs the tokens of users; raise StoreError if others may know it.

    Whoever knows the key can make tokens, so the file must not be accessible to others. Access by
    a group is the operator's choice; Kubernetes' fsGroup is an example.
    """
    key, path = load_secret(directory), directory / _NAME
    with translate_errors(f"read {path}"):
        mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & _OTHERS:
        message = (
            f"{path} has the mode {mode:04o}, so others may know the key that signs tokens: "
            "remove it, and a new one is made"
        )
        raise build_error(errno.EACCES, message)
    return hmac.digest(key, b"tokens of users", "sha256")


def _read_key(path: Path) -> bytes:
    # O_NONBLOCK, because opening a named pipe in its place would block.
    with open_descriptor(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
        return os.read(descriptor, _BYTES + 1)


def _create_key(path: Path) -> None:
    """Create the key file atomically; if another process is first, its key stays."""
    beside = path.with_name(f"secret.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        os.write(descriptor, secrets.token_bytes(_BYTES))
        os.fsync(descriptor)
        try:
            os.link(beside, path)
        except FileExistsError:
            return
    finally:
        close(descriptor)
        beside.unlink(missing_ok=True)


# Anonymous tokens: issued through Docxy to clients without credentials.

ISSUED: Final = "token of nobody"
SHARED: Final = "token for nobody"
"""The kinds of two notes: that a caller's token is anonymous, and the token to give out again."""


@dataclass(frozen=True, slots=True)
class AnonymousToken:
    """An anonymous token: its repositories, and the key of its `SHARED` note."""

    repositories: frozenset[str]
    shared_key: str


def record_anonymous_token(
    store: Store, caller: str, names: Iterable[str], shared: str, seconds: float
) -> None:
    """Record for `seconds` that a caller's name is that of an anonymous token.

    `shared_key` is the key of the token's `SHARED` note. Raise StoreError.
    """
    value = json.dumps({"names": sorted(names), "shared": shared})
    store.tokens.record(ISSUED, caller, value, seconds)


def lookup_anonymous_token(store: Store, caller: str) -> AnonymousToken | None:
    """Return the anonymous token that a caller presents; None if it is not one, or has expired."""
    found = store.tokens.lookup(ISSUED, caller)
    if found is None or found.seconds_left <= 0:
        return None
    try:
        document = json.loads(found.value)
        return AnonymousToken(frozenset(map(str, document["names"])), str(document["shared"]))
    except (ValueError, KeyError, TypeError):
        return None


def forget_anonymous_token(store: Store, issued: AnonymousToken) -> None:
    """Stop giving out a token, since the registry does not accept it; raise StoreError."""
    if store.tokens.lookup(SHARED, issued.shared_key) is not None:
        store.tokens.delete(SHARED, issued.shared_key)


UNKNOWN_TOKEN: Final = 60.0
"""Seconds that a token is valid if nothing is known about it: the minimum in distribution's
`spec/auth/token.md`."""

ACCEL_FAILED: Final = "X-Accel-Failed"
"""The header with which nginx repeats a request for a file that it could not open. It never goes to
the registry."""

_PARTS: Final = 3


class CallerKind(Enum):
    """The kind of credentials that a caller presents."""

    ANONYMOUS = auto()
    """No Authorization, or a placeholder token for none."""
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
    """Whether the caller presents the placeholder for a token that could not be had.

    The registry's 401 says nothing about such a caller.
    """


class Callers:
    """Identifies the callers of one registry by everything they present to it, and nothing else."""

    def __init__(self, registry: Registry, key: bytes) -> None:
        self._registry = registry
        self._key = key
        account = registry.account.username if registry.account else ""
        kind = CallerKind.ACCOUNT if account else CallerKind.ANONYMOUS
        self._anonymous = Caller(self.hash_secret(""), CallerKind.ANONYMOUS)
        # An Authorization header has no line break, so no client can pass for the account.
        self._managed_account = Caller(self.hash_secret(f"account\n{account}"), kind)

    def hash_secret(self, text: str) -> str:
        """Return a fingerprint of a secret for this registry, as hex (HMAC-SHA256).

        The secret cannot be recovered from it.
        """
        row = self._registry
        message = f"{row.name}\0{row.url}\0{text}".encode(errors="surrogateescape")
        return hmac.digest(self._key, message, hashlib.sha256).hex()

    def identify(self, request: Request) -> tuple[Caller, Request]:
        """Return who asks, and the request to send to the registry in their name.

        That request has only the headers that identify the caller and those that say what is
        wanted. Any other header might give access at the registry, and what it opened would then be
        cached under the wrong caller.
        """
        authorization = request.authorization.strip()
        fields = headers.filter_redirect_headers(request.headers)
        if failed := headers.get_first(request.headers, ACCEL_FAILED):
            fields.append((ACCEL_FAILED, failed))
        if self._registry.managed:
            return self._managed_account, replace(request, headers=fields)
        if not authorization or placeholder_tokens.is_placeholder(authorization):
            stale = placeholder_tokens.is_stale(authorization)
            return replace(self._anonymous, has_stale_placeholder=stale), replace(
                request, headers=fields
            )
        fields.append(("Authorization", authorization))
        return self._identify_by_authorization(authorization), replace(request, headers=fields)

    def _identify_by_authorization(self, authorization: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return Caller(self.hash_secret(authorization), CallerKind.CREDENTIALS, UNKNOWN_TOKEN)
        token = token.strip()
        return Caller(self.hash_bearer(token), CallerKind.TOKEN, estimate_lifetime(token))

    def hash_bearer(self, token: str) -> str:
        """Return the name of a caller who presents this Bearer token."""
        return self.hash_secret(f"Bearer {token}")


def estimate_lifetime(token: str) -> float:
    """Return for how many more seconds a token is valid, or `UNKNOWN_TOKEN` if it does not say."""
    told = parse_lifetime(token)
    return UNKNOWN_TOKEN if told is None else told


def parse_lifetime(token: str) -> float | None:
    """Return for how many more seconds a token says it is valid (wall-clock); None if it does not.

    This is the `exp` claim of a JWT, whose signature is not verified. It need not be: the claim can
    only shorten what the registry has let the bearer do.
    """
    expiry = _parse_claims(token).get("exp")
    if isinstance(expiry, bool) or not isinstance(expiry, int | float):
        return None
    try:
        left = float(expiry) - time.time()
    except OverflowError:
        return None
    return max(left, 0.0) if math.isfinite(left) else None


def _parse_claims(token: str) -> dict[str, Any]:
    """Return the claims of a JWT (RFC 7519), unverified; an empty dict for any other token."""
    parts = token.split(".")
    if len(parts) != _PARTS:
        return {}
    try:
        text = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = json.loads(text)
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
