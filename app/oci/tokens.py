"""Tokens of distribution's `spec/auth`: claims, answers that give them out, and placeholders."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import jwt

from app.oci import headers
from app.oci.headers import Headers


def parse_claims(token: str) -> dict[str, Any]:
    """Return the claims of a JWT (RFC 7519), or {} if the token is not one.

    Nothing is verified, neither the signature nor any claim. The holder of the token may have
    written it.
    """
    try:
        return jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError):  # ValueError: a surrogate, from a byte that is not UTF-8
        return {}


def build_answer(token: str, lifetime: float, refresh_token: str | None = None) -> bytes:
    """Return a token service's JSON answer: `spec/auth/token.md`, "Token Response Fields".

    `lifetime` is in seconds. Clients of GET read `token`, those of POST `access_token`. Some
    clients count `expires_in` from now, others from `issued_at`. Both work, since `issued_at` is
    now. None leaves out the refresh token.
    """
    document = {
        "token": token,
        "access_token": token,
        "expires_in": int(lifetime),
        "issued_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    if refresh_token is not None:
        document["refresh_token"] = refresh_token
    return json.dumps(document).encode()


def list_tokens(answer: Mapping[str, Any]) -> list[str]:
    """Return the access tokens in a token service's answer, `token` before `access_token`.

    Most answers have one of the two, or the same in both; it is then listed once.
    """
    values = [answer.get(name) for name in ("token", "access_token")]
    return list(dict.fromkeys(value for value in values if isinstance(value, str) and value))


def get_token(answer: Mapping[str, Any]) -> str:
    """Return the access token in a token service's answer, or "" if it has none."""
    return next(iter(list_tokens(answer)), "")


# Placeholder tokens: tokens of our own that go to no registry as they are.
#
# A client that insists on a token gets one of them if it gets none from the registry. It stands for
# no credentials, or for the Basic credentials that it contains.

PLACEHOLDER: Final = "docxy.none"
"""Stands for no credentials."""

STALE_PLACEHOLDER: Final = "docxy.stale"
"""Stands for no credentials, issued when no token could be obtained."""

_BASIC_PREFIX: Final = "docxy.basic."
"""Prefix of a token that contains Basic credentials, which the registry wants in each request."""


def is_placeholder(authorization: str) -> bool:
    """Return whether an Authorization header has a placeholder token without credentials."""
    scheme, _, token = authorization.strip().partition(" ")
    return scheme.lower() == "bearer" and token.strip() in {PLACEHOLDER, STALE_PLACEHOLDER}


def is_stale_placeholder(authorization: str) -> bool:
    """Return whether an Authorization header has the token issued when no other was available."""
    return is_placeholder(authorization) and authorization.strip().endswith(STALE_PLACEHOLDER)


def build_basic_token(authorization: str) -> str:
    """Return the placeholder token for an Authorization of the Basic scheme."""
    return _BASIC_PREFIX + authorization.partition(" ")[2].strip()


def redeem_placeholder(fields: Headers, takes_basic: Callable[[], bool]) -> Headers:
    """Return a request's headers, with a placeholder token replaced by what it stands for.

    The Basic credentials of a token are sent only if `takes_basic` says that the registry asks for
    them; otherwise the Authorization is removed. Headers without a placeholder are unchanged.
    """
    authorization = headers.get_first(fields, "authorization")
    scheme, _, token = authorization.partition(" ")
    is_empty = is_placeholder(authorization)
    if scheme.lower() != "bearer" or not (is_empty or token.startswith(_BASIC_PREFIX)):
        return fields
    other_fields = headers.without(fields, "authorization")
    if is_empty or not takes_basic():
        return other_fields
    return [*other_fields, ("Authorization", f"Basic {token.removeprefix(_BASIC_PREFIX)}")]
