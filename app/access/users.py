"""The users who may log in to this proxy, wherever they are stored."""

import hashlib
import hmac
from typing import Protocol

from app.access.htpasswd import is_user_name


class Users(Protocol):
    """A set of users, and the secrets that their passwords are checked against."""

    is_slow: bool
    """Whether `matches` takes so long that the event loop must not wait for it."""

    def lookup_secret(self, name: str) -> str | None:
        """Return the secret that the password of `name` is checked against.

        Return None if there is no such user.
        """

    def get_decoy_secret(self, name: str) -> str:
        """Return a secret to check against if `name` is unknown, so the check takes as long."""

    def matches(self, secret: str, password: bytes) -> bool:
        """Return True if `password` belongs to `secret`."""


class SharedSecret:
    """One password with which any user name may log in."""

    is_slow = False

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def lookup_secret(self, name: str) -> str | None:
        """Return the secret, or None if `name` cannot be the name of a user."""
        return self._secret if is_user_name(name) else None

    def get_decoy_secret(self, name: str) -> str:
        """Return the secret; comparing with it takes constant time, which reveals nothing."""
        del name
        return self._secret

    @staticmethod
    def matches(secret: str, password: bytes) -> bool:
        """Return True if both are equal; compare in constant time, whatever their lengths."""
        presented, expected = (
            hashlib.sha256(text).digest() for text in (password, secret.encode())
        )
        return hmac.compare_digest(presented, expected)
