"""The proxy as its clients see it: its address, and the names they can use for registries."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from app.oci.errors import NameUnknown, RegistryError
from app.oci.reference import RepositoryName
from app.registries import DOCKER_HUB, DOCKER_HUB_ALIASES, Registries, Registry

_PORTS: Final = {"http": 80, "https": 443}
_CLIENTS_REGISTRY: Final = re.compile(r"localhost|[^.:\n]*[.:].*")
"""Matches a first component that clients take for a registry, not for a part of the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The proxy at one of its addresses: its `url`, and the `registries` that it serves.

    If the host of the URL stands for one registry, `only` is that registry, and the others cannot
    be reached there.
    """

    url: str
    registries: Registries
    only: Registry | None = None
    has_users: bool = False
    """Whether clients have to log in to this proxy itself."""

    @property
    def is_plain(self) -> bool:
        """Whether the URL is plain http, which clients accept only if they are configured to."""
        return self.url.startswith("http://")

    @property
    def has_path(self) -> bool:
        """Whether the URL has a path.

        Only clients that are configured with a URL can then use it: an image name cannot begin
        with a host and a path.
        """
        return bool(urlsplit(self.url).path)

    @property
    def authority(self) -> str:
        """The host to write in front of an image name.

        If it does not look like a registry, it includes the default port: Docker takes
        `proxy/nginx` for a repository of Docker Hub.
        """
        parts = urlsplit(self.url)
        if _CLIENTS_REGISTRY.fullmatch(parts.netloc):
            return parts.netloc
        return f"{parts.netloc}:{_PORTS[parts.scheme]}"

    @property
    def default(self) -> Registry:
        """The registry meant by image names without a registry prefix."""
        return self.only or self.registries.default

    @property
    def rows(self) -> tuple[Registry, ...]:
        """The registries that can be reached at this address."""
        return (self.only,) if self.only else self.registries.rows

    def url_of(self, row: Registry) -> str:
        """Return the URL of a registry's own host here, or `url` if it has none."""
        if self.only or not row.hosts:
            return self.url
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{min(row.hosts)}{port}"

    def has_own_host(self, row: Registry) -> bool:
        """Return whether a registry has its own host here, and therefore its own logins."""
        return self.url_of(row) != self.url

    @property
    def hub_mirror_url(self) -> str | None:
        """The URL where names without a registry are Docker Hub's, or None if they are not."""
        for row in self.rows:
            if row.name == DOCKER_HUB and (row is self.default or row.hosts):
                return self.url_of(row)
        return None

    def list_mirrored(self) -> Iterator[tuple[str, Registry]]:
        """Yield each name that clients may write for a registry, with the registry.

        Of Docker Hub's names, only the usual one is included.
        """
        for row in self.rows:
            for name in sorted(row.names, key=lambda name: (name != row.name, name)):
                is_alias = name in DOCKER_HUB_ALIASES and name != DOCKER_HUB
                if _CLIENTS_REGISTRY.fullmatch(name) and not is_alias:
                    yield name, row

    def find_mirror_location(self, row: Registry) -> str | None:
        """Return what replaces a registry's name in clients that send no `ns` parameter.

        That is a host with an optional prefix, or None if these clients cannot reach the registry.
        """
        if self.has_own_host(row):
            return urlsplit(self.url_of(row)).netloc
        if self.has_path:
            return None
        if row is self.default and not self._may_be_taken_for_another(row):
            return self.authority
        prefix = self._find_prefix(row)
        return f"{self.authority}/{prefix}" if prefix else None

    def is_own(self, authority: str) -> bool:
        """Return whether an image name that begins with `authority` already points here."""
        host = urlsplit(f"//{authority.lower()}").hostname or ""
        own_authorities = {self.authority.lower(), urlsplit(self.url).netloc.lower()}
        return authority.lower() in own_authorities or host in self.registries.hosts

    def get_registry(self, registry: str) -> Registry:
        """Return the registry by its name; raise NameUnknown if it is not served here."""
        row = self.registries.select(ns=registry, host="").registry
        if row not in self.rows:
            raise NameUnknown
        return row

    def build_name(self, row: Registry, repository: str) -> str | None:
        """Return a repository's full name through this proxy, without a tag.

        Return None if no name here resolves to it.
        """
        prefix = self._find_prefix(row)
        has_own_host = self.has_own_host(row)
        if self.has_path and not has_own_host:
            return None
        authority = urlsplit(self.url_of(row)).netloc if has_own_host else self.authority
        for name in (repository, f"{prefix}/{repository}"):
            if self._resolves_to(authority, name, row, repository):
                return f"{authority}/{name}"
        return None

    def _resolves_to(self, authority: str, name: str, row: Registry, repository: str) -> bool:
        host = urlsplit(f"//{authority}").hostname or ""
        try:
            address = self.registries.resolve(RepositoryName.parse(name), ns=None, host=host)
        except RegistryError:
            return False
        return address.registry is row and address.repository == row.complete_name(repository)

    def _find_prefix(self, row: Registry) -> str:
        """Return the registry's prefix, or "" if all its names have a port.

        A component of a repository name cannot contain a colon.
        """
        names = sorted(row.names, key=lambda name: (name != row.name, name))
        return next((name for name in names if ":" not in name), "")

    def _may_be_taken_for_another(self, row: Registry) -> bool:
        """Return whether a name in the default registry `row` may begin with the prefix of another.

        Docker Hub's namespaces contain no dot, so only a prefix without one can clash there.
        """
        other_names = [name for other in self.rows if other is not row for name in other.names]
        return any(row.name != DOCKER_HUB or "." not in name for name in other_names)
