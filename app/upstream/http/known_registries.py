"""Redirects that lead to a registry of the table: what may be asked there, and with which session.

A redirect is a registry's word, and registries are strangers to each other. It may lead to the
manifests, blobs and referrers of another one; to no address that the registry which sends it may
not lead to itself; and to nothing that a rule denies.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import requests

from app.oci.challenge import parse_challenges
from app.oci.errors import RegistryError, UpstreamMisbehaved
from app.oci.reference import Digest, Reference, RepositoryName, parse_reference
from app.registries import Registry
from app.source import Permit
from app.upstream.http.origin import Origin, origin
from app.upstream.http.session import Session

_ROUNDS: Final = 8
"""How often a path may be percent-encoded; servers in a row may each decode it once."""

_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")
"""A path that every server reads alike: no empty segment, no `;`, no backslash, nothing encoded."""

_RESOURCE: Final = re.compile(r"(.+)/(manifests|blobs|referrers)/([^/]+)")

_PASSED: Final = frozenset({"artifactType", "n", "last"})
"""What a list of referrers may be asked for. `ns` would choose another registry at a proxy."""


class LeadsToRegistry(UpstreamMisbehaved):
    """A redirect to the root of another registry's API, as that of a ping."""

    message = "the registry redirects to another one"


class Neighbour(Protocol):
    """A registry of the table, as another one's redirect meets it."""

    @property
    def session(self) -> Session:
        """What its authorities and addresses are known to."""

    def anonymous_token(self, scope: str, refused: str = "") -> str:
        """Return a token for nobody, another one than was refused; raise RegistryError."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A manifest, a blob or a list of referrers in a registry."""

    name: RepositoryName
    kind: str
    reference: Reference

    @classmethod
    def parse(cls, path: str) -> Self | None:
        """Return what a path below `/v2/` is, or None if it is none of these."""
        found = _RESOURCE.fullmatch(path)
        if found is None:
            return None
        name, kind, reference = found.groups()
        parse = parse_reference if kind == "manifests" else Digest.parse
        try:
            return cls(RepositoryName.parse(name), kind, parse(reference))
        except RegistryError:
            return None

    def ask(self, permit: Permit | None, registry: Registry) -> None:
        """Raise RegistryError if the client may not have this from a registry."""
        if permit is not None:
            permit(registry.name, self.name, self.reference if self.kind == "manifests" else None)

    def url(self, registry: Registry, query: str) -> str:
        """Return where it is, as it was judged, with what is known of a query."""
        base = f"{registry.url}/v2/{self.name}/{self.kind}/{self.reference}"
        wanted = [
            (name, value)
            for name, value in parse_qsl(query, keep_blank_values=True)
            if name in _PASSED and self.kind == "referrers"
        ]
        return f"{base}?{urlencode(wanted)}" if wanted else base


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is asked next: a URL, and on whose behalf.

    `registry` is the one that speaks there: whose address it is, or who has led to a stranger's.
    `may_be_private` tells whether the address may be a special one.
    `must_be_checked` tells that the table allows this host a special address, but not to whoever
    leads to it: its name may then be resolved here only, where the address is checked.
    `repository` is what is asked for where a neighbour may want a token.
    """

    url: str
    session: Session
    registry: Registry
    may_be_private: bool
    must_be_checked: bool = False
    neighbour: Neighbour | None = None
    repository: RepositoryName | None = None

    def authorization(self, response: requests.Response, refused: str = "") -> str:
        """Return what opens a neighbour's repository that has answered 401; "" for nothing.

        What a client, or this proxy, has for the registry that redirects is not for another one
        (docs/decisions/addressing-and-credentials): that is asked as nobody.
        """
        values = response.raw.headers.getlist("WWW-Authenticate")
        bearer = next((one for one in parse_challenges(values) if one.is_bearer), None)
        if self.neighbour is None or bearer is None or self.repository is None:
            return ""
        scope = bearer.parameters.get("scope", "") or f"repository:{self.repository}:pull"
        token = self.neighbour.anonymous_token(scope, refused.removeprefix("Bearer "))
        return f"Bearer {token}"


@dataclass(frozen=True, slots=True)
class _Row:
    registry: Registry
    neighbour: Neighbour
    root: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", f"{urlsplit(self.registry.url).path}/v2")

    def is_above(self, path: str) -> bool:
        """Tell whether a path is in this registry's API, for a server that ignores case too."""
        return f"{path.lower()}/".startswith(f"{self.root.lower()}/")

    def may_be_private(self, here: Place) -> bool:
        """Tell whether who leads here may lead to the special addresses that this one may have."""
        named = here.registry.names & self.registry.redirects_from
        return self.registry.allow_private and (here.may_be_private or bool(named))

    def place(self, here: Place, url: str, repository: RepositoryName) -> Place:
        """Return what a redirect from another registry leads to here."""
        session, may_be_private = self.neighbour.session, self.may_be_private(here)
        return Place(
            url=url,
            session=session if may_be_private else session.guarded,
            registry=self.registry,
            may_be_private=may_be_private,
            must_be_checked=self.registry.allow_private and not may_be_private,
            neighbour=self.neighbour,
            repository=repository,
        )


class Neighbours:
    """The registries of a table, by their addresses."""

    def __init__(self) -> None:
        self._by_origin: dict[Origin, list[_Row]] = {}

    def add(self, registry: Registry, neighbour: Neighbour) -> None:
        """Make a registry known by its URL."""
        row = _Row(registry, neighbour)
        self._by_origin.setdefault(origin(registry.url), []).append(row)

    def lead(self, here: Place, url: str, permit: Permit | None) -> Place:
        """Return the place that a redirect leads to.

        Raise UpstreamMisbehaved if no redirect may lead there, or what `permit` raises.
        """
        rows = self._by_origin.get(origin(url), [])
        parts = urlsplit(url)
        path = _decoded(parts.path)
        if path is None and any(row.registry is not here.registry for row in rows):
            raise _refused(here, url)
        here = replace(here, must_be_checked=_is_private_to(here, rows))
        nearest = _nearest(rows, path or "")
        if path is None or not nearest:
            return replace(here, url=url, neighbour=None, repository=None)
        root = nearest[0].root
        resource = Resource.parse(path.removeprefix(f"{root}/"))
        if any(row.registry is here.registry for row in nearest):
            # Its own paths are its own business, but a rule may be about one of its repositories.
            if resource is not None:
                resource.ask(permit, here.registry)
            return replace(here, url=url, repository=resource.name if resource else None)
        if path.removesuffix("/") == root:
            raise LeadsToRegistry
        if resource is None or not path.startswith(f"{root}/"):
            raise _refused(here, url)
        for row in nearest:  # several rows may be the same registry
            resource.ask(permit, row.registry)
        row = next((one for one in nearest if one.may_be_private(here)), nearest[0])
        return row.place(here, resource.url(row.registry, parts.query), resource.name)


def _is_private_to(here: Place, rows: Sequence[_Row]) -> bool:
    """Tell whether an address is that of private registries only, to which a place may not lead."""
    return bool(rows) and all(
        row.registry.allow_private and not row.may_be_private(here) for row in rows
    )


def _nearest(rows: Sequence[_Row], path: str) -> list[_Row]:
    """Return the rows whose API a path is in; of two, one of which is below the other, that one."""
    above = [row for row in rows if row.is_above(path)]
    deepest = max((len(row.root) for row in above), default=0)
    return [row for row in above if len(row.root) == deepest]


def _decoded(path: str) -> str | None:
    """Return a path as the last of many servers reads it; None if they may read it differently."""
    for _ in range(_ROUNDS):
        decoded = unquote(path)
        if decoded == path:
            is_plain = _PLAIN.fullmatch(path) and not {".", ".."} & set(path.split("/"))
            return path if is_plain else None
        path = decoded
    return None


def _refused(here: Place, url: str) -> UpstreamMisbehaved:
    message = (
        f"{urlsplit(here.url).hostname} redirects to another registry ({urlsplit(url).hostname}), "
        "and not to a manifest, a blob or referrers there"
    )
    return UpstreamMisbehaved(message)
