"""Redirects, followed by hand and here, since the client's network cannot reach their targets."""

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

import requests

from app.oci import headers
from app.oci.conditional import build_range
from app.oci.errors import RegistryError, UpstreamForbidden, UpstreamMisbehaved
from app.oci.headers import Headers
from app.registries import Registry
from app.source import Permit
from app.upstream.http.body import discard
from app.upstream.http.deadlines import Call
from app.upstream.http.known_registries import KnownRegistries, RequestTarget
from app.upstream.http.session import Session
from app.upstream.http.urls import AUTHORITY, Origin, parse_origin

_LIMIT: Final = 10
"""The number of redirects that are followed, as in containerd and Go's HTTP client."""

REDIRECTS: Final = frozenset({
    HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER,
    HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT,
})  # fmt: skip

_HEAD_REFUSALS: Final = frozenset({
    HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN,
    HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED,
})  # fmt: skip
"""The statuses with which object stores refuse a HEAD of a URL signed for GET."""


_REFUSED_TWICE: Final = "refused twice"

_LOCATION: Final = re.compile(
    r"(?:(?:[Hh][Tt][Tt][Pp][Ss]?:)?//(?![/?#]|$)|(?!//|[A-Za-z][A-Za-z0-9+.-]*:))[\x21-\x5b\x5d-\x7e]*"
)
"""Visible ASCII without a backslash, with either a host after two slashes or no scheme and host."""


_NOBODY: Final = Registry(name="", url="")
"""Stands in for a registry in requests that do not belong to a pull."""


@dataclass(frozen=True, slots=True)
class Redirects:
    """Sends requests with a registry's session and follows the redirects of the responses.

    `known_registries` are the registries of the table that a redirect may lead to. Requests that do
    not belong to a client's pull, such as token requests, have none.
    """

    session: Session
    registry: Registry = _NOBODY
    known_registries: KnownRegistries = field(default_factory=KnownRegistries)

    def fetch(
        self,
        method: str,
        url: str,
        fields: Headers,
        call: Call,
        permit: Permit | None = None,
    ) -> requests.Response:
        """Send a request, follow its redirects and return the last response, its body unread.

        The response's `url` is the last URL.
        Credentials are dropped when the scheme, host or port changes. If another registry of the
        table then answers with a challenge, it gets an anonymous token.
        If another origin refuses a HEAD, send a GET of the first byte, whose Content-Range contains
        the length; the caller then receives a 206 to its HEAD.
        All of this ends at the deadline of `call`, and takes at most the session's `total_timeout`.
        Raise RegistryError if a request fails or a redirect must not be followed, and what `permit`
        raises about a registry of the table that a redirect leads to.
        """
        limited_call = call.limit_time(self.session.total_timeout)
        response = self._follow(method, url, fields, limited_call, permit)
        if response.url != url:
            # A CDN says "public", because everybody who has a signed URL may read it. That holds
            # for its own URL only, and not for ours.
            for name in headers.FOR_CACHES:
                response.raw.headers.discard(name)
        return response

    def _follow(
        self,
        method: str,
        url: str,
        fields: Headers,
        call: Call,
        permit: Permit | None,
    ) -> requests.Response:
        target = self._build_first_target(url)
        tokens_by_origin: dict[Origin, str] = {}
        for _ in range(_LIMIT + 1):
            response = _send(target, method, fields, call)
            location = response.headers.get("Location", "")
            if response.status_code in REDIRECTS and location:
                discard(response, call)
                next_target = self.known_registries.resolve_redirect(
                    target, resolve_location(target.url, location), permit
                )
                if (
                    parse_origin(target.url) != parse_origin(next_target.url)
                    or target.registry is not next_target.registry
                ):
                    fields = headers.filter_redirect_headers(fields)
                target = next_target
            elif target.registry is not self.registry and (
                authorization := self._fetch_authorization(target, response, tokens_by_origin, call)
            ):
                discard(response, call)
                fields = [
                    *headers.without(fields, "authorization"),
                    ("Authorization", authorization),
                ]
            else:
                break
        else:
            message = f"{urlsplit(url).hostname} redirects without end"
            raise UpstreamMisbehaved(message)
        last_origin = parse_origin(target.url)
        is_other_origin = last_origin != parse_origin(url) and last_origin not in tokens_by_origin
        if method == "HEAD" and is_other_origin and response.status_code in _HEAD_REFUSALS:
            discard(response, call)
            probe = [*headers.without(fields, "range", "if-range"), build_range(0, 1)]
            return _send(target, "GET", probe, call)
        return response

    def fetch_without_redirects(
        self, url: str, fields: Headers, call: Call, permit: Permit | None
    ) -> requests.Response:
        """Send a GET to `url`, where earlier redirects ended, and return the response.

        Do not follow redirects. Raise what `fetch` raises.
        """
        target = self.known_registries.resolve_redirect(self._build_first_target(""), url, permit)
        return _send(target, "GET", fields, call)

    def _build_first_target(self, url: str) -> RequestTarget:
        return RequestTarget(
            url=url,
            session=self.session,
            registry=self.registry,
            may_be_private=self.registry.allow_private,
        )

    def _fetch_authorization(
        self,
        target: RequestTarget,
        response: requests.Response,
        tokens_by_origin: dict[Origin, str],
        call: Call,
    ) -> str:
        """Return the Authorization for a registry that answered 401, or "" if none can help.

        It is an anonymous token, and a new one if the registry refused the first, which may have
        been cached. `tokens_by_origin` records what each origin has received.
        """
        origin = parse_origin(target.url)
        refused = tokens_by_origin.get(origin, "")
        if response.status_code != HTTPStatus.UNAUTHORIZED or refused == _REFUSED_TWICE:
            return ""
        try:
            authorization = target.fetch_authorization(response, refused, call)
        except RegistryError:
            response.close()
            raise
        if authorization:
            tokens_by_origin[origin] = _REFUSED_TWICE if refused else authorization
        return authorization


def _send(target: RequestTarget, method: str, fields: Headers, call: Call) -> requests.Response:
    """Send a request to a place and return the response; may raise RegistryError."""
    try:
        if target.must_be_checked:
            target.session.refuse_proxy_resolution(target.url)
        return target.session.send(method, target.url, fields, call=call)
    except UpstreamForbidden as error:
        if not target.registry.allow_private or target.may_be_private:
            raise
        message = (
            f"{urlsplit(target.url).hostname}: its address is not public, and redirects_from of "
            f"{target.registry.name} does not name the registry that redirects to it"
        )
        raise UpstreamForbidden(message) from error


def refuse_unfollowed_redirect(response: requests.Response) -> None:
    """Close the response and raise UpstreamMisbehaved if it is a 3xx other than 304.

    `Redirects` follows every redirect that it can, so this one has no usable target.
    """
    status = response.status_code
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    if is_redirect and status != HTTPStatus.NOT_MODIFIED:
        response.close()
        message = f"{urlsplit(response.url).hostname} answered {status} without a usable Location"
        raise UpstreamMisbehaved(message)


def resolve_location(base_url: str, location: str) -> str:
    """Return the absolute URL, without a fragment, of a Location in a response from `base_url`.

    Raise UpstreamMisbehaved if URL parsers may disagree about it.
    """
    try:
        parts = urlsplit(urljoin(base_url, location))
        _ = parts.port
        if _LOCATION.fullmatch(location) and AUTHORITY.fullmatch(parts.netloc):
            return parts._replace(fragment="").geturl()
    except ValueError:
        pass
    message = f"{urlsplit(base_url).hostname} redirects to a URL that this proxy does not follow"
    raise UpstreamMisbehaved(message)
