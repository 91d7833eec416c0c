"""Who must have logged in at this proxy: decided before any view, and so before any registry.

Only where users are set. What is not named here needs a login, so a new address does too.
"""

from typing import Any, Final

from flask import Flask

from app.access.guard import Guard
from app.access.tokens import SERVICE, Bearer
from app.oci.challenge import Challenge
from app.oci.errors import NameInvalid, NameUnknown
from app.oci.login_errors import LoginRequired, LoginWrong, ScopeInsufficient, TokenWrong
from app.registries import Address
from app.routes import logins, naming
from app.routes.present import present
from app.routes.rooms import namespace, rooms, selected, undecided_path

_FOR_ALL: Final = frozenset(
    {
        "health.health",
        "metrics.metrics",
        "metrics.figures",
        "token.token",
        "drip.drip",
        "search.ping",
        "box.rewrite",
    }
)
"""Endpoints that ask no registry for anything but what their own settings allow."""

_FOR_ALL_ROOMS: Final = frozenset({"page", "assets", "config"})
"""Blueprints of such."""

_FOR_BROWSERS: Final = frozenset({"search", "box"})
"""Blueprints where people are asked for a name and a password."""

_FOR_NO_TOKEN: Final = frozenset({"box.tags"})
"""Endpoints that are about a repository which no scope is compared with."""


def register(app: Flask, guard: Guard | None) -> None:
    """Let in whom the guard knows; without one requests are not even looked at."""
    if guard is None:
        return

    def ask_who() -> None:
        request = present()
        endpoint = request.endpoint
        if endpoint is None or endpoint in _FOR_ALL or request.blueprint in _FOR_ALL_ROOMS:
            return
        if namespace():
            selected()  # one that is not served is no secret, and the doctor looks for that 404
        try:
            _let_in(guard, request.environ.get("HTTP_AUTHORIZATION", ""))
        except LoginRequired as refused:
            refused.added = {"WWW-Authenticate": str(_challenge(refused))}
            raise

    app.before_request(ask_who)


def _let_in(guard: Guard, authorization: str) -> None:
    """Return for a user who may; raise LoginRequired, or why a login cannot be looked at."""
    scheme, _, token = authorization.strip().partition(" ")
    if not scheme:
        raise LoginRequired
    if scheme.lower() == "bearer":
        _check_scope(logins.borne(guard, token.strip()))
    elif (login := logins.basic(authorization)) is not None:
        logins.checked(guard, *login)
    else:
        raise LoginWrong


def _check_scope(bearer: Bearer) -> None:
    """Raise ScopeInsufficient for a repository that a token is not for."""
    name = _asked_name()
    if name is None:
        if present().endpoint in _FOR_NO_TOKEN:
            raise ScopeInsufficient
        return
    # The rules decide later, with all that they look at.
    if canonical(undecided_path(name)) not in bearer.repositories:
        raise ScopeInsufficient


def canonical(address: Address) -> str:
    """Return what a repository is called in tokens, however clients write it."""
    return f"{address.registry.name}/{address.repository}"


def _asked_name() -> Any:  # noqa: ANN401 - what the converter gives, or None
    return (present().view_args or {}).get("name")


def _challenge(refused: LoginRequired) -> Challenge:
    """Return how to log in; a repository that is not served here makes no difference."""
    if present().blueprint in _FOR_BROWSERS:
        return Challenge("Basic", {"realm": SERVICE, "charset": "UTF-8"})
    name = _asked_name()
    try:
        selection = selected() if name is None else undecided_path(name)
    except (NameInvalid, NameUnknown):
        selection = rooms().registries.select(ns=None, host="")
    challenge = naming.own_challenge(selection, SERVICE)
    if isinstance(refused, TokenWrong):
        return challenge.with_parameters({"error": "invalid_token"})
    if isinstance(refused, ScopeInsufficient):
        return challenge.with_parameters({"error": "insufficient_scope"})
    return challenge
