"""Upstream(Source): one registry, read over HTTP."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

import requests

from app.events import Event
from app.oci import headers, media_types, tokens
from app.oci.errors import ErrorCode, RegistryError, UpstreamMisbehaved
from app.oci.headers import Headers
from app.oci.reference import Digest, Kind, Operation, Reference, RepositoryName
from app.registries import Registry
from app.source import (
    Place,
    PlaceExpired,
    PlaceForbidden,
    Reply,
    Request,
    TokenRequest,
    build_reply,
)
from app.upstream import replies
from app.upstream.auth import placeholders
from app.upstream.auth import service as auth_service
from app.upstream.auth.challenges import RecentChallenges
from app.upstream.auth.issued import AnonymousTokens, IssuedTokens, issue_token
from app.upstream.auth.ping import PingClient
from app.upstream.auth.service import TokenService
from app.upstream.http.backoff import RecentTooManyRequests
from app.upstream.http.body import discard, read_document
from app.upstream.http.deadlines import NO_LIMIT, Call
from app.upstream.http.known_registries import KnownRegistries, RedirectsToRegistry
from app.upstream.http.redirects import Redirects
from app.upstream.http.retries import Reliability, Retrier
from app.upstream.http.session import Session
from app.upstream.http.urls import parse_origin
from app.upstream.resume import BlobRangeRequester, request_from_place

MANIFEST_LIMIT: Final = 16 * 1024 * 1024
"""Bytes. Registries should accept manifests of at least 4 MiB (OCI distribution-spec, "Pushing
Manifests"), and containerd reads no more than that."""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """The path of one kind of operation, and the error code that a 404 means there.

    A small answer is read whole before it is passed on, so that a failed read can be retried.
    An immutable answer is always the same, so that a broken body can be resumed.
    """

    path: str
    not_found_code: ErrorCode = ErrorCode.NAME_UNKNOWN
    is_small: bool = False
    is_immutable: bool = False


_ENDPOINTS: Final = {
    Kind.PING: _Endpoint("/v2/"),
    Kind.MANIFEST: _Endpoint(
        "/v2/{name}/manifests/{reference}", ErrorCode.MANIFEST_UNKNOWN, is_small=True
    ),
    Kind.BLOB: _Endpoint("/v2/{name}/blobs/{reference}", ErrorCode.BLOB_UNKNOWN, is_immutable=True),
    Kind.TAGS: _Endpoint("/v2/{name}/tags/list"),
    # A 404 in plain text says nothing about the repository: some clients, such as oras, take
    # NAME_UNKNOWN to mean that it has nothing at all. On UNSUPPORTED they look for the referrers
    # tag.
    Kind.REFERRERS: _Endpoint("/v2/{name}/referrers/{reference}", ErrorCode.UNSUPPORTED),
}
_PING: Final = Operation.ping()

_EXPIRED: Final = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
)
"""Statuses of a place that may serve the content again under a new URL."""


class Upstream:
    """The registry of one row. Remembers its answer to an anonymous ping."""

    def __init__(
        self,
        registry: Registry,
        session: Session,
        known_registries: KnownRegistries,
        reliability: Reliability,
    ) -> None:
        self.session = session
        self._registry = registry
        self._redirects = Redirects(session, registry, known_registries)
        self._retrier = Retrier(reliability.retry_budget, observer=session.observer)
        self._quick_retrier = Retrier.for_quick_requests(reliability.retry_budget, session.observer)
        self._reliability = reliability
        self._recent_429s = RecentTooManyRequests()
        self._recent_token_429s = RecentTooManyRequests()
        self._recent_challenges = RecentChallenges()
        self._anonymous_tokens = IssuedTokens(partial(issue_token, self, None))
        self._seen_anonymous_tokens = AnonymousTokens(registry.name)
        self._pings = PingClient(registry, self._redirects, self._quick_retrier)

    def answer(self, operation: Operation, request: Request) -> Reply:
        """Return what the operation asks for, or the registry's refusal.

        A manifest is read whole before this returns, so that one that breaks off is fetched again.
        A blob usually comes from a CDN that the registry redirects to; its unread body is resumed
        if it breaks off, and verified if the settings say so.
        Raise RegistryError if the registry cannot be asked, and UpstreamMisbehaved if its answer
        cannot be the blob that was requested.
        """
        if operation.kind is Kind.PING:
            return self._answer_ping(request)
        reply = self._request(operation, request)
        match operation.kind, operation.reference:
            case Kind.MANIFEST, reference:
                if request.method == "GET" and reply.status == HTTPStatus.OK:
                    self.session.observer.observe(Event.PULL_SPENT)
                if isinstance(reference, Digest):
                    return replies.with_digest(reply, reference, media_types.can_be_manifest)
            case Kind.BLOB, Digest() as digest:
                return self._check_blob(reply, digest, request)
        return reply

    def _check_blob(self, reply: Reply, digest: Digest, request: Request) -> Reply:
        if problem := replies.find_mismatch(request, reply):
            reply.close()
            raise UpstreamMisbehaved(problem)
        if self._reliability.verify_blobs:
            reply = replies.with_verification(reply, digest)
        return replies.with_digest(reply, digest, media_types.can_be_blob)

    def _answer_ping(self, request: Request) -> Reply:
        """Answer from memory unless only the registry can check the credentials.

        Docker Hub counts pings against an abuse limit. Basic credentials mean nothing to a registry
        that asks for tokens.
        """
        request = replace(request, headers=self._redeem_placeholder(request))
        scheme = request.authorization.partition(" ")[0].lower()
        if scheme == "bearer":
            with suppress(RedirectsToRegistry):
                return self._request(_PING, request)
        ping = self._pings.get(Call.for_request(request))
        if scheme == "basic" and (ping.asks_for_basic or ping.bearer is None):
            return self._request(_PING, request)
        reply = build_reply(ping.status, ping.headers, ping.content)
        return replace(reply, challenges=ping.challenges)

    def reach(self) -> None:
        """Return None if the registry gives any answer; raise RegistryError if it gives none.

        The registry is asked at most once every few seconds, however often this is called.
        """
        self._pings.check_reachable()

    def token(self, request: TokenRequest) -> Reply:
        """Pass a request to the token service, pinned or discovered, and return its answer.

        If the registry has no token service, return a placeholder token, or the registry's refusal
        of Basic credentials.
        """
        call = Call.for_request(request)
        if service := self._find_token_service(call):
            reply = self._exchange_token(service, request)
            if not placeholders.has_credentials(request) and reply.status == HTTPStatus.OK:
                content = reply.read()
                self._seen_anonymous_tokens.record(content)
                reply = replace(reply, body=content)
            return reply
        authorization = (
            placeholders.get_basic_authorization(request)
            if self._pings.get(call).asks_for_basic
            else ""
        )
        if not authorization:
            return placeholders.build_token_reply(tokens.PLACEHOLDER)
        login_request = Request(
            method="GET",
            headers=[("Authorization", authorization)],
            client=request.client,
            has_fallback=request.has_fallback,
            deadline=request.deadline,
        )
        login_reply = self._request(_PING, login_request)
        if login_reply.is_error:
            return replace(login_reply, challenges=())
        login_reply.close()
        return placeholders.build_token_reply(tokens.build_basic_token(authorization))

    def _exchange_token(self, service: TokenService, request: TokenRequest) -> Reply:
        """Ask the token service, unless it has just answered the same request with 429."""
        identity = placeholders.build_identity(request)
        query = urlencode(request.parameters, errors="surrogateescape")
        if recent_429 := self._recent_token_429s.lookup(identity, query):
            return recent_429
        reply = auth_service.exchange_token(self.session, self._quick_retrier, service, request)
        return self._recent_token_429s.record(identity, query, reply, reply.header("content-type"))

    def get_anonymous_token(self, scope: str, refused: str = "", call: Call = NO_LIMIT) -> str:
        """Return an anonymous token for a scope, different from `refused` if that is given.

        `call` belongs to the caller, who may have to wait for the token.
        Raise RegistryError if the token service gives none.
        """
        if refused:
            return self._anonymous_tokens.replace_refused(refused, scope, call)
        return self._anonymous_tokens.get(scope, call)

    def _request(self, operation: Operation, request: Request) -> Reply:
        """Ask the registry, and list in the reply the repositories that its redirects led to."""
        redirect_targets: list[tuple[str, RepositoryName]] = []

        def permit(registry: str, name: RepositoryName, reference: Reference | None) -> None:
            if request.permit is not None:
                request.permit(registry, name, reference)
            if (registry, name) != (self._registry.name, operation.repository):
                redirect_targets.append((registry, name))

        permitted_request = replace(request, permit=permit)
        if request.place is None:
            reply = self._fetch_reply(operation, permitted_request)
        else:
            reply = self._fetch_from_place(operation, permitted_request, request.place)
        return (
            replace(reply, redirect_targets=tuple(dict.fromkeys(redirect_targets)))
            if redirect_targets
            else reply
        )

    def _fetch_reply(self, operation: Operation, request: Request) -> Reply:
        endpoint = _ENDPOINTS[operation.kind]
        fields = headers.filter_request_headers(self._redeem_placeholder(request))
        authorization = headers.get_first(fields, "authorization")
        if recent_refusal := self._recall_refusal(operation, authorization):
            return recent_refusal
        url = self._build_url(operation, request.query)
        call, total_timeout = Call.for_request(request), self.session.total_timeout
        content: bytes | None = None
        send = self._choose_send(operation, request, url, fields)

        def fetch(call: Call) -> requests.Response:
            nonlocal content
            response = send(call)
            is_whole = request.method == "GET" and response.status_code == HTTPStatus.OK
            if endpoint.is_small and is_whole:
                content = read_document(response, MANIFEST_LIMIT, call.limit_time(total_timeout))
            return response

        response = self._repeat(operation, request, fetch, call)
        self._record_budget(response)
        was_probed = request.method == "HEAD" and response.request.method == "GET"
        if was_probed and (reply := replies.build_head_reply(response)):
            return reply
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            return self._build_refusal(
                operation, request.method, authorization, response, call.limit_time(total_timeout)
            )
        if content is not None:
            return replies.build_buffered_reply(response, content)
        if not endpoint.is_immutable:
            return replies.build_streamed_reply(request.method, response, None)
        range_requester = self._build_range_requester(operation, url, fields, request)
        return replies.build_streamed_reply(request.method, response, range_requester)

    def _fetch_from_place(self, operation: Operation, request: Request, place: Place) -> Reply:
        """Return a part of content from where redirects have led.

        Raise PlaceExpired, or PlaceForbidden if the rules deny the client that place.
        """
        fields, call = headers.filter_request_headers(request.headers), Call.for_request(request)

        def permit(registry: str, name: RepositoryName, reference: Reference | None) -> None:
            try:
                if request.permit is not None:
                    request.permit(registry, name, reference)
            except RegistryError as error:
                raise PlaceForbidden from error

        response = request_from_place(self._redirects, place, fields, call, permit)
        if response.status_code in _EXPIRED:
            discard(response)
            raise PlaceExpired
        url = self._build_url(operation, request.query)
        range_requester = self._build_range_requester(operation, url, fields, request)
        return replies.build_streamed_reply("GET", response, range_requester)

    def _choose_send(
        self, operation: Operation, request: Request, url: str, fields: Headers
    ) -> Callable[[Call], requests.Response]:
        """Return what sends a request; it replaces a refused token if only this proxy can do so."""
        if request.is_answered and request.method == "GET" and self._can_renew(request):
            return partial(
                self._build_range_requester(operation, url, fields, request).fetch, fields
            )
        return partial(self._send, request, url, fields)

    def _recall_refusal(self, operation: Operation, authorization: str) -> Reply | None:
        """Return the answer that the registry would give again, or None if it has to be asked."""
        if recent_429 := self._recent_429s.lookup(authorization, operation.repository):
            return recent_429
        if authorization or not operation.is_pull:
            return None
        return self._recent_challenges.lookup(operation.repository)

    def _send(self, request: Request, url: str, fields: Headers, call: Call) -> requests.Response:
        """Send a request; only one without a body follows redirects."""
        body = request.body
        if body is None:
            return self._redirects.fetch(request.method, url, fields, call, request.permit)
        fields = [*fields, ("Content-Length", str(body.length))]
        return self.session.send(request.method, url, fields, call=call, body=body.chunks)

    def _repeat(
        self,
        operation: Operation,
        request: Request,
        fetch: Callable[[Call], requests.Response],
        call: Call,
    ) -> requests.Response:
        """Call `fetch` until its response is worth passing on; only once if there is a body."""
        if request.body is not None:
            return fetch(call)
        retrier = self._quick_retrier if operation.kind is Kind.PING else self._retrier
        return retrier(fetch, call)

    def _build_refusal(
        self,
        operation: Operation,
        method: str,
        authorization: str,
        response: requests.Response,
        call: Call,
    ) -> Reply:
        not_found_code = _ENDPOINTS[operation.kind].not_found_code
        challenges = auth_service.parse_trusted_challenges(self._registry, response)
        reply = replies.build_refusal(method, response, not_found_code, challenges, call)
        if parse_origin(response.url) != parse_origin(self._registry.url):
            return reply
        if not authorization and operation.is_pull:
            reply = self._recent_challenges.record(operation.repository, reply)
        content_type = response.headers.get("Content-Type", "")
        return self._recent_429s.record(authorization, operation.repository, reply, content_type)

    def _build_url(self, operation: Operation, query: str) -> str:
        path = _ENDPOINTS[operation.kind].path.format(
            name=operation.repository, reference=operation.reference
        )
        return f"{self._registry.url}{path}?{query}" if query else f"{self._registry.url}{path}"

    def _record_budget(self, response: requests.Response) -> None:
        is_own_origin = parse_origin(response.url) == parse_origin(self._registry.url)
        if is_own_origin and (budget := replies.parse_budget(response)):
            self.session.observer.record_budget(budget)

    def _redeem_placeholder(self, request: Request) -> Headers:
        return tokens.redeem_placeholder(
            request.headers,
            lambda: self._pings.get(Call.for_request(request)).asks_for_basic,
        )

    def _build_range_requester(
        self, operation: Operation, url: str, fields: Headers, request: Request
    ) -> BlobRangeRequester:
        """Return the object that requests the rest of a blob."""
        return BlobRangeRequester(
            redirects=self._redirects,
            url=url,
            fields=fields,
            client=request.client,
            budget=self._reliability.resume_budget,
            renew_authorization=request.renew_authorization
            or partial(self._renew_authorization, operation, request.authorization),
            permit=request.permit,
        )

    def _can_renew(self, request: Request) -> bool:
        return request.renew_authorization is not None or self._seen_anonymous_tokens.is_anonymous(
            request.authorization
        )

    def _renew_authorization(self, operation: Operation, authorization: str, refused: str) -> str:
        """Return a new Authorization if the refused one is anonymous, or "" if it is not."""
        if not self._seen_anonymous_tokens.is_anonymous(authorization):
            return ""
        refused_token = "" if refused == authorization else refused.removeprefix("Bearer ")
        return f"Bearer {self.get_anonymous_token(operation.scope, refused_token)}"

    def _find_token_service(self, call: Call) -> TokenService | None:
        registry = self._registry
        if registry.token_url and registry.token_service:
            return TokenService(registry.token_url, registry.token_service)
        return auth_service.discover(registry, self._pings.get(call))
