"""Managed(Source): a registry at which this proxy has the credentials, or needs none."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.content import Reply, Request, Source, TokenRequest, replied
from app.oci import headers
from app.oci.errors import AccountRefused, Denied, UpstreamUnavailable
from app.oci.reference import Digest, Reference, RepositoryName
from app.registries import Registry
from app.upstream import stand_ins
from app.upstream.attempts import falling_back
from app.upstream.issued import IssuedTokens
from app.upstream.own_account import OwnAccount

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
        return stand_ins.answer(stand_ins.NOTHING)

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
