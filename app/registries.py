"""The table of registries, which resolves the registry that a request addresses."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.oci.errors import NameUnknown
from app.oci.reference import RepositoryName
from app.oci.scope import Scope

DOCKER_HUB: Final = "docker.io"
DOCKER_HUB_ALIASES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


_HOST_NAME_TAG: Final = re.compile(r"(?<![\w.+-])[a-z0-9-]+(?:\.[a-z0-9-]+)+(?:\+[0-9]+)?(?=~)")
_PORT: Final = re.compile(r":[0-9]+$")


@dataclass(frozen=True, slots=True)
class Account:
    """The credentials of this proxy at a registry."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """One row: a registry that clients may address by its name, an alias or a host of ours.

    If a registry is `managed`, this proxy fetches the tokens itself, with `account` or
    anonymously. Otherwise the clients' own credentials pass through
    (docs/decisions/addressing-and-credentials).
    """

    name: str
    url: str
    token_url: str | None = None
    token_service: str | None = None
    aliases: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    library_prefix: bool = False
    managed: bool = False
    account: Account | None = None
    prefix_login: bool = False
    ca_bundle: str | None = None
    allow_private: bool = False
    redirects_from: frozenset[str] = frozenset()
    """Names of registries that may redirect here even if this registry has a special address."""

    @property
    def names(self) -> frozenset[str]:
        """Every name that a client may use for this registry: its own and its aliases."""
        return self.aliases | {self.name}

    @property
    def token_tag(self) -> str:
        """The text before `~` in this registry's tokens: its name, with "+" for a colon.

        A token cannot contain a colon.
        """
        return self.name.replace(":", "+")

    def complete_name(self, name: str) -> str:
        """Return the registry's own name for a repository.

        Docker Hub's official images, such as `alpine`, are in `library/`.
        """
        return f"library/{name}" if self.library_prefix and "/" not in name else name


@dataclass(frozen=True, slots=True)
class Selection:
    """The registry that a request addresses, and how the request named it.

    `host_default` is the registry that the same host stands for when the request names none. A
    client's login at that host belongs to it.
    """

    registry: Registry
    host_default: Registry
    ns: str | None = None
    by_prefix: bool = False

    @property
    def has_tagged_tokens(self) -> bool:
        """Whether tokens carry the registry's name, because clients keep one login per host."""
        return self.registry is not self.host_default

    @property
    def accepts_logins(self) -> bool:
        """Whether a password that the client sends may have been typed for this registry."""
        return not self.by_prefix or self.registry.prefix_login

    def scope_for_client(self, scope: Scope) -> Scope:
        """Return a scope with the client's name for the repository; here, unchanged."""
        return scope


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryAddress(Selection):
    """A repository: the registry's name for it, and `requested_name`, the client's."""

    repository: RepositoryName
    requested_name: RepositoryName

    def scope_for_client(self, scope: Scope) -> Scope:
        """Return a scope with the client's name for the repository, if it is this one's."""
        return scope.with_name(self.requested_name) if scope.name == self.repository else scope


class Registries:
    """Every registry that this proxy serves. Nothing that a client sends can add another."""

    def __init__(self, rows: Sequence[Registry], default: str | None = None) -> None:
        """Make `default`, or else the first row, the default registry.

        Raise ValueError if the table has no registry of that name, or if two rows share a name, a
        host or a tag.
        """
        self.rows = tuple(rows)
        self._by_name = _build_index(self.rows, lambda row: row.names)
        self._by_host = _build_index(self.rows, lambda row: row.hosts)
        self._by_tag = _build_index(self.rows, lambda row: [row.token_tag])
        tags = sorted(self._by_tag, key=len, reverse=True)  # a tag may end with another
        self._tags = re.compile(rf"(?:{'|'.join(map(re.escape, tags))})(?=~)")
        if default is not None and default not in self._by_name:
            message = f"default: no registry of the table is named {default}"
            raise ValueError(message)
        self.default = self._by_name[default] if default else self.rows[0]

    @property
    def hosts(self) -> frozenset[str]:
        """Every host of ours that stands for one registry."""
        return frozenset(self._by_host)

    def select(self, *, ns: str | None, host: str) -> Selection:
        """Return the registry that a request without a repository addresses.

        Raise NameUnknown if `ns` names no registry of the table.
        """
        host_default = self._by_host.get(host.lower(), self.default)
        return Selection(self._find_by_ns(ns) if ns else host_default, host_default, ns)

    def resolve(
        self, requested_name: RepositoryName, *, ns: str | None, host: str
    ) -> RepositoryAddress:
        """Return the repository that a request addresses; raise NameUnknown or NameInvalid.

        `ns` takes precedence over the host, the host over a prefix, and a prefix over the default
        registry (docs/registries.md). A first component that repeats the name of the chosen
        registry is dropped.
        """
        selection = self.select(ns=ns, host=host)
        registry = selection.registry
        prefix, slash, remainder = requested_name.partition("/")
        if not slash:
            return _build_address(selection, registry, requested_name, requested_name)
        prefix_registry = self._by_name.get(prefix)
        if prefix_registry is registry:
            return _build_address(selection, registry, remainder, requested_name)
        if prefix_registry and not ns and host.lower() not in self._by_host:
            return _build_address(selection, prefix_registry, remainder, requested_name)
        return _build_address(selection, registry, requested_name, requested_name)

    def get_registry(self, name: str) -> Registry:
        """Return the row with this name or alias; raise KeyError if no row has it."""
        return self._by_name[name]

    def find_token_tags(self, text: str) -> set[str]:
        """Return the names of the registries whose tagged tokens appear anywhere in `text`.

        A client may still hold tokens of a registry that has left the table. Its tag is recognized
        if it looks like a host name, and is returned as it is.
        """
        if "~" not in text:
            return set()
        tags = [*_HOST_NAME_TAG.findall(text), *self._tags.findall(text)]
        return {self._by_tag[tag].name if tag in self._by_tag else tag for tag in tags}

    def split_token_tag(self, token: str) -> tuple[Registry | None, str]:
        """Return the registry whose tag a token carries, and the token without the tag.

        The registry is None, and the token unchanged, if it has no tag of this table.
        """
        tag, separator, untagged = token.partition("~")
        owner = self._by_tag.get(tag) if separator else None
        return (owner, untagged) if owner else (None, token)

    def _find_by_ns(self, name: str) -> Registry:
        lower = name.lower()
        # containerd sends the port if the reference has one, and sends our own host if the
        # reference names it.
        row = self._by_name.get(lower.removesuffix(":443")) or self._by_host.get(
            _PORT.sub("", lower)
        )
        if row is None or not name.isascii():  # the Kelvin sign lowers to k
            raise NameUnknown
        return row


def _build_index(
    rows: Sequence[Registry], names: Callable[[Registry], Iterable[str]]
) -> Mapping[str, Registry]:
    index: dict[str, Registry] = {}
    for row in rows:
        for name in sorted(names(row), key=lambda name: (name != row.name, name)):
            if (other := index.setdefault(name, row)) is not row:
                message = (
                    f"registries: two tables are named {name}; remove one"
                    if other.name == row.name
                    else f"registries: {name} stands for both {other.name} and {row.name}; "
                    "remove it from one of the tables"
                )
                raise ValueError(message)
    return index


def _build_address(
    selection: Selection, row: Registry, name: str, requested_name: RepositoryName
) -> RepositoryAddress:
    namespace, slash, _ = name.partition("/")
    if row.name == DOCKER_HUB and slash and "." in namespace:
        # No namespace of Docker Hub has a dot, so this means a registry that is not served.
        raise NameUnknown
    return RepositoryAddress(
        registry=row,
        host_default=selection.host_default,
        ns=selection.ns,
        by_prefix=row is not selection.registry,
        repository=RepositoryName.parse(row.complete_name(name)),
        requested_name=requested_name,
    )


# Public registries that can be served from their name alone.

HUB: Final = Registry(
    name=DOCKER_HUB,
    url="https://registry-1.docker.io",
    token_url="https://auth.docker.io/token",  # noqa: S106 - the address of a service
    token_service="registry.docker.io",  # noqa: S106 - the name of a service
    aliases=DOCKER_HUB_ALIASES,
    library_prefix=True,
)

# Their token services are on their own hosts, so they are discovered from the challenges.
_OTHER_REGISTRIES: Final = (
    "ghcr.io",
    "quay.io",
    "gcr.io",
    "registry.k8s.io",
    "mcr.microsoft.com",
    "public.ecr.aws",
)

WELL_KNOWN: Final[Mapping[str, Registry]] = {
    HUB.name: HUB,
    **{name: Registry(name=name, url=f"https://{name}") for name in _OTHER_REGISTRIES},
}
