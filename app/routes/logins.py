"""What of a request says who its user is."""

import base64
import binascii
from typing import Final

from app.access.tokens import Bearer, Guard
from app.events import current
from app.oci.errors import LoginsSlowed
from app.routes.context import client

_LONGEST: Final = 4096
"""Bytes of a login as Basic writes it; tokens are longer."""
_LONGEST_DECODED: Final = _LONGEST // 4 * 3
"""Characters of a name, a colon and a password that Basic can carry in so many (RFC 4648)."""

_TOGETHER: Final = (
    "too many wrong passwords from those who come through the same server in front; "
    "FORWARDED_ALLOW_IPS names the servers that tell this proxy who they are"
)


def basic(authorization: str) -> tuple[str, str] | None:
    """Return the name and the password of Basic credentials (RFC 7617), or None."""
    scheme, _, text = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    if len(text) > _LONGEST:
        return "", ""
    try:
        decoded = base64.b64decode(text.strip(), validate=True).decode(errors="surrogateescape")
    except (binascii.Error, ValueError):
        return "", ""
    name, _, password = decoded.partition(":")
    return name, password


def of_form(name: str, password: str) -> tuple[str, str]:
    """Return the name and the password of a form; empty ones if Basic could not carry them.

    A login may wait, and is held in memory meanwhile.
    """
    return (name, password) if len(name) + 1 + len(password) <= _LONGEST_DECODED else ("", "")


def checked(guard: Guard, name: str, password: str) -> str:
    """Return the name of a user whose password it is, noted for the line; raise if it is not."""
    asking = client()
    try:
        guard.logins.check(name, password, asking.address)
    except LoginsSlowed as slowed:
        if asking.is_known:
            raise
        raise LoginsSlowed(_TOGETHER, headers=slowed.added) from slowed
    return noted(name)


def borne(guard: Guard, token: str) -> Bearer:
    """Return whose a token is, noted for the line; raise TokenWrong."""
    bearer = guard.tokens.bearer(token)
    noted(bearer.user)
    return bearer


def noted(user: str) -> str:
    """Note the user of this request for its line."""
    if (exchange := current.get()) is not None:
        exchange.user = user
    return user
