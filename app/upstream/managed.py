"""Managed(Source): a registry that this proxy logs in to itself, with an account or anonymously."""

import logging
import threading
import time
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.oci import headers, tokens
from app.oci.errors import AccountRefused, Denied, UpstreamUnavailable
from app.oci.reference import Kind, Operation
from app.registries import Registry
from app.source import Reply, Request, Source, TokenRequest, build_reply
from app.upstream.auth import placeholders
from app.upstream.auth.issued import IssuedToken, IssuedTokens, issue_token
from app.upstream.http.deadlines import NO_LIMIT, Call

# This proxy's own account at a registry.

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 60.0
_LONGEST_PAUSE: Final = 3600.0
"""Seconds until refused credentials are tried again, because the registry may lock an account. The
pause doubles from the first value to the longest."""


_PING: Final = Operation.ping()


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
        self._is_verified = registry.account is None
        self._verified_until = 0.0
        self._refused_until = 0.0
        self._pause = _FIRST_PAUSE

    def issue_token(self, scope: str, call: Call = NO_LIMIT) -> IssuedToken:
        """Return a new token for a scope.

        Raise AccountRefused if the registry refuses the credentials, or another RegistryError if
        the token service gives no token.
        """
        if self._is_verified:
            return self._issue_unless_refused(scope, call)
        with self._lock:
            try:
                return self._issue_unless_refused(scope, call)
            except AccountRefused:
                self._verify(call)  # before the next caller presents the same credentials
                raise

    def _issue_unless_refused(self, scope: str, call: Call) -> IssuedToken:
        if time.monotonic() < self._refused_until:
            raise AccountRefused
        token = issue_token(self._source, self._registry.account, scope, call)
        self._is_verified = True
        return token

    def get_basic_authorization(self, call: Call = NO_LIMIT) -> str:
        """Return an Authorization of the Basic scheme, or "" if there is no account.

        Raise AccountRefused if the registry refuses the account, or another RegistryError if the
        registry cannot be asked.
        """
        account = self._registry.account
        if account is None:
            return ""
        if not self._is_verified and not self.check_accepted(call):
            raise AccountRefused
        return placeholders.format_basic_authorization(account.username, account.password)

    def check_accepted(self, call: Call = NO_LIMIT) -> bool:
        """Return whether the registry accepts the credentials at all.

        Call this after it has refused something. Raise RegistryError if it cannot be asked.
        """
        with self._lock:
            self._verify(call)
            return self._is_verified

    def _verify(self, call: Call) -> None:
        """Find out whether the credentials are refused everywhere. The caller holds the lock."""
        now = time.monotonic()
        if now < self._refused_until or (self._is_verified and now < self._verified_until):
            return
        self._is_verified = self._try_login(call)
        if self._is_verified:
            self._pause = _FIRST_PAUSE
            self._verified_until = time.monotonic() + _FIRST_PAUSE
        if not self._is_verified:
            self._refused_until = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            logger.error(
                "Registry rejected this proxy's credentials.",
                extra={"fields": {"registry": self._registry.name}},
            )

    def _try_login(self, call: Call) -> bool:
        """Return whether a login for no repository succeeds, as `docker login` tries it."""
        ping = self._source.answer(_PING, _build_ping(call))
        ping.close()
        if any(challenge.is_bearer for challenge in ping.challenges):
            try:
                issue_token(self._source, self._registry.account, "", call)
            except (AccountRefused, Denied):
                return False
            return True
        account = self._registry.account
        authorization = (
            placeholders.format_basic_authorization(account.username, account.password)
            if account
            else ""
        )
        fields = [("Authorization", authorization)]
        reply = self._source.answer(_PING, replace(_build_ping(call), headers=fields))
        reply.close()
        return reply.status != HTTPStatus.UNAUTHORIZED


def _build_ping(call: Call) -> Request:
    """Return a ping of our own. It has no client, so that no disconnection ends it."""
    return Request(method="GET", has_fallback=call.has_fallback, deadline=call.deadline)


class ManagedSource:
    """Asks `inner` with this proxy's own tokens; a client's credentials are never passed on.

    Every client that this proxy serves may read what the account may read.
    """

    def __init__(self, inner: Source, registry: Registry) -> None:
        self.inner = inner
        self._account = OwnAccount(inner, registry)
        self._tokens = IssuedTokens(self._account.issue_token)

    def answer(self, operation: Operation, request: Request) -> Reply:
        """Return what the operation asks for, or the registry's refusal.

        A ping is answered with 200, because no client needs a token here. Raise AccountRefused if
        the registry refuses the account, and Denied if it refuses it for this repository only.
        """
        if operation.kind is Kind.PING:
            return build_reply(HTTPStatus.OK, [("Content-Type", "application/json")], b"{}")
        try:
            return self._answer_authorized(operation, request)
        except AccountRefused as error:
            if self._account.check_accepted():
                raise Denied from error  # for this repository; the account is good elsewhere
            raise

    def reach(self) -> None:
        """Return None if the registry answers; raise RegistryError if it does not."""
        self.inner.reach()

    def token(self, request: TokenRequest) -> Reply:
        """Answer with a placeholder token, for clients that insist on one."""
        del request
        return placeholders.build_token_reply(tokens.PLACEHOLDER)

    def _answer_authorized(self, operation: Operation, request: Request) -> Reply:
        scope, send = operation.scope, partial(self.inner.answer, operation)
        call = Call.for_request(request)
        authorization = self._get_authorization(scope, call)
        if authorization.startswith("Bearer "):
            request = replace(
                request, renew_authorization=partial(self._renew_authorization, scope)
            )
        reply = send(_with_authorization(request, authorization))
        is_token_wanted = any(challenge.is_bearer for challenge in reply.challenges)
        if reply.status == HTTPStatus.UNAUTHORIZED and is_token_wanted and request.body is None:
            # The token may have been revoked, or the registry may ask for a token only here.
            reply.close()
            new_authorization = self._renew_authorization(scope, authorization, call)
            reply = send(_with_authorization(request, new_authorization))
        if reply.status == HTTPStatus.UNAUTHORIZED:
            if authorization.startswith("Basic "):
                reply.close()
                raise AccountRefused
            reply = replace(reply, status=HTTPStatus.FORBIDDEN)
        return replace(reply, challenges=())

    def _renew_authorization(self, scope: str, authorization: str, call: Call = NO_LIMIT) -> str:
        refused = authorization.removeprefix("Bearer ")
        return f"Bearer {self._tokens.replace_refused(refused, scope, call)}"

    def _get_authorization(self, scope: str, call: Call) -> str:
        """Return the Authorization for a scope, or "" if the registry needs none."""
        ping = self.inner.answer(_PING, _build_ping(call))
        ping.close()
        if ping.status not in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED}:
            message = f"the registry answered {ping.status}, so its login method is unknown"
            raise UpstreamUnavailable(message)
        if any(challenge.is_bearer for challenge in ping.challenges):
            return f"Bearer {self._tokens.get(scope, call)}"
        if any(challenge.is_basic for challenge in ping.challenges):
            return self._account.get_basic_authorization(call)
        return ""


def _with_authorization(request: Request, authorization: str) -> Request:
    fields = headers.filter_redirect_headers(request.headers)
    if authorization:
        fields.append(("Authorization", authorization))
    return replace(request, headers=fields)
