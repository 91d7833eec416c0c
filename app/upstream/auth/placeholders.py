"""Placeholder tokens for registries that issue no tokens, for clients that insist on one.

Docker and podman follow the challenge of the host that they pull from, which is the challenge of
the default registry. They then want a token for every registry behind that host.
"""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from app.oci import headers, placeholder_tokens
from app.oci.headers import Headers
from app.source import Reply, TokenRequest, build_reply

NOTHING: Final = placeholder_tokens.NOTHING

_BASIC: Final = "docxy.basic."
"""Prefix of a token that contains Basic credentials, which the registry wants in each request."""

_LIFETIME: Final = 3600

_CREDENTIALS: Final = frozenset({"username", "password", "refresh_token"})
"""Fields of a token request that carry a login: `spec/auth/oauth.md`."""


def build_token_reply(token: str) -> Reply:
    """Return a reply that issues `token`, valid for an hour.

    Its fields follow distribution's `spec/auth/token.md`, "Token Response Fields".
    """
    document = {
        "token": token,
        "access_token": token,
        "expires_in": _LIFETIME,
        "issued_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    return build_reply(200, [("Content-Type", "application/json")], json.dumps(document).encode())


def build_basic_token(authorization: str) -> str:
    """Return the placeholder token for an Authorization of the Basic scheme."""
    return _BASIC + authorization.partition(" ")[2].strip()


def redeem_placeholder(fields: Headers, takes_basic: Callable[[], bool]) -> Headers:
    """Return a request's headers, with a placeholder token replaced by what it stands for.

    The Basic credentials of a token are sent only if `takes_basic` says that the registry asks for
    them; otherwise the Authorization is removed. Headers without a placeholder are unchanged.
    """
    authorization = headers.get_first(fields, "authorization")
    scheme, _, token = authorization.partition(" ")
    nothing = placeholder_tokens.is_placeholder(authorization)
    if scheme.lower() != "bearer" or not (nothing or token.startswith(_BASIC)):
        return fields
    others = headers.without(fields, "authorization")
    if nothing or not takes_basic():
        return others
    return [*others, ("Authorization", f"Basic {token.removeprefix(_BASIC)}")]


def has_credentials(request: TokenRequest) -> bool:
    """Return whether a token request carries credentials, in its header or its parameters."""
    return bool(_select_login(request) or headers.get_first(request.headers, "authorization"))


def build_identity(request: TokenRequest) -> str:
    """Return a string that distinguishes the client of a token request from all others.

    It contains the credentials in clear, so hash it, and neither store nor log it.
    """
    login = urlencode(_select_login(request), errors="surrogateescape")
    return f"{headers.get_first(request.headers, 'authorization')}\0{login}"


def _select_login(request: TokenRequest) -> list[tuple[str, str]]:
    return [(name, value) for name, value in request.parameters if name in _CREDENTIALS]


def get_basic_authorization(request: TokenRequest) -> str:
    """Return a token request's Basic Authorization, from its header or its form, or ""."""
    authorization = headers.get_first(request.headers, "authorization")
    if authorization.partition(" ")[0].lower() == "basic":
        return authorization
    form = dict(request.parameters)
    if "username" not in form:
        return ""
    return format_basic_authorization(form["username"], form.get("password", ""))


def format_basic_authorization(username: str, password: str) -> str:
    """Return an Authorization of the Basic scheme for a user name and password (RFC 7617)."""
    secret = f"{username}:{password}".encode(errors="surrogateescape")
    return f"Basic {base64.b64encode(secret).decode('ascii')}"
