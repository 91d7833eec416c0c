"""Which tokens are nobody's: where one expires in the middle of a layer, another one will do."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import threading
from collections import OrderedDict
from typing import Any, Final

_TOKENS: Final = 10_000
_PARTS: Final = 3


class AnonymousTokens:
    """Tokens that were issued through this process to someone without credentials.

    The other workers do not know them, but most registries' tokens say it themselves: `sub` is
    empty (distribution's `spec/auth/jwt.md`). Whoever forges that gains nothing but a token that
    everybody can have.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def note(self, answer: bytes) -> None:
        """Remember the tokens of an answer of a token service."""
        document = _document(answer)
        for name in ("token", "access_token"):
            token = document.get(name)
            if isinstance(token, str) and token:
                with self._lock:
                    self._known[self._hash(token)] = None
                    while len(self._known) > _TOKENS:
                        self._known.popitem(last=False)

    def has(self, authorization: str) -> bool:
        """Tell whether an Authorization is a token of nobody's."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        return _claims(token).get("sub") == "" or self._hash(token) in self._known

    def _hash(self, token: str) -> bytes:
        return hmac.digest(self._key, token.encode(errors="surrogateescape"), hashlib.sha256)


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
