"""Users: who may log in at this proxy, wherever they are written down."""

import hashlib
import hmac
from typing import Protocol

from app.access.htpasswd import is_name


class Users(Protocol):
    """Knows the users, and what their passwords are checked with."""

    is_slow: bool
    """Whether `matches` takes so long that the event loop must not wait for it."""

    def secret_of(self, name: str) -> str | None:
        """Return what a user's password is checked with; None for no user."""

    def stand_in(self, name: str) -> str:
        """Return what to check the password of nobody with, so that it takes as long."""

    def matches(self, secret: str, password: bytes) -> bool:
        """Tell whether a password is the one that belongs to such a secret."""


class SharedSecret:
    """Lets in whoever knows one password, by any name."""

    is_slow = False

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def secret_of(self, name: str) -> str | None:
        """Return the secret."""
        return self._secret if is_name(name) else None

    def stand_in(self, name: str) -> str:
        """Return the secret: what it is compared with takes no time that tells anything."""
        del name
        return self._secret

    @staticmethod
    def matches(secret: str, password: bytes) -> bool:
        """Compare in constant time, whatever the lengths."""
        told, known = (hashlib.sha256(text).digest() for text in (password, secret.encode()))
        return hmac.compare_digest(told, known)
