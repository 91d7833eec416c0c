"""Tokens of our own for registries that issue none, since some clients insist on getting one.

Docker and podman take the challenge of the host that they pull from, and that is the default
registry's; they then want a token for every registry behind it.
"""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from app.oci import headers, placeholder_tokens
from app.oci.headers import Headers
from app.source import Reply, TokenRequest, replied

NOTHING: Final = placeholder_tokens.NOTHING

_BASIC: Final = "docxy.basic."
"""Stands before credentials that the registry wants to see itself, in each request."""

_LIFETIME: Final = 3600

_CREDENTIALS: Final = frozenset({"username", "password", "refresh_token"})
"""Fields of a token request that a login is made of: `spec/auth/oauth.md`."""


def answer(token: str) -> Reply:
    """Return a token answer: distribution's `spec/auth/token.md`, "Token Response Fields"."""
    document = {
        "token": token,
        "access_token": token,
        "expires_in": _LIFETIME,
        "issued_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    return replied(200, [("Content-Type", "application/json")], json.dumps(document).encode())


def for_basic(authorization: str) -> str:
    """Return the token that stands for Basic credentials."""
    return _BASIC + authorization.partition(" ")[2].strip()


def redeemed(fields: Headers, takes_basic: Callable[[], bool]) -> Headers:
    """Return a request's headers with what a token of ours stands for in its place.

    Credentials go to a registry only if it takes them so.
    """
    authorization = headers.value(fields, "authorization")
    scheme, _, token = authorization.partition(" ")
    nothing = placeholder_tokens.is_nothing(authorization)
    if scheme.lower() != "bearer" or not (nothing or token.startswith(_BASIC)):
        return fields
    others = headers.without(fields, "authorization")
    if nothing or not takes_basic():
        return others
    return [*others, ("Authorization", f"Basic {token.removeprefix(_BASIC)}")]


def is_login(request: TokenRequest) -> bool:
    """Tell whether a token request comes from somebody in particular."""
    return bool(_login(request) or headers.value(request.headers, "authorization"))


def identity(request: TokenRequest) -> str:
    """Return what tells who asks for a token from everybody else.

    It holds credentials as they are: to be hashed, and neither kept nor logged.
    """
    login = urlencode(_login(request), errors="surrogateescape")
    return f"{headers.value(request.headers, 'authorization')}\0{login}"


def _login(request: TokenRequest) -> list[tuple[str, str]]:
    return [(name, value) for name, value in request.parameters if name in _CREDENTIALS]


def basic(request: TokenRequest) -> str:
    """Return the Basic credentials of a token request, of its header or of its form, or ""."""
    authorization = headers.value(request.headers, "authorization")
    if authorization.partition(" ")[0].lower() == "basic":
        return authorization
    form = dict(request.parameters)
    if "username" not in form:
        return ""
    return written(form["username"], form.get("password", ""))


def written(username: str, password: str) -> str:
    """Return an Authorization of the Basic scheme (RFC 7617)."""
    secret = f"{username}:{password}".encode(errors="surrogateescape")
    return f"Basic {base64.b64encode(secret).decode('ascii')}"
