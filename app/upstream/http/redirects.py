"""Redirects, followed by hand: the client's network cannot reach where they lead."""

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

import requests

from app.oci import headers
from app.oci.errors import RegistryError, UpstreamForbidden, UpstreamMisbehaved
from app.oci.headers import Headers
from app.registries import Registry
from app.source import Client, Permit
from app.upstream.http.body import discard
from app.upstream.http.deadlines import within
from app.upstream.http.known_registries import Neighbours, Place
from app.upstream.http.origin import AUTHORITY, Origin, origin
from app.upstream.http.session import Session

_LIMIT: Final = 10
"""As many as containerd and Go's client follow."""

REDIRECTS: Final = frozenset({
    HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER,
    HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT,
})  # fmt: skip

_HEAD_REFUSED: Final = frozenset({
    HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN,
    HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED,
})  # fmt: skip
"""What object stores answer to the HEAD of a URL that was signed for GET."""


_TWICE: Final = "refused twice"

_LOCATION: Final = re.compile(
    r"(?:(?:[Hh][Tt][Tt][Pp][Ss]?:)?//(?![/?#]|$)|(?!//|[A-Za-z][A-Za-z0-9+.-]*:))[\x21-\x5b\x5d-\x7e]*"
)
"""Visible ASCII without a backslash; a host behind two slashes, or no scheme and no host at all."""


_NOBODY: Final = Registry(name="", url="")
"""Leads to no registry of the table, since it has no neighbours."""


@dataclass(frozen=True, slots=True)
class Redirects:
    """Asks with a registry's session, and wherever the registry sends on to.

    What is not asked for a client's pull, as a token, has no neighbours.
    """

    session: Session
    registry: Registry = _NOBODY
    neighbours: Neighbours = field(default_factory=Neighbours)

    def fetch(
        self,
        method: str,
        url: str,
        fields: Headers,
        client: Client | None,
        permit: Permit | None = None,
    ) -> requests.Response:
        """Send a request and follow its redirects; the last URL is the response's `url`.

        Credentials stay behind where scheme, host or port changes; another registry of the table
        that then asks for a token gets one for nobody in particular.
        A HEAD that is refused elsewhere is asked once more as a GET of the first byte, whose
        Content-Range tells the length; the caller meets that as a 206 to its HEAD.
        All of it takes no longer than the session's patience.
        Raise what `permit` raises of a registry of the table that the way leads to.
        """
        with within(self.session.patience):
            response = self._followed(method, url, fields, client, permit)
        if response.url != url:
            # Who has a signed URL may read it, so a CDN says "public" there, and means no other.
            for name in headers.FOR_CACHES:
                response.raw.headers.discard(name)
        return response

    def _followed(
        self,
        method: str,
        url: str,
        fields: Headers,
        client: Client | None,
        permit: Permit | None,
    ) -> requests.Response:
        here = self._begin(url)
        shown: dict[Origin, str] = {}
        for _ in range(_LIMIT + 1):
            response = _sent(here, method, fields, client)
            location = response.headers.get("Location", "")
            if response.status_code in REDIRECTS and location:
                discard(response)
                there = self.neighbours.lead(here, target(here.url, location), permit)
                if origin(here.url) != origin(there.url) or here.registry is not there.registry:
                    fields = headers.pass_elsewhere(fields)
                here = there
            elif here.registry is not self.registry and (
                token := self._token(here, response, shown)
            ):
                discard(response)
                fields = [*headers.without(fields, "authorization"), ("Authorization", token)]
            else:
                break
        else:
            message = f"{urlsplit(url).hostname} redirects without end"
            raise UpstreamMisbehaved(message)
        last = origin(here.url)
        elsewhere = last != origin(url) and last not in shown
        if method == "HEAD" and elsewhere and response.status_code in _HEAD_REFUSED:
            discard(response)
            probe = [*headers.without(fields, "range", "if-range"), ("Range", "bytes=0-0")]
            return _sent(here, "GET", probe, client)
        return response

    def send_again(
        self, url: str, fields: Headers, client: Client | None, permit: Permit | None
    ) -> requests.Response:
        """Ask once more where the way has ended before, and follow nothing."""
        there = self.neighbours.lead(self._begin(""), url, permit)
        return _sent(there, "GET", fields, client)

    def _begin(self, url: str) -> Place:
        return Place(
            url=url,
            session=self.session,
            registry=self.registry,
            may_be_private=self.registry.allow_private,
        )

    def _token(self, here: Place, response: requests.Response, shown: dict[Origin, str]) -> str:
        """Return what to show to a registry that has refused, if anything may help.

        A token for nobody, and once more where a remembered one has been refused.
        """
        there = origin(here.url)
        refused = shown.get(there, "")
        if response.status_code != HTTPStatus.UNAUTHORIZED or refused == _TWICE:
            return ""
        try:
            token = here.authorization(response, refused)
        except RegistryError:
            response.close()
            raise
        if token:
            shown[there] = _TWICE if refused else token
        return token


def _sent(there: Place, method: str, fields: Headers, client: Client | None) -> requests.Response:
    """Send a request to a place; raise RegistryError."""
    try:
        if there.must_be_checked:
            there.session.refuse_unchecked(there.url)
        return there.session.send(method, there.url, fields, client=client)
    except UpstreamForbidden as error:
        if not there.registry.allow_private or there.may_be_private:
            raise
        message = (
            f"{urlsplit(there.url).hostname}: its address is not public, and redirects_from of "
            f"{there.registry.name} does not name the registry that redirects to it"
        )
        raise UpstreamForbidden(message) from error


def refuse_dead_end(response: requests.Response) -> None:
    """Raise UpstreamMisbehaved for a redirect that leads nowhere; 304 is none."""
    status = response.status_code
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    if is_redirect and status != HTTPStatus.NOT_MODIFIED:
        response.close()
        message = f"{urlsplit(response.url).hostname} answered {status} and no place to go on"
        raise UpstreamMisbehaved(message)


def target(here: str, location: str) -> str:
    """Return where a Location leads; raise UpstreamMisbehaved where URL parsers disagree."""
    try:
        parts = urlsplit(urljoin(here, location))
        _ = parts.port
        if _LOCATION.fullmatch(location) and AUTHORITY.fullmatch(parts.netloc):
            return parts._replace(fragment="").geturl()
    except ValueError:
        pass
    message = f"{urlsplit(here).hostname} redirects to where this proxy does not follow"
    raise UpstreamMisbehaved(message)
