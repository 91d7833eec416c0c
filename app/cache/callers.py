"""Callers: who asks, by a name that tells nothing about them."""

import base64
import binascii
import hashlib
import hmac
import json
import math
import time
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Final

from app.content import Request
from app.oci import headers, stand_ins
from app.registries import Registry

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
        if not authorization or stand_ins.is_nothing(authorization):
            stale = stand_ins.is_stale(authorization)
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
