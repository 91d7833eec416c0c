"""The registries of the table, for redirects that lead from one of them to another."""

import re
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import requests

from app.oci.challenge import parse_challenges
from app.upstream.origins import Origin, origin
from app.upstream.session import Session

_REPOSITORY: Final = re.compile(r"(.+)/(?:manifests|blobs|referrers)/[^/]+")


class Neighbour(Protocol):
    """A registry of the table, as another one's redirect meets it."""

    @property
    def session(self) -> Session:
        """What its authorities and addresses are known to."""

    def anonymous_token(self, scope: str, refused: str = "") -> str:
        """Return a token for nobody, another one than was refused; raise RegistryError."""


class Neighbours:
    """Who is at the end of a redirect: a registry of the table, or anybody.

    What a client, or this proxy, has for the registry that redirects is not for the other one
    (design.md, section 4): that is asked as nobody.
    """

    def __init__(self) -> None:
        self._by_origin: dict[Origin, tuple[str, Neighbour]] = {}

    def add(self, url: str, neighbour: Neighbour) -> None:
        """Make a registry known by its URL."""
        path = f"{urlsplit(url).path}/v2/"
        self._by_origin.setdefault(origin(url), (path, neighbour))

    def has(self, url: str) -> bool:
        """Whether a URL is a registry's of the table."""
        return self._at(url)[1] is not None

    def session(self, url: str, usual: Session) -> Session:
        """Return what to ask a URL with: a registry of the table has its own."""
        _, neighbour = self._at(url)
        return neighbour.session if neighbour else usual

    def authorization(self, response: requests.Response, refused: str = "") -> str:
        """Return what opens a repository of a registry of the table; "" where nothing does."""
        root, neighbour = self._at(response.url)
        values = response.raw.headers.getlist("WWW-Authenticate")
        bearer = next((one for one in parse_challenges(values) if one.is_bearer), None)
        repository = _REPOSITORY.fullmatch(urlsplit(response.url).path.removeprefix(root))
        if neighbour is None or bearer is None or repository is None:
            return ""
        scope = bearer.parameters.get("scope", "") or f"repository:{repository[1]}:pull"
        return f"Bearer {neighbour.anonymous_token(scope, refused.removeprefix('Bearer '))}"

    def _at(self, url: str) -> tuple[str, Neighbour | None]:
        """Return the root of a registry's API, and the registry, or None.

        More than it may be served at its host.
        """
        root, neighbour = self._by_origin.get(origin(url), ("", None))
        path = urlsplit(url).path
        # A server may read "/v2/../" as "/" (RFC 3986, section 5.2.4).
        climbs = {".", ".."} & set(unquote(path).replace("\\", "/").split("/"))
        return root, neighbour if path.startswith(root) and not climbs else None
