"""Who must have logged in at this proxy: decided before any view, and so before any registry.

Only where users are set. What is not named here needs a login, so a new address does too.
"""

import logging
import secrets
from functools import partial
from typing import Any, Final

from flask import Flask, Response

from app.access.downloads import OwnPlaces
from app.access.networks import Lists, site_of
from app.access.tokens import SERVICE, Bearer, Guard
from app.oci.challenge import Challenge
from app.oci.errors import (
    ClientHidden,
    ClientRefused,
    ConnectionsReached,
    LoginRequired,
    LoginWrong,
    NameInvalid,
    NameUnknown,
    ScopeInsufficient,
    TokenWrong,
)
from app.registries import Address
from app.routes import client_naming, logins
from app.routes.context import client, namespace, present, rooms, selected, undecided_path

# Who may ask at all, and on how many connections at once.
#
# Decided before any view, and so before any registry is asked.

logger = logging.getLogger(__name__)

_PLACE: Final = "docxy.place"
"""Where a request's place is, by its address and its name."""

_FIT: Final = "docxy.fit"
"""Where the server finds what it tells its number of places."""

_QUARTER: Final = 4
"""One client has at most one part in so many of a worker's places."""

_FOR_EVERYBODY: Final = "health.health"
"""What balancers and orchestrators ask, from wherever they are."""


def register_lists(app: Flask, lists: Lists) -> None:
    """Let in who the lists admit; without any list requests are not even looked at."""
    if lists.are_open:
        return

    def admit() -> None:
        if present().endpoint == _FOR_EVERYBODY:
            return
        asking = client()
        if not asking.is_known:
            raise ClientHidden
        if not lists.admit(asking.address):
            raise ClientRefused

    app.before_request(admit)


def share(app: Flask, most: int) -> None:
    """Let no address have more than so many requests at once, a download until its last byte.

    Each takes a connection of this process: one client that reads slowly could have all of them.
    """
    shares = _Shares(most)
    app.extensions[_FIT] = shares.fit  # called by server/worker.py
    app.before_request(shares.enter)
    app.after_request(shares.leave_with)
    app.teardown_request(shares.leave)


class _Shares:
    """What is done before and after each request."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = OwnPlaces(most)

    def fit(self, places: int) -> None:
        """Leave three quarters of this worker's places to others, before the first request."""
        share = max(places // _QUARTER, 1)
        if share < self._most:
            self._places = OwnPlaces(share)
            fields = {"share": share, "configured": self._most}
            logger.warning(
                "A client may have fewer requests at once than set: they would be more than its "
                "share of a worker's places.",
                extra={"fields": fields},
            )

    def enter(self) -> None:
        """Take a place for a request, or raise ConnectionsReached."""
        request = present()
        # With a query it may wait for a registry, and would keep a place for as long.
        if request.endpoint == _FOR_EVERYBODY and not request.query_string:
            return
        if not rooms().forwarded.tells_clients_apart(request.environ):
            return
        place = site_of(client().address), secrets.token_hex(8)
        if not self._places.take(*place):
            raise ConnectionsReached(rule=ConnectionsReached.refused_by)
        request.environ[_PLACE] = place

    def leave_with(self, response: Response) -> Response:
        """Give the place back when the response has ended."""
        if place := present().environ.pop(_PLACE, None):
            response.call_on_close(partial(self._places.give, *place))
        return response

    def leave(self, error: BaseException | None) -> None:
        """Give back the place of a request that is cut before it has a response."""
        del error
        if place := present().environ.pop(_PLACE, None):
            self._places.give(*place)


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


def register_users(app: Flask, guard: Guard | None) -> None:
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
    challenge = client_naming.own_challenge(selection, SERVICE)
    if isinstance(refused, TokenWrong):
        return challenge.with_parameters({"error": "invalid_token"})
    if isinstance(refused, ScopeInsufficient):
        return challenge.with_parameters({"error": "insufficient_scope"})
    return challenge
