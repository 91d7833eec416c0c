"""What clients know of this proxy: its own address, and what of its table they write."""

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
"""What a client takes for a registry in front of a name; anything else is part of the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """What a client is to be told: `url` leads here, and `registries` are served.

    Where the host of the URL stands for one registry, that is `only`: the others have no address
    there.
    """

    url: str
    registries: Registries
    only: Registry | None = None
    has_users: bool = False
    """Whether everybody has to log in at this proxy itself."""

    @property
    def is_plain(self) -> bool:
        """Whether it speaks http, which clients have to be told."""
        return self.url.startswith("http://")

    @property
    def is_below_a_path(self) -> bool:
        """Whether only clients that take a URL can ask it: a name has no place for a path."""
        return bool(urlsplit(self.url).path)

    @property
    def authority(self) -> str:
        """The host as it stands in front of a name, with a port where it would not look like one.

        Docker takes `proxy/nginx` for a repository of Docker Hub.
        """
        parts = urlsplit(self.url)
        if _CLIENTS_REGISTRY.fullmatch(parts.netloc):
            return parts.netloc
        return f"{parts.netloc}:{_PORTS[parts.scheme]}"

    @property
    def default(self) -> Registry:
        """The registry of names without one in front."""
        return self.only or self.registries.default

    @property
    def rows(self) -> tuple[Registry, ...]:
        """The registries that have an address here."""
        return (self.only,) if self.only else self.registries.rows

    def url_of(self, row: Registry) -> str:
        """Return the URL for what is of one registry alone; this proxy's where it has none."""
        if self.only or not row.hosts:
            return self.url
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{min(row.hosts)}{port}"

    def is_alone_at(self, row: Registry) -> bool:
        """Whether a registry has a host of its own beside this one, and so logins of its own."""
        return self.url_of(row) != self.url

    @property
    def mirror_of_hub(self) -> str | None:
        """The URL that stands for Docker Hub and nothing else, if there is one."""
        for row in self.rows:
            if row.name == DOCKER_HUB and (row is self.default or row.hosts):
                return self.url_of(row)
        return None

    def mirrored(self) -> Iterator[tuple[str, Registry]]:
        """Give the names that a client may write before an image's, each with what it means."""
        for row in self.rows:
            for name in sorted(row.names, key=lambda name: (name != row.name, name)):
                doubled = name in DOCKER_HUB_ALIASES and name != DOCKER_HUB
                if _CLIENTS_REGISTRY.fullmatch(name) and not doubled:
                    yield name, row

    def place(self, row: Registry) -> str | None:
        """Return what a client that sends no `ns` writes in a registry's place, or None."""
        if self.is_alone_at(row):
            return urlsplit(self.url_of(row)).netloc
        if self.is_below_a_path:
            return None
        if row is self.default and not self._may_be_taken_for_another(row):
            return self.authority
        prefix = self._prefix(row)
        return f"{self.authority}/{prefix}" if prefix else None

    def is_own(self, authority: str) -> bool:
        """Whether a name that begins with this leads here already."""
        host = urlsplit(f"//{authority.lower()}").hostname or ""
        ours = {self.authority.lower(), urlsplit(self.url).netloc.lower()}
        return authority.lower() in ours or host in self.registries.hosts

    def row(self, registry: str) -> Registry:
        """Return the registry that images are said to be from; raise NameUnknown."""
        row = self.registries.select(ns=registry, host="").registry
        if row not in self.rows:
            raise NameUnknown
        return row

    def name(self, row: Registry, repository: str) -> str | None:
        """Return how a repository of a registry is called here, or None where it cannot be."""
        prefix = self._prefix(row)
        alone = self.is_alone_at(row)
        if self.is_below_a_path and not alone:
            return None
        own = urlsplit(self.url_of(row)).netloc if alone else self.authority
        for written in (repository, f"{prefix}/{repository}"):
            if self._means(own, written, row, repository):
                return f"{own}/{written}"
        return None

    def _means(self, authority: str, written: str, row: Registry, repository: str) -> bool:
        host = urlsplit(f"//{authority}").hostname or ""
        try:
            found = self.registries.resolve(RepositoryName.parse(written), ns=None, host=host)
        except RegistryError:
            return False
        return found.registry is row and found.repository == row.complete(repository)

    def _prefix(self, row: Registry) -> str:
        """Return what stands for a registry before a name; no component of one has a port."""
        names = sorted(row.names, key=lambda name: (name != row.name, name))
        return next((name for name in names if ":" not in name), "")

    def _may_be_taken_for_another(self, row: Registry) -> bool:
        """Whether a name at the default registry may begin like another registry's prefix.

        No namespace of Docker Hub has a dot.
        """
        others = [name for one in self.rows if one is not row for name in one.names]
        return any(row.name != DOCKER_HUB or "." not in name for name in others)
