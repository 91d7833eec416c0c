"""Redirects, followed by hand: the client's network cannot reach where they lead."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

import requests

from app.content import Client
from app.oci import headers
from app.oci.errors import RegistryError, UpstreamMisbehaved
from app.oci.headers import Headers
from app.upstream.discarding import discard
from app.upstream.neighbours import Neighbours
from app.upstream.origins import AUTHORITY, Origin, origin
from app.upstream.reading import within
from app.upstream.session import Session

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


@dataclass(frozen=True, slots=True)
class Redirects:
    """Asks with a registry's session, and wherever the registry sends on to."""

    session: Session
    neighbours: Neighbours | None = None

    def fetch(
        self, method: str, url: str, fields: Headers, client: Client | None
    ) -> requests.Response:
        """Send a request and follow its redirects; the last URL is the response's `url`.

        Credentials stay behind where scheme, host or port changes; another registry of the table
        that then asks for a token gets one for nobody in particular.
        A HEAD that is refused elsewhere is asked once more as a GET of the first byte, whose
        Content-Range tells the length; the caller meets that as a 206 to its HEAD.
        All of it takes no longer than the session's patience.
        """
        with within(self.session.patience):
            response = self._followed(method, url, fields, client)
        if response.url != url:
            # Who has a signed URL may read it, so a CDN says "public" there, and means no other.
            for name in headers.FOR_CACHES:
                response.raw.headers.discard(name)
        return response

    def _followed(
        self, method: str, url: str, fields: Headers, client: Client | None
    ) -> requests.Response:
        here, session = url, self.session
        shown: dict[Origin, str] = {}
        for _ in range(_LIMIT + 1):
            response = session.send(method, here, fields, client=client)
            location = response.headers.get("Location", "")
            if response.status_code in REDIRECTS and location:
                discard(response)
                there = target(here, location)
                if origin(here) != origin(there):
                    fields = headers.pass_elsewhere(fields)
                    session = self.session_for(there, session)
                here = there
            elif origin(here) != origin(url) and (token := self._token(response, shown)):
                discard(response)
                fields = [*headers.without(fields, "authorization"), ("Authorization", token)]
            else:
                break
        else:
            message = f"{urlsplit(url).hostname} redirects without end"
            raise UpstreamMisbehaved(message)
        elsewhere = origin(here) != origin(url) and origin(here) not in shown
        if method == "HEAD" and elsewhere and response.status_code in _HEAD_REFUSED:
            discard(response)
            probe = [*headers.without(fields, "range", "if-range"), ("Range", "bytes=0-0")]
            return session.send("GET", here, probe, client=client)
        return response

    def session_for(self, url: str, usual: Session) -> Session:
        """Return what knows the authorities of a place: its registry's session, if it has one."""
        return self.neighbours.session(url, usual) if self.neighbours else usual

    def _token(self, response: requests.Response, shown: dict[Origin, str]) -> str:
        """Return what to show to a registry that has refused, if anything may help.

        A token for nobody, and once more where a remembered one has been refused.
        """
        there = origin(response.url)
        if self.neighbours is None or response.status_code != HTTPStatus.UNAUTHORIZED:
            return ""
        refused = shown.get(there, "")
        if refused == _TWICE:
            return ""
        try:
            token = self.neighbours.authorization(response, refused)
        except RegistryError:
            response.close()
            raise
        if token:
            shown[there] = _TWICE if refused else token
        return token


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
