"""Which tokens are nobody's: where one expires in the middle of a layer, another one will do."""

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any, Final

import shared

_PARTS: Final = 3

_PRINT: Final = 16
"""Bytes that stand for a token: enough that no other token has the same ones."""

_SLOTS: Final = len(shared.MEMORY) // _PRINT


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
                shared.MEMORY[place : place + _PRINT] = print_

    def has(self, authorization: str) -> bool:
        """Tell whether an Authorization is a token of nobody's."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        place, print_ = self._place(token)
        known = shared.MEMORY[place : place + _PRINT] == print_
        return known or _claims(token).get("sub") == ""

    def _place(self, token: str) -> tuple[int, bytes]:
        """Return where a token is remembered, and by what; the token itself never is."""
        text = f"{self._registry}\0{token}".encode(errors="surrogateescape")
        digest = hmac.digest(shared.KEY, text, hashlib.sha256)
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
