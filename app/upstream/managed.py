"""Managed(Source): a registry that this proxy logs in to itself, with an account or anonymously."""

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

# This proxy's own account at a registry.

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 60.0
_LONGEST_PAUSE: Final = 3600.0
"""Seconds until refused credentials are tried again, because the registry may lock an account. The
pause doubles from the first value to the longest."""


class OwnAccount:
    """Logs in with an account, or anonymously if the registry has none.

    Until the registry has accepted the credentials once, callers try them one at a time.
    Once they have been refused, every repository is refused, for a time that grows from 60 seconds
    to an hour.
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
        """Return a new token for a scope.

        Raise AccountRefused if the registry refuses the credentials, or another RegistryError if
        the token service gives no token.
        """
        if self._is_proven:
            return self._issued(scope)
        with self._lock:
            try:
                return self._issued(scope)
            except AccountRefused:
                self._judge()  # before the next caller presents the same credentials
                raise

    def _issued(self, scope: str) -> IssuedToken:
        if time.monotonic() < self._refused_until:
            raise AccountRefused
        token = issue(self._source, self._registry.account, scope)
        self._is_proven = True
        return token

    def basic(self) -> str:
        """Return an Authorization of the Basic scheme, or "" if there is no account.

        Raise AccountRefused if the registry refuses the account, or another RegistryError if the
        registry cannot be asked.
        """
        account = self._registry.account
        if account is None:
            return ""
        if not self._is_proven and not self.is_good():
            raise AccountRefused
        return placeholders.written(account.username, account.password)

    def is_good(self) -> bool:
        """Return whether the registry accepts the credentials at all.

        Called after it has refused something. Raise RegistryError if it cannot be asked.
        """
        with self._lock:
            self._judge()
            return self._is_proven

    def _judge(self) -> None:
        """Find out whether the credentials are refused everywhere. The caller holds the lock."""
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
        """Return whether a login for no repository succeeds, as `docker login` tries it."""
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
    """Asks `inner` with this proxy's own tokens; a client's credentials are never passed on.

    Every client that this proxy serves may read what the account may read.
    """

    def __init__(self, inner: Source, registry: Registry) -> None:
        self.inner = inner
        self._account = OwnAccount(inner, registry)
        self._tokens = IssuedTokens(self._account.token)

    def ping(self, request: Request) -> Reply:
        """Answer 200, because no client needs a token here."""
        del request
        return replied(HTTPStatus.OK, [("Content-Type", "application/json")], b"{}")

    def reach(self) -> None:
        """Return None if the registry answers; raise RegistryError if it does not."""
        self.inner.reach()

    def token(self, request: TokenRequest) -> Reply:
        """Answer with a placeholder token, for clients that insist on one."""
        del request
        return placeholders.answer(placeholders.NOTHING)

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Return a manifest, or the registry's refusal."""
        return self._ask(name, request, partial(self.inner.manifest, name, reference))

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Return a blob or a range of it, or the registry's refusal."""
        return self._ask(name, request, partial(self.inner.blob, name, digest))

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """Return one page of the repository's tags, or the registry's refusal."""
        return self._ask(name, request, partial(self.inner.tags, name))

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Return the manifests that refer to a digest, or the registry's refusal."""
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
                raise Denied from refused  # for this repository; the account is good elsewhere
            raise

    def _answer(self, scope: str, request: Request, ask: Callable[[Request], Reply]) -> Reply:
        authorization = self._authorization(scope)
        if authorization.startswith("Bearer "):
            request = replace(request, renewed=partial(self._renewed, scope))
        reply = ask(_with(request, authorization))
        bearer = any(challenge.is_bearer for challenge in reply.challenges)
        if reply.status == HTTPStatus.UNAUTHORIZED and bearer:
            # The token may have been revoked, or the registry may ask for a token only here.
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
        """Return the Authorization for a scope, or "" if the registry needs none."""
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
