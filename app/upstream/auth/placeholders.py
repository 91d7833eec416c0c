"""Placeholder tokens for clients that insist on one, and logins for registries without tokens.

Docker and podman follow the challenge of the host that they pull from, which is the challenge of
the default registry. They then want a token for every registry behind that host.
"""

import base64
from typing import Final
from urllib.parse import urlencode

from app.oci import headers, tokens
from app.source import Reply, TokenRequest, build_reply

_LIFETIME: Final = 3600

_CREDENTIALS: Final = frozenset({"username", "password", "refresh_token"})
"""Fields of a token request that carry a login: `spec/auth/oauth.md`."""


def build_token_reply(token: str) -> Reply:
    """Return a reply that issues `token`, valid for an hour."""
    answer = tokens.build_answer(token, _LIFETIME)
    return build_reply(200, [("Content-Type", "application/json")], answer)


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
