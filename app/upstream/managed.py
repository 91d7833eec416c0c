"""Managed(Source): a registry at which this proxy has the credentials, or needs none."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.oci import headers
from app.oci.errors import AccountRefused, Denied, UpstreamUnavailable
from app.oci.reference import Digest, Reference, RepositoryName
from app.registries import Registry
from app.source import Reply, Request, Source, TokenRequest, replied
from app.upstream.auth import placeholders
from app.upstream.auth.issued import IssuedToken, IssuedTokens, issue
from app.upstream.http.retries import falling_back

# The account that this proxy itself has at a registry.

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 60.0
_LONGEST_PAUSE: Final = 3600.0
"""Seconds until credentials that a registry has refused are tried again: it may lock an account."""


class OwnAccount:
    """Logs in with an account, or as nobody where there is none.

    Until it has been taken once, one caller at a time finds out.
    Refused once, it is refused for every repository, for a while that grows.
    """

    def __init__(self, source: Source, registry: Registry) -> None:
        self._source = source
        self._registry = registry
        self._lock = threading.Lock()
        self._is_proven = registry.account is None
        self._good_until = 0.0
        self._refused_until = 0.0
        self._pause = _FIRST_PAUSE

    def token(self, scope: str) -> IssuedToken:
        """Ask for a token; raise AccountRefused or another RegistryError."""
        if self._is_proven:
            return self._issued(scope)
        with self._lock:
            try:
                return self._issued(scope)
            except AccountRefused:
                self._judge()  # before the next caller shows the same
                raise

    def _issued(self, scope: str) -> IssuedToken:
        if time.monotonic() < self._refused_until:
            raise AccountRefused
        token = issue(self._source, self._registry.account, scope)
        self._is_proven = True
        return token

    def basic(self) -> str:
        """Return the Basic credentials, or ""; raise AccountRefused."""
        account = self._registry.account
        if account is None:
            return ""
        if not self._is_proven and not self.is_good():
            raise AccountRefused
        return placeholders.written(account.username, account.password)

    def is_good(self) -> bool:
        """Tell whether the registry takes the credentials at all; asked where it refused something.

        Raise RegistryError if it cannot be asked.
        """
        with self._lock:
            self._judge()
            return self._is_proven

    def _judge(self) -> None:
        """Find out whether the credentials are refused everywhere; the lock is held."""
        now = time.monotonic()
        if now < self._refused_until or (self._is_proven and now < self._good_until):
            return
        self._is_proven = self._is_taken()
        if self._is_proven:
            self._pause = _FIRST_PAUSE
            self._good_until = time.monotonic() + _FIRST_PAUSE
        if not self._is_proven:
            self._refused_until = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            logger.error(
                "A registry refuses this proxy's own credentials.",
                extra={"fields": {"registry": self._registry.name}},
            )

    def _is_taken(self) -> bool:
        """Log in without asking for anything, as `docker login` does."""
        ping = self._source.ping(Request(method="GET"))
        ping.close()
        if any(challenge.is_bearer for challenge in ping.challenges):
            try:
                issue(self._source, self._registry.account, "")
            except (AccountRefused, Denied):
                return False
            return True
        account = self._registry.account
        basic = placeholders.written(account.username, account.password) if account else ""
        login = [("Authorization", basic)]
        checked = self._source.ping(Request(method="GET", headers=login))
        checked.close()
        return checked.status != HTTPStatus.UNAUTHORIZED


_ANYBODY: Final = Request(method="GET")


class Managed:
    """Asks `inner` with tokens of its own; what a client sends is for this proxy alone.

    Whoever reaches this proxy may read what the account may read.
    """

    def __init__(self, inner: Source, registry: Registry) -> None:
        self.inner = inner
        self._account = OwnAccount(inner, registry)
        self._tokens = IssuedTokens(self._account.token)

    def ping(self, request: Request) -> Reply:
        """Answer 200: no client needs a token here."""
        del request
        return replied(HTTPStatus.OK, [("Content-Type", "application/json")], b"{}")

    def reach(self) -> None:
        """Return if the registry answers; raise RegistryError if not."""
        self.inner.reach()

    def token(self, request: TokenRequest) -> Reply:
        """Give whoever insists a token that says nothing."""
        del request
        return placeholders.answer(placeholders.NOTHING)

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Fetch a manifest."""
        return self._ask(name, request, partial(self.inner.manifest, name, reference))

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Fetch a blob."""
        return self._ask(name, request, partial(self.inner.blob, name, digest))

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """List tags."""
        return self._ask(name, request, partial(self.inner.tags, name))

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """List referrers."""
        return self._ask(name, request, partial(self.inner.referrers, name, digest))

    def _ask(
        self, name: RepositoryName, request: Request, ask: Callable[[Request], Reply]
    ) -> Reply:
        scope = f"repository:{name}:pull"
        try:
            with falling_back(request.has_fallback):
                return self._answer(scope, request, ask)
        except AccountRefused as refused:
            if self._account.is_good():
                raise Denied from refused  # here, and it may be good elsewhere
            raise

    def _answer(self, scope: str, request: Request, ask: Callable[[Request], Reply]) -> Reply:
        authorization = self._authorization(scope)
        if authorization.startswith("Bearer "):
            request = replace(request, renewed=partial(self._renewed, scope))
        reply = ask(_with(request, authorization))
        bearer = any(challenge.is_bearer for challenge in reply.challenges)
        if reply.status == HTTPStatus.UNAUTHORIZED and bearer:
            # The token may have been revoked, or the registry may ask for one here only.
            reply.close()
            reply = ask(_with(request, self._renewed(scope, authorization)))
        if reply.status == HTTPStatus.UNAUTHORIZED:
            if authorization.startswith("Basic "):
                reply.close()
                raise AccountRefused
            reply = replace(reply, status=HTTPStatus.FORBIDDEN)
        return replace(reply, challenges=())

    def _renewed(self, scope: str, authorization: str) -> str:
        return f"Bearer {self._tokens.after(authorization.removeprefix('Bearer '), scope)}"

    def _authorization(self, scope: str) -> str:
        """Return the Authorization for a scope; "" for none."""
        ping = self.inner.ping(_ANYBODY)
        ping.close()
        if ping.status not in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED}:
            message = f"the registry answered {ping.status}, and so what it asks for is not known"
            raise UpstreamUnavailable(message)
        if any(challenge.is_bearer for challenge in ping.challenges):
            return f"Bearer {self._tokens.get(scope)}"
        if any(challenge.is_basic for challenge in ping.challenges):
            return self._account.basic()
        return ""


def _with(request: Request, authorization: str) -> Request:
    fields = headers.pass_elsewhere(request.headers)
    if authorization:
        fields.append(("Authorization", authorization))
    return replace(request, headers=fields)
