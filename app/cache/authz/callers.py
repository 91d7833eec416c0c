"""Callers: who asks, by a name that tells nothing about them."""

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
from app.store.errors import refused, translated
from app.store.layout import close, opened
from app.store.store import Store

# The key by which callers are told apart, in a file of the cache's directory.

_NAME: Final = "secret"
_BYTES: Final = 32
_MODE: Final = 0o600
_OTHERS: Final = 0o007


def secret_of(directory: Path) -> bytes:
    """Return the key of a directory, made where there is none; raise StoreError.

    All workers have the same: grants are shared by them.
    """
    path = directory / _NAME
    with translated(f"read {path}"):
        try:
            key = _read(path)
        except FileNotFoundError:
            _make(path)
            key = _read(path)
    if len(key) != _BYTES:
        raise refused(22, f"{path} holds no key; remove it")
    return key


def token_key_of(directory: Path) -> bytes:
    """Return the key for the tokens of users; raise StoreError for one that others may know.

    Whoever knows it makes tokens. A group is the operator's choice; Kubernetes' fsGroup is one.
    """
    key, path = secret_of(directory), directory / _NAME
    with translated(f"read {path}"):
        mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & _OTHERS:
        message = (
            f"{path} has the mode {mode:04o}, so others may know the key that signs tokens: "
            "remove it, and a new one is made"
        )
        raise refused(errno.EACCES, message)
    return hmac.digest(key, b"tokens of users", "sha256")


def _read(path: Path) -> bytes:
    # Without O_NONBLOCK a pipe in its place would be waited for.
    with opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
        return os.read(descriptor, _BYTES + 1)


def _make(path: Path) -> None:
    """Write the key beside, so that nobody reads half of it; who comes second has the first's."""
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


# Tokens that were issued through here to somebody without credentials.

ISSUED: Final = "token of nobody"
SHARED: Final = "token for nobody"
"""The kinds of notes: of who shows such a token, and of the one that is given again."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that everybody gets: for which repositories, and how it is given again."""

    names: frozenset[str]
    shared: str


def note(store: Store, caller: str, names: Iterable[str], shared: str, seconds: float) -> None:
    """Note that whoever is known by this name shows a token that everybody gets."""
    value = json.dumps({"names": sorted(names), "shared": shared})
    store.tokens.note(ISSUED, caller, value, seconds)


def find(store: Store, caller: str) -> Issued | None:
    """Return what was issued, as long as it lives; a token of somebody's is none."""
    found = store.tokens.noted(ISSUED, caller)
    if found is None or found.left <= 0:
        return None
    try:
        document = json.loads(found.value)
        return Issued(frozenset(map(str, document["names"])), str(document["shared"]))
    except (ValueError, KeyError, TypeError):
        return None


def forget_issued(store: Store, issued: Issued) -> None:
    """Give a token no more that the registry does not take; raise StoreError."""
    if store.tokens.noted(SHARED, issued.shared) is not None:
        store.tokens.forget(SHARED, issued.shared)


UNKNOWN_TOKEN: Final = 60.0
"""Seconds that a token lives at least, where nothing is known of it: `spec/auth/token.md`."""

ACCEL_FAILED: Final = "X-Accel-Failed"
"""With it nginx asks again for what it could not open itself; it never goes up."""

_PARTS: Final = 3


class Kind(Enum):
    """What a caller shows."""

    NOBODY = auto()
    """No Authorization, or a token of ours that stands for none."""
    TOKEN = auto()
    LOGIN = auto()
    """Basic, and whatever else is no token."""
    ACCOUNT = auto()
    """Nothing that counts: this proxy's own account is asked with."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a registry lets read, or not; `lifetime` is for how many seconds that can be true."""

    name: str
    kind: Kind
    lifetime: float = math.inf
    is_stale: bool = False
    """Whether no token could be had for them, and so the registry's 401 says nothing."""


class Callers:
    """Tells the callers of one registry apart: by all of what they show it, and by nothing else."""

    def __init__(self, registry: Registry, key: bytes) -> None:
        self._registry = registry
        self._key = key
        account = registry.account.username if registry.account else ""
        kind = Kind.ACCOUNT if account else Kind.NOBODY
        self._nobody = Caller(self.print_of(""), Kind.NOBODY)
        # No Authorization has a line break, so nobody can be taken for the account.
        self._own = Caller(self.print_of(f"account\n{account}"), kind)

    def print_of(self, text: str) -> str:
        """Return what stands for a secret of this registry's; the secret cannot be told from it."""
        row = self._registry
        message = f"{row.name}\0{row.url}\0{text}".encode(errors="surrogateescape")
        return hmac.digest(self._key, message, hashlib.sha256).hex()

    def told_apart(self, request: Request) -> tuple[Caller, Request]:
        """Return who asks, and what the registry is asked in their name.

        It gets no header but those that the caller is known by, and those that say what is wanted:
        whatever else may open a registry must not be answered from what was kept for others.
        """
        authorization = request.authorization.strip()
        fields = headers.pass_elsewhere(request.headers)
        if failed := headers.value(request.headers, ACCEL_FAILED):
            fields.append((ACCEL_FAILED, failed))
        if self._registry.managed:
            return self._own, replace(request, headers=fields)
        if not authorization or placeholder_tokens.is_nothing(authorization):
            stale = placeholder_tokens.is_stale(authorization)
            return replace(self._nobody, is_stale=stale), replace(request, headers=fields)
        fields.append(("Authorization", authorization))
        return self._known_by(authorization), replace(request, headers=fields)

    def _known_by(self, authorization: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return Caller(self.print_of(authorization), Kind.LOGIN, UNKNOWN_TOKEN)
        token = token.strip()
        return Caller(self.bearer_of(token), Kind.TOKEN, lifetime_of(token))

    def bearer_of(self, token: str) -> str:
        """Return the name of whoever shows a token."""
        return self.print_of(f"Bearer {token}")


def lifetime_of(token: str) -> float:
    """Return for how many more seconds a token lives, or what every token lives."""
    told = told_lifetime(token)
    return UNKNOWN_TOKEN if told is None else told


def told_lifetime(token: str) -> float | None:
    """Return for how many more seconds a token lives, as it says itself, or None.

    Nothing makes that true, and nothing has to: it only ends earlier what the registry has let
    its bearer do.
    """
    expiry = _claims(token).get("exp")
    if isinstance(expiry, bool) or not isinstance(expiry, int | float):
        return None
    try:
        left = float(expiry) - time.time()
    except OverflowError:
        return None
    return max(left, 0.0) if math.isfinite(left) else None


def _claims(token: str) -> dict[str, Any]:
    """Return what a JWT claims (RFC 7519), unverified; nothing for any other token."""
    parts = token.split(".")
    if len(parts) != _PARTS:
        return {}
    try:
        text = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = json.loads(text)
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
