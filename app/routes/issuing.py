"""Tokens of this proxy's own, for its users: distribution's `spec/auth/{token,oauth}.md`."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from flask import Response, jsonify, request
from werkzeug.exceptions import BadRequest

from app.access.guard import Guard
from app.access.tokens import LIFETIME, SERVICE
from app.oci.challenge import Challenge
from app.oci.login_errors import LoginMissing, LoginRequired
from app.registries import Address
from app.routes import logins
from app.routes.guarding import canonical

_Parameters = Sequence[tuple[str, str]]


def issue(guard: Guard, parameters: _Parameters, wanted: Iterable[Address]) -> Response:
    """Give a user a token to pull from what is wanted; no registry is asked.

    What a client asks for beyond that, a push or a repository that is not here, is left out.
    """
    told = dict(reversed(parameters))  # the first of each
    user, lasting = _shown(guard, told)
    token = guard.tokens.access(user, map(canonical, wanted))
    refresh = lasting or guard.tokens.refresh(user)
    # The users may have been read again while a password was checked, and these tokens be of the
    # new one: what was shown has to be good still.
    _shown(guard, told)
    document = {
        # Clients of GET look for the first, those of POST for the second.
        "token": token,
        "access_token": token,
        "expires_in": LIFETIME,
        "issued_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if told.get("offline_token") == "true" or told.get("access_type") == "offline":
        document["refresh_token"] = refresh
    response = jsonify(document)
    response.headers["Cache-Control"] = "no-store"
    return response


def _shown(guard: Guard, told: dict[str, str]) -> tuple[str, str]:
    """Return who has logged in, and the refresh token that was shown; raise with a challenge."""
    try:
        return _user_by_form(guard, told) if request.method == "POST" else _user(guard)
    except LoginRequired as refused:
        challenge = Challenge("Basic", {"realm": SERVICE, "charset": "UTF-8"})
        refused.added = {"WWW-Authenticate": str(challenge)}
        raise


def _user(guard: Guard) -> tuple[str, str]:
    login = logins.basic(request.headers.get("Authorization", ""))
    if login is None:
        raise LoginMissing
    return logins.checked(guard, *login), ""


def _user_by_form(guard: Guard, told: dict[str, str]) -> tuple[str, str]:
    match told.get("grant_type"):
        case "password":
            return logins.checked(guard, told.get("username", ""), told.get("password", "")), ""
        case "refresh_token":
            shown = told.get("refresh_token", "")
            return logins.noted(guard.tokens.refreshed(shown)), shown
        case _:
            raise BadRequest
