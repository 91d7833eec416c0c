"""Upstream(Source): one registry, asked over HTTP."""

import re
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import requests

from app.content import Reply, Request, TokenRequest, has_body, replied
from app.oci import headers
from app.oci.challenge import Challenge, parse_challenges
from app.oci.errors import (
    ErrorCode,
    RegistryError,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from app.oci.headers import Headers
from app.oci.reference import Digest, Reference, RepositoryName
from app.registries import Registry
from app.upstream import redirects, refusal, stand_ins, tokens
from app.upstream.body import Body, content_length, read_whole
from app.upstream.issued import IssuedTokens, issue
from app.upstream.neighbours import Neighbours
from app.upstream.origins import origin
from app.upstream.ping import Ping
from app.upstream.redirects import Redirects
from app.upstream.remembered import Recent, Remembered
from app.upstream.session import Session
from app.upstream.tokens import TokenService
from app.version import VERSION

_PING_LIFETIME: Final = 600.0
_REACH_LIFETIME: Final = 5.0
_PING_LIMIT: Final = 64 * 1024

_OWN: Final = [("User-Agent", f"docxy/{VERSION}"), ("Accept-Encoding", "identity")]
"""The headers of requests that no client asked for."""

_TOTAL: Final = re.compile(r"bytes (?:0-0|\*)/(\d+)")
"""Content-Range of the first byte, or of none where a blob is empty (RFC 9110, section 14.4)."""


class Upstream:
    """The registry of one row; what it answers to an anonymous ping is remembered."""

    def __init__(self, registry: Registry, session: Session, neighbours: Neighbours) -> None:
        self.session = session
        self._registry = registry
        self._neighbours = neighbours
        self._redirects = Redirects(session, neighbours)
        self._anonymous_tokens = IssuedTokens(partial(issue, self, None))
        self._anonymous_ping = Remembered(
            self._ping_anonymously, lambda ping: ping.lasting, _PING_LIFETIME
        )
        self._reached = Recent(self._reach, _REACH_LIFETIME)

    def ping(self, request: Request) -> Reply:
        """Answer from memory unless there are credentials that only the registry can check.

        Docker Hub counts pings against an abuse limit, and Basic credentials mean nothing to a
        registry that asks for tokens.
        """
        request = replace(request, headers=self._redeemed(request))
        scheme = request.authorization.partition(" ")[0].lower()
        if scheme == "bearer":
            return self._ask("/v2/", request)
        known = self._anonymous_ping.get()
        if scheme == "basic" and (known.asks_for_basic or known.bearer is None):
            return self._ask("/v2/", request)
        reply = replied(known.status, known.headers, known.content)
        return replace(reply, challenges=known.challenges)

    def reach(self) -> None:
        """Return if the registry answers, whatever it answers; raise RegistryError if not.

        However often this is called, the registry is asked every few seconds at the most.
        """
        self._reached.get()

    def token(self, request: TokenRequest) -> Reply:
        """Pass a request to the token service, pinned or discovered.

        Where there is none, the token is one of our own.
        """
        if service := self._token_service():
            return tokens.exchange(self.session, service, request)
        basic = stand_ins.basic(request) if self._anonymous_ping.get().asks_for_basic else ""
        if not basic:
            return stand_ins.answer(stand_ins.NOTHING)
        login = Request(method="GET", headers=[("Authorization", basic)], client=request.client)
        checked = self._ask("/v2/", login)
        if checked.is_error:
            return replace(checked, challenges=())
        checked.close()
        return stand_ins.answer(stand_ins.for_basic(basic))

    def anonymous_token(self, scope: str, refused: str = "") -> str:
        """Return a token for nobody, another one than was refused; raise RegistryError."""
        if refused:
            return self._anonymous_tokens.after(refused, scope)
        return self._anonymous_tokens.get(scope)

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Fetch a manifest."""
        reply = self._ask(f"/v2/{name}/manifests/{reference}", request, ErrorCode.MANIFEST_UNKNOWN)
        return _with_digest(reply, reference) if isinstance(reference, Digest) else reply

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Fetch a blob, usually from where the registry redirects to."""
        reply = self._ask(f"/v2/{name}/blobs/{digest}", request, ErrorCode.BLOB_UNKNOWN)
        return _with_digest(reply, digest)

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """List tags."""
        return self._ask(f"/v2/{name}/tags/list", request, query=request.query)

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """List referrers; a 404 makes clients look for the tag that stands for them."""
        return self._ask(f"/v2/{name}/referrers/{digest}", request, query=request.query)

    def _ask(
        self,
        path: str,
        request: Request,
        unknown: ErrorCode = ErrorCode.NAME_UNKNOWN,
        *,
        query: str = "",
    ) -> Reply:
        url = f"{self._registry.url}{path}"
        fields = headers.pass_up(self._redeemed(request))
        asked = f"{url}?{query}" if query else url
        response = self._redirects.fetch(request.method, asked, fields, request.client)
        if request.method == "HEAD" and response.request.method == "GET":
            return _probed(response) or self._refused("HEAD", _as_error(response), unknown)
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            return self._refused(request.method, response, unknown)
        return _answered(request.method, response)

    def _redeemed(self, request: Request) -> Headers:
        return stand_ins.redeemed(
            request.headers, lambda: self._anonymous_ping.get().asks_for_basic
        )

    def _is_own(self, response: requests.Response) -> bool:
        return origin(response.url) == origin(self._registry.url)

    def _is_neighbour(self, response: requests.Response) -> bool:
        return not self._is_own(response) and self._neighbours.has(response.url)

    def _refused(self, method: str, response: requests.Response, unknown: ErrorCode) -> Reply:
        """Return a refusal; only the registry's own 401 may ask the client for a token."""
        try:
            own = self._is_own(response)
            challenges = self._challenges(list(response.raw.headers.items())) if own else []
        except RegistryError:
            response.close()
            raise
        return refusal.refused(method, response, unknown, challenges)

    def _challenges(self, fields: Headers) -> list[Challenge]:
        """Read the challenges; raise UpstreamMisbehaved for a foreign realm."""
        challenges = parse_challenges(headers.values(fields, "www-authenticate"))
        if self._registry.token_url is None:
            for challenge in challenges:
                if challenge.is_bearer:
                    tokens.discovered(self._registry, challenge)
        return [one for one in challenges if one.is_bearer or one.is_basic]

    def _token_service(self) -> TokenService | None:
        row = self._registry
        if row.token_url and row.token_service:
            return TokenService(row.token_url, row.token_service)
        ping = self._anonymous_ping.get()
        if not ping.lasting:
            message = f"{row.name} answered {ping.status}, and so its token service is not known"
            raise UpstreamUnavailable(message)
        challenge = ping.bearer
        if row.token_url:
            named = challenge.parameters.get("service", "") if challenge else ""
            return TokenService(row.token_url, row.token_service or named)
        if challenge is None:
            return None
        found = tokens.discovered(row, challenge)
        return replace(found, service=row.token_service or found.service)

    def _reach(self) -> None:
        redirects.discard(self.session.send("GET", f"{self._registry.url}/v2/", _OWN))

    def _ping_anonymously(self) -> Ping:
        response = self._redirects.fetch("GET", f"{self._registry.url}/v2/", _OWN, None)
        redirects.refuse_dead_end(response)
        status = response.status_code
        if status < HTTPStatus.BAD_REQUEST:
            content = read_whole(response, _PING_LIMIT)
            return Ping(status, headers.pass_down(response.raw.headers.items()), content, ())
        if status == HTTPStatus.UNAUTHORIZED and self._is_neighbour(response):
            # It needs no token of the client's: this proxy gets one where the redirect leads.
            response.close()
            return Ping(HTTPStatus.OK.value, [], b"", ())
        reply = self._refused("GET", response, ErrorCode.UNKNOWN)
        return Ping(reply.status, reply.headers, b"".join(reply.body), reply.challenges)


def _answered(method: str, response: requests.Response) -> Reply:
    redirects.refuse_dead_end(response)
    fields = list(response.raw.headers.items())
    passed = headers.pass_down(fields)
    status = response.status_code
    length = content_length(response, method)
    next_query = headers.next_query(headers.values(fields, "link"))
    if not has_body(method, status):
        redirects.discard(response)
        return Reply(status=status, headers=passed, length=length, next_query=next_query)
    content = Body(response)
    return Reply(
        status=status,
        headers=passed,
        length=length,
        next_query=next_query,
        body=content,
        close=content.close,
    )


def _probed(response: requests.Response) -> Reply | None:
    """Answer a HEAD from the GET of the first byte that was sent in its place, or not at all."""
    if response.status_code == HTTPStatus.OK:
        length = content_length(response, "GET")
    elif total := _TOTAL.fullmatch(response.headers.get("Content-Range", "")):
        length = int(total[1])
    else:
        return None
    redirects.discard(response)
    passed = headers.without(headers.pass_down(response.raw.headers.items()), "content-range")
    return Reply(status=HTTPStatus.OK, headers=passed, length=length)


def _as_error(response: requests.Response) -> requests.Response:
    """Return an answer that is one to the client's HEAD; raise UpstreamMisbehaved."""
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        return response
    response.close()
    message = f"{urlsplit(response.url).hostname} tells no length"
    raise UpstreamMisbehaved(message)


def _with_digest(reply: Reply, digest: Digest) -> Reply:
    """Add the digest that the client asked for, which a CDN's answer does not repeat."""
    if reply.is_error or reply.header("docker-content-digest"):
        return reply
    return replace(reply, headers=[*reply.headers, ("Docker-Content-Digest", digest)])
