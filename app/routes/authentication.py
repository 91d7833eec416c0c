"""Decides before any view, and so before any registry is asked, whether a client is served.

Three checks are made, each only if it is configured: the client's network, the number of its
concurrent requests, and its login at this proxy.
Every endpoint needs a login unless it is named here, so a new endpoint needs one too.
"""

import logging
import secrets
from typing import Final

from flask import Flask

from app.access.downloads import LocalConcurrencyLimiter
from app.access.networks import NetworkPolicy, derive_site
from app.access.tokens import SERVICE, Bearer, Guard
from app.oci.challenge import Challenge
from app.oci.errors import (
    ClientAddressUnknown,
    ConnectionLimitReached,
    LoginInvalid,
    LoginRequired,
    NameInvalid,
    NameUnknown,
    NetworkDenied,
    ScopeInsufficient,
    TokenInvalid,
)
from app.oci.reference import RepositoryName
from app.registries import RepositoryAddress
from app.routes import logins
from app.routes.addressing import build_challenge, resolve_path_unchecked, resolve_registry
from app.routes.context import RequestContext, get_context

logger = logging.getLogger(__name__)

_LIMIT_TO_SHARE_KEY: Final = "docxy.fit"
"""The key of the extension that the server calls with a worker's number of places."""

_SHARE_DIVISOR: Final = 4
"""One client gets at most one in this many of a worker's places."""

_HEALTH_ENDPOINT: Final = "health.health"
"""The endpoint that load balancers and orchestrators ask, from any network."""


def register_network_policy(app: Flask, lists: NetworkPolicy) -> None:
    """Make an application refuse clients outside the lists; do nothing if every client is admitted.

    A request then fails with NetworkDenied, or ClientAddressUnknown if the client's address is
    unknown.
    """
    if lists.admits_all:
        return

    def admit() -> None:
        context = get_context()
        if context.request.endpoint == _HEALTH_ENDPOINT:
            return
        client = context.client
        if not client.is_known:
            raise ClientAddressUnknown
        if not lists.is_admitted(client.address):
            raise NetworkDenied

    app.before_request(admit)


def register_connection_limit(app: Flask, limit: int) -> None:
    """Allow each address at most `limit` concurrent requests; a download counts to its last byte.

    Each request takes a connection of this process, so one client that reads slowly could otherwise
    occupy all of them. A request beyond the limit fails with ConnectionLimitReached.
    """
    limiter = _ConnectionLimiter(limit)
    app.extensions[_LIMIT_TO_SHARE_KEY] = limiter.limit_to_share  # called by server/worker.py
    app.before_request(limiter.acquire)


class _ConnectionLimiter:
    """The hook that takes a place before each request; the end of the request gives it back."""

    def __init__(self, limit: int) -> None:
        self._most = limit
        self._limiter = LocalConcurrencyLimiter(limit)

    def limit_to_share(self, places: int) -> None:
        """Limit one client to a quarter of this worker's places; called before the first request.

        `places` is how many requests the worker serves at once.
        """
        share = max(places // _SHARE_DIVISOR, 1)
        if share < self._most:
            self._limiter = LocalConcurrencyLimiter(share)
            fields = {"limit": share, "configured": self._most}
            logger.warning(
                "DOCXY_CLIENT_CONNECTIONS is lowered: a client may have a quarter of a worker's "
                "connections at most.",
                extra={"fields": fields},
            )

    def acquire(self) -> None:
        """Take a place for the request, or raise ConnectionLimitReached.

        Requests whose client cannot be distinguished from others need no place.
        """
        context = get_context()
        request = context.request
        # With a query, a health check may wait for a registry, and so it needs a place.
        if request.endpoint == _HEALTH_ENDPOINT and not request.query_string:
            return
        if not context.services.forwarded.can_distinguish_clients(request.environ):
            return
        download = derive_site(context.client.address), secrets.token_hex(8)
        if not self._limiter.try_acquire(*download):
            raise ConnectionLimitReached(rule=ConnectionLimitReached.refused_by)
        context.at_end.callback(self._limiter.release, *download)


_OPEN_ENDPOINTS: Final = frozenset(
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
"""Endpoints that need no login: they ask registries only for what their own settings allow."""

_OPEN_BLUEPRINTS: Final = frozenset({"page", "assets", "config"})
"""Blueprints whose endpoints need no login."""

_BASIC_BLUEPRINTS: Final = frozenset({"search", "box"})
"""Blueprints that ask people for a name and a password, by a Basic challenge."""

_NO_TOKEN_ENDPOINTS: Final = frozenset({"box.tags"})
"""Endpoints that accept no token: no scope can be compared with the repository they are about."""


def register_users(app: Flask, guard: Guard | None) -> None:
    """Make an application require a login that the guard accepts; do nothing without a guard.

    A request without one fails with LoginRequired and a challenge.
    """
    if guard is None:
        return

    def require_login() -> None:
        context = get_context()
        request = context.request
        endpoint = request.endpoint
        if endpoint is None or endpoint in _OPEN_ENDPOINTS or request.blueprint in _OPEN_BLUEPRINTS:
            return
        if context.ns:
            # Raises NameUnknown for a registry that is not served: this is no secret, and the
            # doctor expects the 404.
            resolve_registry(context)
        try:
            _authenticate(context, guard, request.environ.get("HTTP_AUTHORIZATION", ""))
        except LoginRequired as error:
            error.extra_headers = {"WWW-Authenticate": str(_build_challenge(context, error))}
            raise

    app.before_request(require_login)


def _authenticate(context: RequestContext, guard: Guard, authorization: str) -> None:
    """Return if the Authorization admits the request.

    Raise LoginRequired, or LoginsThrottled or LoginsBusy if the password cannot be checked now.
    """
    scheme, _, token = authorization.strip().partition(" ")
    if not scheme:
        raise LoginRequired
    if scheme.lower() == "bearer":
        _check_scope(context, logins.verify_bearer(context, guard, token.strip()))
    elif (login := logins.parse_basic(authorization)) is not None:
        logins.check_login(context, guard, *login)
    else:
        raise LoginInvalid


def _check_scope(context: RequestContext, bearer: Bearer) -> None:
    """Raise ScopeInsufficient if the token does not cover the repository of the request."""
    name = _get_requested_name(context)
    if name is None:
        if context.request.endpoint in _NO_TOKEN_ENDPOINTS:
            raise ScopeInsufficient
        return
    # The rules are applied later, when all that they depend on is known.
    if format_canonical_name(resolve_path_unchecked(context, name)) not in bearer.repositories:
        raise ScopeInsufficient


def format_canonical_name(address: RepositoryAddress) -> str:
    """Return a repository's one name in tokens, `<registry>/<repository>`."""
    return f"{address.registry.name}/{address.repository}"


def _get_requested_name(context: RequestContext) -> RepositoryName | None:
    return (context.request.view_args or {}).get("name")


def _build_challenge(context: RequestContext, error: LoginRequired) -> Challenge:
    """Return the challenge that says how to log in, even if the repository is not served here."""
    if context.request.blueprint in _BASIC_BLUEPRINTS:
        return Challenge("Basic", {"realm": SERVICE, "charset": "UTF-8"})
    name = _get_requested_name(context)
    try:
        selection = (
            resolve_registry(context) if name is None else resolve_path_unchecked(context, name)
        )
    except (NameInvalid, NameUnknown):
        selection = context.services.registries.select(ns=None, host="")
    challenge = build_challenge(context, selection, SERVICE)
    if isinstance(error, TokenInvalid):
        return challenge.with_parameters({"error": "invalid_token"})
    if isinstance(error, ScopeInsufficient):
        return challenge.with_parameters({"error": "insufficient_scope"})
    return challenge
