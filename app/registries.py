"""The table of registries, and which of them a request addresses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.oci.errors import NameUnknown
from app.oci.reference import RepositoryName
from app.oci.scope import Scope

DOCKER_HUB: Final = "docker.io"
DOCKER_HUB_ALIASES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """One row: a registry that clients may address, by its name, an alias or a host of ours."""

    name: str
    url: str
    token_url: str | None = None
    token_service: str | None = None
    aliases: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    library_prefix: bool = False

    def answers_to(self, name: str) -> bool:
        """Whether a client may call this registry so."""
        return name.lower() in {self.name, *self.aliases}

    def complete(self, name: str) -> str:
        """Return the registry's own name for a repository; Docker Hub's official ones are short."""
        return f"library/{name}" if self.library_prefix and "/" not in name else name


@dataclass(frozen=True, slots=True)
class Address:
    """A registry and a repository there, and how the client wrote them."""

    registry: Registry
    repository: RepositoryName
    asked: RepositoryName
    ns: str | None = None

    def scope_for_client(self, scope: Scope) -> Scope:
        """Return a scope of the registry's in the client's naming."""
        return scope.named(self.asked) if scope.name == self.repository else scope


class Registries:
    """Every registry that this proxy serves; nothing that a client sends names another one."""

    def __init__(self, rows: Sequence[Registry]) -> None:
        self.rows = tuple(rows)
        self.default = self.rows[0]

    def select(self, *, ns: str | None, host: str) -> Registry:
        """Return the registry that a request without a repository means; raise NameUnknown."""
        if ns:
            return self._named(ns)
        return next((row for row in self.rows if host.lower() in row.hosts), self.default)

    def resolve(self, asked: RepositoryName, *, ns: str | None, host: str) -> Address:
        """Return what a request for a repository addresses; raise NameUnknown or NameInvalid.

        `ns` decides before the host, the host before a prefix, and then the default is left
        (design.md, section 3).
        A first component that names the chosen registry once more is dropped.
        """
        chosen = self.select(ns=ns, host=host)
        first, slash, rest = asked.partition("/")
        if slash and chosen.answers_to(first):
            return self._address(chosen, rest, asked, ns)
        if slash and not ns and chosen is self.default and (row := self._prefix(first)):
            return self._address(row, rest, asked, ns)
        return self._address(chosen, asked, asked, ns)

    def _prefix(self, first: str) -> Registry | None:
        for row in self.rows:
            if row.answers_to(first):
                return row
        if self.default.name == DOCKER_HUB and "." in first:
            # No namespace of Docker Hub has a dot, so this means a registry that is not served.
            raise NameUnknown
        return None

    def _named(self, name: str) -> Registry:
        name = name.removesuffix(":443")  # containerd sends the port where the reference has one
        for row in self.rows:
            if row.answers_to(name):
                return row
        raise NameUnknown

    @staticmethod
    def _address(registry: Registry, name: str, asked: RepositoryName, ns: str | None) -> Address:
        repository = RepositoryName.parse(registry.complete(name))
        return Address(registry, repository, asked, ns)
