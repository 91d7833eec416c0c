"""Redirects to a registry of the table: what may be requested there, and with which session.

Registries do not trust each other, so a redirect from one to another is restricted. It may lead to
manifests, blobs and referrers. It may not lead to a private address unless the redirecting registry
may lead there, nor to anything that a rule denies.
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
from app.oci.scope import Scope
from app.registries import Registry
from app.source import Permit
from app.upstream.http.deadlines import NO_LIMIT, Call
from app.upstream.http.session import Session
from app.upstream.http.urls import Origin, parse_origin

_MAX_ENCODINGS: Final = 8
"""How many times a path may be percent-encoded: each server of a chain may decode it once."""

_PLAIN_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")
"""A path that all servers read alike: no empty segment, `;`, backslash or percent-encoding."""

_RESOURCE: Final = re.compile(r"(.+)/(manifests|blobs|referrers)/([^/]+)")

_PASSED_PARAMETERS: Final = frozenset({"artifactType", "n", "last"})
"""The query parameters that are passed on for a list of referrers. Others are dropped: `ns`, for
example, would select another registry if the target is itself a proxy."""


class RedirectsToRegistry(UpstreamMisbehaved):
    """A redirect to the root of another registry's API (`/v2/`), such as that of a ping."""

    message = "the registry redirects to another one"


class KnownRegistry(Protocol):
    """A registry of the table, as the target of another registry's redirect."""

    @property
    def session(self) -> Session:
        """The session with this registry's trusted authorities and address check."""

    def get_anonymous_token(self, scope: str, refused: str = "", call: Call = NO_LIMIT) -> str:
        """Return an anonymous token for `scope` that differs from `refused`.

        `call` belongs to the caller, who may have to wait for the token.
        Raise RegistryError if the token service issues none.
        """


@dataclass(frozen=True, slots=True)
class Resource:
    """A manifest, a blob or a list of referrers in a registry."""

    name: RepositoryName
    kind: str
    reference: Reference

    @classmethod
    def parse(cls, path: str) -> Self | None:
        """Return the resource at a path below `/v2/`, or None if the path names no resource."""
        match = _RESOURCE.fullmatch(path)
        if match is None:
            return None
        name, kind, reference = match.groups()
        parse = parse_reference if kind == "manifests" else Digest.parse
        try:
            return cls(RepositoryName.parse(name), kind, parse(reference))
        except RegistryError:
            return None

    def check_permit(self, permit: Permit | None, registry: Registry) -> None:
        """Raise RegistryError if `permit` does not allow the client this resource of a registry."""
        if permit is not None:
            permit(registry.name, self.name, self.reference if self.kind == "manifests" else None)

    def build_url(self, registry: Registry, query: str) -> str:
        """Return the URL of the resource in a registry.

        It is built from the parsed parts, which are the ones that were checked. Of the query, only
        the known parameters of a list of referrers are kept.
        """
        base = f"{registry.url}/v2/{self.name}/{self.kind}/{self.reference}"
        parameters = [
            (name, value)
            for name, value in parse_qsl(query, keep_blank_values=True)
            if name in _PASSED_PARAMETERS and self.kind == "referrers"
        ]
        return f"{base}?{urlencode(parameters)}" if parameters else base


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTarget:
    """The next URL to request, and the registry in whose name it is requested.

    `registry`: the registry at this address, or the last one on the way to a host that is not in
    the table.
    `may_be_private`: whether the address may be a special one.
    `must_be_checked`: the table allows this host a special address, but not to the registry that
    redirects to it. We must then resolve the name ourselves, so that the address is checked.
    `known_registry`: the registry that issues the anonymous token, or None.
    `repository`: the repository that this token is for, or None.
    """

    url: str
    session: Session
    registry: Registry
    may_be_private: bool
    must_be_checked: bool = False
    known_registry: KnownRegistry | None = None
    repository: RepositoryName | None = None

    def fetch_authorization(
        self, response: requests.Response, refused: str = "", call: Call = NO_LIMIT
    ) -> str:
        """Return an Authorization for a registry that answered 401, or "" if none can help.

        It holds an anonymous token other than the one in `refused`, an earlier Authorization.
        The credentials for the redirecting registry, the client's or ours, are not for another one
        (docs/decisions/addressing-and-credentials).
        Raise RegistryError if the token service issues no token.
        """
        values = response.raw.headers.getlist("WWW-Authenticate")
        bearer = next(
            (challenge for challenge in parse_challenges(values) if challenge.is_bearer), None
        )
        if self.known_registry is None or bearer is None or self.repository is None:
            return ""
        scope = bearer.parameters.get("scope", "") or str(Scope.of_repository(self.repository))
        refused = refused.removeprefix("Bearer ")
        token = self.known_registry.get_anonymous_token(scope, refused, call)
        return f"Bearer {token}"


@dataclass(frozen=True, slots=True)
class _Row:
    registry: Registry
    known_registry: KnownRegistry
    root: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", f"{urlsplit(self.registry.url).path}/v2")

    def contains_path(self, path: str) -> bool:
        """Return True if a path is in this registry's API, even if the server ignores case."""
        return f"{path.lower()}/".startswith(f"{self.root.lower()}/")

    def may_be_private(self, current_target: RequestTarget) -> bool:
        """Return True if `current_target` may redirect to a special address of this registry."""
        permitted_names = current_target.registry.names & self.registry.redirects_from
        return self.registry.allow_private and (
            current_target.may_be_private or bool(permitted_names)
        )

    def build_target(
        self, current_target: RequestTarget, url: str, repository: RepositoryName
    ) -> RequestTarget:
        """Return the place in this registry that a redirect from another registry leads to."""
        session, may_be_private = self.known_registry.session, self.may_be_private(current_target)
        return RequestTarget(
            url=url,
            session=session if may_be_private else session.public_only,
            registry=self.registry,
            may_be_private=may_be_private,
            must_be_checked=self.registry.allow_private and not may_be_private,
            known_registry=self.known_registry,
            repository=repository,
        )


class KnownRegistries:
    """The registries of the table, by the origin of their URL."""

    def __init__(self) -> None:
        self._by_origin: dict[Origin, list[_Row]] = {}

    def add(self, registry: Registry, known_registry: KnownRegistry) -> None:
        """Add a registry under the origin of its URL."""
        row = _Row(registry, known_registry)
        self._by_origin.setdefault(parse_origin(registry.url), []).append(row)

    def resolve_redirect(
        self, current_target: RequestTarget, url: str, permit: Permit | None
    ) -> RequestTarget:
        """Return the place that a redirect from `current_target` to `url` leads to.

        Raise UpstreamMisbehaved if no redirect may lead there, RedirectsToRegistry if `url` is
        the root of another registry's API, and what `permit` raises.
        """
        rows = self._by_origin.get(parse_origin(url), [])
        parts = urlsplit(url)
        path = _decode_path(parts.path)
        if path is None and any(row.registry is not current_target.registry for row in rows):
            raise _build_refusal(current_target, url)
        current_target = replace(
            current_target, must_be_checked=_is_private_to(current_target, rows)
        )
        innermost_rows = _find_innermost(rows, path or "")
        if path is None or not innermost_rows:
            return replace(current_target, url=url, known_registry=None, repository=None)
        root = innermost_rows[0].root
        resource = Resource.parse(path.removeprefix(f"{root}/"))
        if any(row.registry is current_target.registry for row in innermost_rows):
            # A registry may redirect to any of its own paths, but a rule may deny a repository.
            if resource is not None:
                resource.check_permit(permit, current_target.registry)
            return replace(current_target, url=url, repository=resource.name if resource else None)
        if path.removesuffix("/") == root:
            raise RedirectsToRegistry
        if resource is None or not path.startswith(f"{root}/"):
            raise _build_refusal(current_target, url)
        for row in innermost_rows:  # several rows may be the same registry
            resource.check_permit(permit, row.registry)
        row = next(
            (candidate for candidate in innermost_rows if candidate.may_be_private(current_target)),
            innermost_rows[0],
        )
        return row.build_target(
            current_target, resource.build_url(row.registry, parts.query), resource.name
        )


def _is_private_to(current_target: RequestTarget, rows: Sequence[_Row]) -> bool:
    """Return True if all these are private registries that `current_target` may not lead to."""
    return bool(rows) and all(
        row.registry.allow_private and not row.may_be_private(current_target) for row in rows
    )


def _find_innermost(rows: Sequence[_Row], path: str) -> list[_Row]:
    """Return the rows whose API contains a path; if APIs are nested, the rows of the innermost."""
    containing_rows = [row for row in rows if row.contains_path(path)]
    root_length = max((len(row.root) for row in containing_rows), default=0)
    return [row for row in containing_rows if len(row.root) == root_length]


def _decode_path(path: str) -> str | None:
    """Return a path with all percent-encodings decoded; None if servers may read it differently."""
    for _ in range(_MAX_ENCODINGS):
        decoded = unquote(path)
        if decoded == path:
            is_plain = _PLAIN_PATH.fullmatch(path) and not {".", ".."} & set(path.split("/"))
            return path if is_plain else None
        path = decoded
    return None


def _build_refusal(here: RequestTarget, url: str) -> UpstreamMisbehaved:
    message = (
        f"{urlsplit(here.url).hostname} redirects to another registry ({urlsplit(url).hostname}), "
        "and not to a manifest, a blob or referrers there"
    )
    return UpstreamMisbehaved(message)
