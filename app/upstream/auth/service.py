"""A registry's token service: distribution's `spec/auth/token.md` and `spec/auth/oauth.md`."""

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests
from publicsuffixlist import PublicSuffixList

from app.events import Event
from app.oci import documents, headers
from app.oci.challenge import Challenge, parse_challenges
from app.oci.errors import ErrorCode, UpstreamMisbehaved, UpstreamUnavailable, error_document
from app.oci.headers import Headers
from app.registries import Registry
from app.source import Reply, TokenRequest, build_reply
from app.upstream import replies
from app.upstream.http import body, redirects
from app.upstream.http.deadlines import Call
from app.upstream.http.redirects import Redirects
from app.upstream.http.retries import Retrier
from app.upstream.http.session import Session
from app.upstream.http.urls import AUTHORITY, parse_origin

# A registry's answer to an anonymous client.


@dataclass(frozen=True, slots=True)
class PingResult:
    """A registry's answer to an anonymous `GET /v2/`."""

    status: int
    headers: Headers
    content: bytes
    challenges: Sequence[Challenge]

    @property
    def is_lasting(self) -> bool:
        """Whether the answer, 200 or 401, will stay the same for a while."""
        return self.status in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED}

    @property
    def bearer(self) -> Challenge | None:
        """The Bearer challenge, or None if the registry asks for no tokens."""
        return next((challenge for challenge in self.challenges if challenge.is_bearer), None)

    @property
    def asks_for_basic(self) -> bool:
        """Whether the registry itself asks for Basic credentials."""
        return any(challenge.is_basic for challenge in self.challenges)


_ANSWER_LIMIT: Final = 1024 * 1024
"""The maximum size of a token service's answer. The largest tokens seen are about 20 KB."""

_POST_REFUSALS: Final = frozenset({
    HTTPStatus.FORBIDDEN, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.NOT_IMPLEMENTED,
})  # fmt: skip
"""Statuses of a POST on which clients give up, although a GET may work."""

_AMBIGUOUS: Final = re.compile(r"[^\x21-\x7e]|\\")
"""Characters that URL parsers disagree about."""


@cache
def _load_suffixes() -> PublicSuffixList:
    """Load the public suffix list on first use, because it takes 40 ms and 2 MiB."""
    return PublicSuffixList()


@dataclass(frozen=True, slots=True)
class TokenService:
    """The URL that issues tokens, and the `service` to name there ("" if it has no name)."""

    url: str
    service: str


def parse_trusted_challenges(registry: Registry, response: requests.Response) -> list[Challenge]:
    """Return the Bearer and Basic challenges of a response.

    The list is empty if the response is from another host, because only the registry itself may ask
    for a token. Raise UpstreamMisbehaved, and close the response, for a realm on another domain.
    """
    if parse_origin(response.url) != parse_origin(registry.url):
        return []
    challenges = parse_challenges(response.raw.headers.getlist("WWW-Authenticate"))
    try:
        if registry.token_url is None:
            for challenge in challenges:
                if challenge.is_bearer:
                    parse_token_service(registry, challenge)
    except UpstreamMisbehaved:
        response.close()
        raise
    return [item for item in challenges if item.is_bearer or item.is_basic]


def discover(registry: Registry, ping: PingResult) -> TokenService | None:
    """Return a registry's token service, or None if the registry uses no tokens.

    Raise UpstreamUnavailable if the ping was answered with neither 200 nor 401, or
    UpstreamMisbehaved if the realm is not acceptable.
    """
    if not ping.is_lasting:
        message = f"{registry.name} answered {ping.status}, so its token service is unknown"
        raise UpstreamUnavailable(message)
    challenge = ping.bearer
    if registry.token_url:
        challenge_service = challenge.parameters.get("service", "") if challenge else ""
        return TokenService(registry.token_url, registry.token_service or challenge_service)
    if challenge is None:
        return None
    token_service = parse_token_service(registry, challenge)
    return replace(token_service, service=registry.token_service or token_service.service)


def parse_token_service(registry: Registry, challenge: Challenge) -> TokenService:
    """Return the token service that a registry's challenge names.

    Raise UpstreamMisbehaved if the realm is not acceptable, so that an upstream cannot direct
    credentials anywhere it likes. The realm must be on the registry's own host or registrable
    domain. It must use https, unless the registry itself uses plain http and may be private.
    """
    realm = challenge.parameters.get("realm", "")
    if not _is_acceptable_realm(registry, realm):
        message = (
            f"the token service that {registry.name} names is on another domain: "
            "if that is intended, set its token_url (DOCXY_TOKEN_URL for the default registry)"
        )
        raise UpstreamMisbehaved(message)
    return TokenService(realm, challenge.parameters.get("service", ""))


def _is_acceptable_realm(registry: Registry, realm: str) -> bool:
    if _AMBIGUOUS.search(realm):
        return False
    try:
        registry_url, realm_url = urlsplit(registry.url), urlsplit(realm)
        _ = realm_url.port
    except ValueError:
        return False
    if not realm_url.hostname or not AUTHORITY.fullmatch(realm_url.netloc) or realm_url.fragment:
        return False
    is_plain_http = (
        realm_url.scheme == "http" and registry_url.scheme == "http" and registry.allow_private
    )
    if realm_url.scheme != "https" and not is_plain_http:
        return False
    if realm_url.hostname == registry_url.hostname:
        return True
    domain = _registrable_domain(registry_url.hostname or "")
    return domain is not None and domain == _registrable_domain(realm_url.hostname)


def _registrable_domain(host: str) -> str | None:
    """Return the registrable domain of a host; None for an address or localhost."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return str(domain) if (domain := _load_suffixes().privatesuffix(host)) else None
    return None


def exchange_token(
    session: Session, retrier: Retrier, service: TokenService, request: TokenRequest
) -> Reply:
    """Pass a token request on to the service, and return its answer.

    If the service does not support POST, return a 404, on which every client falls back to GET. A
    429 gets a Retry-After; any other answer is unchanged. A POST is retried only if no connection
    was made. Raise RegistryError if the service gives no answer.
    """
    parameters = [("service", service.service)] if service.service else []
    encoded = urlencode([*request.parameters, *parameters], errors="surrogateescape")
    fields = headers.without(headers.filter_request_headers(request.headers), *headers.PARTIAL)
    call = Call.for_request(request)
    answer = b""

    def read(response: requests.Response, call: Call) -> requests.Response:
        nonlocal answer
        limited_call = call.limit_time(session.total_timeout)
        answer = body.read_document(response, _ANSWER_LIMIT, limited_call)
        return response

    if request.method == "POST":
        fields.append(("Content-Type", "application/x-www-form-urlencoded"))
        fields.append(("Content-Length", str(len(encoded))))
        send = partial(
            session.send, "POST", service.url, fields,
            body=encoded.encode("ascii"),
        )  # fmt: skip
        response = retrier.retry_connecting(lambda call: read(send(call=call), call), call)
        if _is_post_refused(response.status_code, answer):
            session.observer.observe(Event.TOKEN_RESPONSE, str(response.status_code))
            return _build_post_refusal()
    else:
        separator = "&" if urlsplit(service.url).query else "?"
        url = f"{service.url}{separator}{encoded}"
        fetch = partial(Redirects(session).fetch, "GET", url, fields)
        response = retrier(lambda call: read(fetch(call), call), call)
        redirects.refuse_unfollowed_redirect(response)
    session.observer.observe(Event.TOKEN_RESPONSE, str(response.status_code))
    reply_headers = headers.filter_response_headers(response.raw.headers.items())
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        retry_after = replies.choose_retry_after(reply_headers)
        reply_headers = [
            *headers.without(reply_headers, "retry-after"),
            ("Retry-After", retry_after),
        ]
    return build_reply(response.status_code, reply_headers, answer)


def _is_post_refused(status: int, answer: bytes) -> bool:
    if status == HTTPStatus.BAD_REQUEST:
        try:
            return _is_post_unsupported(documents.parse_object(answer))
        except ValueError:
            return True
    return status in _POST_REFUSALS or status in redirects.REDIRECTS


def _is_post_unsupported(problem: dict[str, Any]) -> bool:
    """Return whether an error says that POST is unsupported.

    It may have the form of RFC 6749, section 5.2, or of the OCI distribution specification.
    """
    errors = problem.get("errors")
    codes = (
        [entry.get("code") for entry in errors if isinstance(entry, dict)]
        if isinstance(errors, list)
        else []
    )
    return problem.get("error") == "unsupported_grant_type" or ErrorCode.UNSUPPORTED in codes


def _build_post_refusal() -> Reply:
    document = error_document(ErrorCode.UNSUPPORTED, "this token service takes no POST")
    answer = json.dumps(document).encode()
    return build_reply(HTTPStatus.NOT_FOUND, [("Content-Type", "application/json")], answer)
