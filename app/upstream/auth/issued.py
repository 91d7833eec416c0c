"""Tokens that this proxy gets itself: one for each scope, shared, renewed before they expire."""

import base64
import binascii
import hashlib
import hmac
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from app import shared_memory
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
from app.upstream.auth.remembered import PASSING_LIFETIME, SHARED_PATIENCE, passing_lifetime
from app.upstream.http.deadlines import unhurried

# Which tokens are nobody's: where one expires in the middle of a layer, another one will do.

_PARTS: Final = 3

_PRINT: Final = 16
"""Bytes that stand for a token: enough that no other token has the same ones."""

_SLOTS: Final = len(shared_memory.MEMORY) // _PRINT


class AnonymousTokens:
    """Tokens of one registry that were issued to someone without credentials, by any worker.

    Most registries' tokens also say it themselves: `sub` is empty (distribution's
    `spec/auth/jwt.md`). Whoever forges that gains nothing but a token that everybody can have.
    Each token has one place in the memory of all; a newer one that has the same is remembered
    in its stead, and the older one is nobody's no more.
    """

    def __init__(self, registry: str) -> None:
        self._registry = registry

    def note(self, answer: bytes) -> None:
        """Remember the tokens of an answer of a token service."""
        document = _document(answer)
        for name in ("token", "access_token"):
            token = document.get(name)
            if isinstance(token, str) and token:
                place, print_ = self._place(token)
                shared_memory.MEMORY[place : place + _PRINT] = print_

    def has(self, authorization: str) -> bool:
        """Tell whether an Authorization is a token of nobody's."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        place, print_ = self._place(token)
        known = shared_memory.MEMORY[place : place + _PRINT] == print_
        return known or _claims(token).get("sub") == ""

    def _place(self, token: str) -> tuple[int, bytes]:
        """Return where a token is remembered, and by what; the token itself never is."""
        text = f"{self._registry}\0{token}".encode(errors="surrogateescape")
        digest = hmac.digest(shared_memory.KEY, text, hashlib.sha256)
        return int.from_bytes(digest[_PRINT:]) % _SLOTS * _PRINT, digest[:_PRINT]


def _claims(token: str) -> dict[str, Any]:
    """Return what a JWT claims (RFC 7519), unverified; nothing for any other token."""
    parts = token.split(".")
    if len(parts) != _PARTS:
        return {}
    try:
        return _document(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return {}


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


_SCOPES: Final = 10_000
"""Scopes whose tokens are kept; each takes a few KB."""

_LIFETIME: Final = 60.0
"""Seconds that a token lives where its service does not say: `spec/auth/token.md`."""

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")

_LONGEST: Final = 86400.0
"""Seconds after which a token is renewed whatever its service says."""

_MARGIN: Final = 30.0
"""Seconds before its end at which a token is renewed, or the last third of a short life."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and how long it is good, in seconds of the monotonic clock."""

    value: str = field(repr=False)
    renew_at: float
    expires_at: float


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    token: IssuedToken | None = None
    failure: RegistryError | None = None
    failed_until: float = 0.0


class IssuedTokens:
    """Asks `issue` for the token of a scope, one caller for all who wait (single-flight).

    While a token that is due is renewed, the others go on with it until it expires.
    What fails is answered from memory for some seconds: many may be waiting to ask.
    """

    def __init__(self, issue: Callable[[str], IssuedToken]) -> None:
        self._issue = issue
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, scope: str) -> str:
        """Return a token for a scope; raise RegistryError."""
        slot = self._slot(scope)
        token, now = slot.token, time.monotonic()
        if token is not None and now < token.renew_at:
            return token.value
        if token is None or now >= token.expires_at:
            with slot.lock:
                return self._renewed(scope, slot)
        if not slot.lock.acquire(blocking=False):
            return token.value
        try:
            return self._renewed(scope, slot)
        finally:
            slot.lock.release()

    def after(self, refused: str, scope: str) -> str:
        """Return a newer token than the one that the registry has refused; raise RegistryError."""
        slot = self._slot(scope)
        with slot.lock:
            if slot.token is not None and slot.token.value == refused:
                slot.token = None
            return self._renewed(scope, slot)

    def _renewed(self, scope: str, slot: _Slot) -> str:
        """Return the token; the slot's lock is held."""
        token, now = slot.token, time.monotonic()
        if token is not None and now < token.renew_at:
            return token.value  # another caller was first
        if slot.failure is None or now >= slot.failed_until:
            slot.failure = self._attempt(scope, slot)
        if slot.failure is None and slot.token is not None:
            return slot.token.value
        if token is not None and now < token.expires_at:
            return token.value
        raise copy(slot.failure or Denied())

    def _attempt(self, scope: str, slot: _Slot) -> RegistryError | None:
        try:
            with unhurried(SHARED_PATIENCE):
                slot.token = self._issue(scope)
        except RegistryError as error:
            now, token = time.monotonic(), slot.token
            is_good = token is not None and now < token.expires_at
            slot.failed_until = now + (PASSING_LIFETIME if is_good else passing_lifetime(error))
            return copy(error)  # without its traceback, which would keep a client's request alive
        return None

    def _slot(self, scope: str) -> _Slot:
        with self._lock:
            slot = self._slots.setdefault(scope, _Slot())
            self._slots.move_to_end(scope)
            if len(self._slots) > _SCOPES:
                self._slots.popitem(last=False)
            return slot


def issue(source: Source, account: Account | None, scope: str) -> IssuedToken:
    """Ask a registry's token service for a token, with an account or as nobody."""
    asked_at = time.monotonic()
    parameters = [("client_id", "docxy")]
    if scope:
        parameters.append(("scope", scope))
    fields: Headers = []
    if account is not None:
        parameters.append(("account", account.username))
        fields.append(("Authorization", placeholders.written(account.username, account.password)))
    reply = source.token(TokenRequest(method="GET", parameters=parameters, headers=fields))
    try:
        content = b"".join(reply.body)
    finally:
        reply.close()
    if reply.status != HTTPStatus.OK:
        raise _refusal(reply, account)
    return _read(content, asked_at)


def _refusal(reply: Reply, account: Account | None) -> RegistryError:
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


def _read(content: bytes, asked_at: float) -> IssuedToken:
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        document = {}
    value = document.get("token") or document.get("access_token")
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        message = "the token service gave no token"
        raise UpstreamMisbehaved(message)
    told = document.get("expires_in")
    known = isinstance(told, int | float) and not isinstance(told, bool) and told > 0
    lifetime = min(told, _LONGEST) if known else _LIFETIME
    expires_at = asked_at + lifetime
    return IssuedToken(value, expires_at - min(_MARGIN, lifetime / 3), expires_at)
