"""Reads a user's login from a request, checks it, and notes the user for the log line."""

import base64
import binascii
from typing import Final

from app.access.tokens import Bearer, Guard
from app.oci.errors import LoginsThrottled
from app.routes.context import RequestContext

_MAX_LOGIN_LENGTH: Final = 4096
"""The maximum length of a login in Base64, as Basic sends it; tokens may be longer."""
_MAX_DECODED_LENGTH: Final = _MAX_LOGIN_LENGTH // 4 * 3
"""The maximum length of name, colon and password together in that much Base64 (RFC 4648)."""

_SHARED_ADDRESS_MESSAGE: Final = (
    "too many wrong passwords from those who come through the same server in front; "
    "FORWARDED_ALLOW_IPS names the servers that tell this proxy who they are"
)


def parse_basic(authorization: str) -> tuple[str, str] | None:
    """Return the name and the password of Basic credentials (RFC 7617).

    Return None for another scheme, and two empty strings if they are malformed or too long.
    """
    scheme, _, text = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    if len(text) > _MAX_LOGIN_LENGTH:
        return "", ""
    try:
        decoded = base64.b64decode(text.strip(), validate=True).decode(errors="surrogateescape")
    except (binascii.Error, ValueError):
        return "", ""
    name, _, password = decoded.partition(":")
    return name, password


def bound_form_login(name: str, password: str) -> tuple[str, str]:
    """Return the name and the password of a form, or empty strings if Basic could not carry them.

    The length is bounded because a login is held in memory while it waits to be checked.
    """
    return (name, password) if len(name) + 1 + len(password) <= _MAX_DECODED_LENGTH else ("", "")


def check_login(context: RequestContext, guard: Guard, name: str, password: str) -> str:
    """Return the name of the user if the password is right, and note it for the log line.

    Raise LoginInvalid, LoginsThrottled or LoginsBusy.
    """
    client = context.client
    try:
        guard.logins.check(name, password, client.address)
    except LoginsThrottled as error:
        if client.is_known:
            raise
        raise LoginsThrottled(_SHARED_ADDRESS_MESSAGE, headers=error.extra_headers) from error
    context.user = name
    return name


def verify_bearer(context: RequestContext, guard: Guard, token: str) -> Bearer:
    """Return the bearer of an access token, and note its user for the log line.

    Raise TokenInvalid if the token is not valid.
    """
    bearer = guard.tokens.verify_access_token(token)
    context.user = bearer.user
    return bearer
