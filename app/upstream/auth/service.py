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

from app.oci import headers
from app.oci.challenge import Challenge, parse_challenges
from app.oci.errors import ErrorCode, UpstreamMisbehaved, UpstreamUnavailable, error_document
from app.oci.headers import Headers
from app.registries import Registry
from app.source import Event, Reply, TokenRequest, replied
from app.upstream import replies
from app.upstream.http import body, redirects
from app.upstream.http.deadlines import within
from app.upstream.http.origin import AUTHORITY, origin
from app.upstream.http.redirects import Redirects
from app.upstream.http.retries import Attempts
from app.upstream.http.session import Session

# A registry's answer to an anonymous client.


@dataclass(frozen=True, slots=True)
class Ping:
    """A registry's answer to an anonymous `GET /v2/`."""

    status: int
    headers: Headers
    content: bytes
    challenges: Sequence[Challenge]

    @property
    def lasting(self) -> bool:
        """Whether the answer, 200 or 401, will stay the same for a while."""
        return self.status in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED}

    @property
    def bearer(self) -> Challenge | None:
        """The Bearer challenge, or None if the registry asks for no tokens."""
        return next((one for one in self.challenges if one.is_bearer), None)

    @property
    def asks_for_basic(self) -> bool:
        """Whether the registry itself asks for Basic credentials."""
        return any(one.is_basic for one in self.challenges)


_ANSWER_LIMIT: Final = 1024 * 1024
"""The most bytes of a token service's answer. The largest tokens seen are about 20 KB."""

_NO_POST: Final = frozenset({
    HTTPStatus.FORBIDDEN, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.NOT_IMPLEMENTED,
})  # fmt: skip
"""Statuses of a POST on which clients give up, although a GET may work."""

_UNCLEAR: Final = re.compile(r"[^\x21-\x7e]|\\")
"""Characters that URL parsers disagree about."""


@cache
def _suffixes() -> PublicSuffixList:
    """Load the public suffix list on first use, because it takes 40 ms and 2 MiB."""
    return PublicSuffixList()


@dataclass(frozen=True, slots=True)
class TokenService:
    """The URL that issues tokens, and the `service` to name there ("" for none)."""

    url: str
    service: str


def challenges(registry: Registry, response: requests.Response) -> list[Challenge]:
    """Return the Bearer and Basic challenges of a response.

    The list is empty if the response is from another host, because only the registry itself may ask
    for a token. Raise UpstreamMisbehaved, and close the response, for a realm on another domain.
    """
    if origin(response.url) != origin(registry.url):
        return []
    told = parse_challenges(response.raw.headers.getlist("WWW-Authenticate"))
    try:
        if registry.token_url is None:
            for challenge in told:
                if challenge.is_bearer:
                    discovered(registry, challenge)
    except UpstreamMisbehaved:
        response.close()
        raise
    return [one for one in told if one.is_bearer or one.is_basic]


def discover(registry: Registry, ping: Ping) -> TokenService | None:
    """Return a registry's token service, or None if the registry uses no tokens.

    Raise UpstreamUnavailable if the answer to the ping does not tell, or UpstreamMisbehaved if the
    realm is not acceptable.
    """
    if not ping.lasting:
        message = f"{registry.name} answered {ping.status}, and so its token service is not known"
        raise UpstreamUnavailable(message)
    challenge = ping.bearer
    if registry.token_url:
        named = challenge.parameters.get("service", "") if challenge else ""
        return TokenService(registry.token_url, registry.token_service or named)
    if challenge is None:
        return None
    found = discovered(registry, challenge)
    return replace(found, service=registry.token_service or found.service)


def discovered(registry: Registry, challenge: Challenge) -> TokenService:
    """Return the token service that a registry's challenge names.

    Raise UpstreamMisbehaved if the realm is not acceptable, so that an upstream cannot direct
    credentials anywhere it likes. The realm must be on the registry's own host or registrable
    domain. It must use https, unless the registry itself uses plain http and may be private.
    """
    realm = challenge.parameters.get("realm", "")
    if not _acceptable(registry, realm):
        message = (
            f"the token service that {registry.name} names is on another domain: "
            "if it is right, set its token_url (DOCXY_TOKEN_URL for the default registry) to it"
        )
        raise UpstreamMisbehaved(message)
    return TokenService(realm, challenge.parameters.get("service", ""))


def _acceptable(registry: Registry, realm: str) -> bool:
    if _UNCLEAR.search(realm):
        return False
    try:
        here, there = urlsplit(registry.url), urlsplit(realm)
        _ = there.port
    except ValueError:
        return False
    if not there.hostname or not AUTHORITY.fullmatch(there.netloc) or there.fragment:
        return False
    plain = there.scheme == "http" and here.scheme == "http" and registry.allow_private
    if there.scheme != "https" and not plain:
        return False
    if there.hostname == here.hostname:
        return True
    domain = _registrable_domain(here.hostname or "")
    return domain is not None and domain == _registrable_domain(there.hostname)


def _registrable_domain(host: str) -> str | None:
    """Return the registrable domain of a host; None for an address or localhost."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return str(domain) if (domain := _suffixes().privatesuffix(host)) else None
    return None


def exchange(
    session: Session, attempts: Attempts, service: TokenService, request: TokenRequest
) -> Reply:
    """Pass a token request on to the service, and return its answer.

    If the service does not support POST, return a 404, on which every client falls back to GET. A
    429 gets a Retry-After; any other answer is unchanged. A POST is retried only if no connection
    was made. Raise RegistryError if the service gives no answer.
    """
    parameters = [("service", service.service)] if service.service else []
    encoded = urlencode([*request.parameters, *parameters], errors="surrogateescape")
    fields = headers.without(headers.pass_up(request.headers), *headers.PARTIAL)
    answer = b""

    def read(response: requests.Response) -> requests.Response:
        nonlocal answer
        with within(session.patience):
            answer = body.read_document(response, _ANSWER_LIMIT)
        return response

    if request.method == "POST":
        fields.append(("Content-Type", "application/x-www-form-urlencoded"))
        fields.append(("Content-Length", str(len(encoded))))
        send = partial(
            session.send, "POST", service.url, fields,
            client=request.client, body=encoded.encode("ascii"),
        )  # fmt: skip
        response = attempts.to_connect(lambda: read(send()), request.client)
        if _cannot_post(response.status_code, answer):
            session.observer.happened(Event.TOKEN, str(response.status_code))
            return _fall_back_to_get()
    else:
        glue = "&" if urlsplit(service.url).query else "?"
        url = f"{service.url}{glue}{encoded}"
        fetch = partial(Redirects(session).fetch, "GET", url, fields, request.client)
        response = attempts(lambda: read(fetch()), request.client)
        redirects.refuse_dead_end(response)
    session.observer.happened(Event.TOKEN, str(response.status_code))
    passed = headers.pass_down(response.raw.headers.items())
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        told = replies.retry_after(passed)
        passed = [*headers.without(passed, "retry-after"), ("Retry-After", told)]
    return replied(response.status_code, passed, answer)


def _cannot_post(status: int, answer: bytes) -> bool:
    if status == HTTPStatus.BAD_REQUEST:
        try:
            problem = json.loads(answer)
        except (ValueError, RecursionError):
            return True
        return isinstance(problem, dict) and _unsupported(problem)
    return status in _NO_POST or status in redirects.REDIRECTS


def _unsupported(problem: dict[str, Any]) -> bool:
    """Return whether an error says that POST is unsupported.

    It may have the form of RFC 6749, section 5.2, or of the OCI distribution specification.
    """
    errors = problem.get("errors")
    codes = (
        [one.get("code") for one in errors if isinstance(one, dict)]
        if isinstance(errors, list)
        else []
    )
    return problem.get("error") == "unsupported_grant_type" or ErrorCode.UNSUPPORTED in codes


def _fall_back_to_get() -> Reply:
    document = error_document(ErrorCode.UNSUPPORTED, "this token service takes no POST")
    answer = json.dumps(document).encode()
    return replied(HTTPStatus.NOT_FOUND, [("Content-Type", "application/json")], answer)
