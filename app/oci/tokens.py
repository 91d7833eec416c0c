"""Tokens of distribution's `spec/auth`, as far as they can be read without a key."""

from typing import Any

import jwt


def parse_claims(token: str) -> dict[str, Any]:
    """Return the claims of a JWT (RFC 7519), or {} if the token is not one.

    Nothing is verified, neither the signature nor any claim. Whoever holds the token may have
    written it.
    """
    try:
        return jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError):  # ValueError: a surrogate, from a byte that is not UTF-8
        return {}
