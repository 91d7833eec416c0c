"""Tokens of distribution's `spec/auth`: their claims, and the answers that carry them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import jwt


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
    found = [answer.get(name) for name in ("token", "access_token")]
    return list(dict.fromkeys(one for one in found if isinstance(one, str) and one))


def get_token(answer: Mapping[str, Any]) -> str:
    """Return the access token in a token service's answer, or "" if it has none."""
    return next(iter(list_tokens(answer)), "")
