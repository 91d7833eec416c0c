"""Every way to address a registry, and what of it reaches the registry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.errors import NameInvalid, NameUnknown, RegistryError
from app.oci.reference import RepositoryName
from app.oci.scope import Scope
from app.registries import DOCKER_HUB, DOCKER_HUB_ALIASES, Registries, Registry

HUB = Registry(
    name=DOCKER_HUB,
    url="https://hub.example",
    aliases=DOCKER_HUB_ALIASES,
    library_prefix=True,
)
GHCR = Registry(
    name="ghcr.io",
    url="https://ghcr.example",
    aliases=frozenset({"github"}),
    hosts=frozenset({"ghcr.proxy.example"}),
)
OWN = Registry(name="registry.example", url="https://registry.example")

TABLE = Registries([HUB, GHCR])


def resolved(
    registries: Registries, asked: str, ns: str | None = None, host: str = "proxy.example"
) -> tuple[str, str]:
    """Return the registry's name and the repository there."""
    address = registries.resolve(RepositoryName(asked), ns=ns, host=host)
    assert address.asked == asked
    assert address.ns == ns
    return address.registry.name, address.repository


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param("library/nginx", "library/nginx", id="whole name"),
        pytest.param("nginx", "library/nginx", id="short name"),
        pytest.param("owner/app", "owner/app", id="two components"),
        pytest.param("a/b/c", "a/b/c", id="three components"),
        pytest.param("docker.io/library/nginx", "library/nginx", id="prefix"),
        pytest.param("docker.io/nginx", "library/nginx", id="prefix and short name"),
        pytest.param("index.docker.io/owner/app", "owner/app", id="prefix, first alias"),
        pytest.param("registry-1.docker.io/nginx", "library/nginx", id="prefix, second alias"),
        pytest.param("docker.io", "library/docker.io", id="a name, not a prefix"),
        pytest.param("owner/docker.io", "owner/docker.io", id="not in front"),
        pytest.param("docker.io/docker.io/app", "docker.io/app", id="dropped once"),
        pytest.param("manifests/tags", "manifests/tags", id="words of the protocol"),
        pytest.param("my.app", "library/my.app", id="a dot in a short name"),
        pytest.param("owner/my.app", "owner/my.app", id="a dot behind the namespace"),
    ],
)
def test_default(asked: str, expected: str) -> None:
    """Without `ns` and host it is Docker Hub, whose official images have short names."""
    assert resolved(TABLE, asked) == ("docker.io", expected)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param("ghcr.io/owner/app", "owner/app", id="name"),
        pytest.param("ghcr.io/app", "app", id="one component gets no library"),
        pytest.param("github/owner/app", "owner/app", id="alias"),
    ],
)
def test_prefix(asked: str, expected: str) -> None:
    """A first component that names a registry of the table selects it."""
    assert resolved(TABLE, asked) == ("ghcr.io", expected)


@pytest.mark.parametrize(
    ("asked", "ns", "expected"),
    [
        pytest.param("library/nginx", "docker.io", ("docker.io", "library/nginx"), id="hub"),
        pytest.param("nginx", "docker.io", ("docker.io", "library/nginx"), id="hub, short"),
        pytest.param("a/b", "index.docker.io", ("docker.io", "a/b"), id="alias"),
        pytest.param("a/b", "registry-1.docker.io", ("docker.io", "a/b"), id="second alias"),
        pytest.param("a/b", "DOCKER.IO", ("docker.io", "a/b"), id="upper case"),
        pytest.param("a", "docker.io:443", ("docker.io", "library/a"), id="the default port"),
        pytest.param("a/b", "index.docker.io:443", ("docker.io", "a/b"), id="alias and port"),
        pytest.param("a/b", "GHCR.io:443", ("ghcr.io", "a/b"), id="another and port"),
        pytest.param("owner/app", "ghcr.io", ("ghcr.io", "owner/app"), id="another"),
        pytest.param("app", "ghcr.io", ("ghcr.io", "app"), id="another, one component"),
        pytest.param("docker.io/a/b", "docker.io", ("docker.io", "a/b"), id="with its prefix"),
        pytest.param("docker.io/nginx", "docker.io", ("docker.io", "library/nginx"), id="short"),
        pytest.param("index.docker.io/a/b", "docker.io", ("docker.io", "a/b"), id="its alias"),
        pytest.param("ghcr.io/a/b", "ghcr.io", ("ghcr.io", "a/b"), id="another with its prefix"),
        pytest.param("docker.io/a/b", "ghcr.io", ("ghcr.io", "docker.io/a/b"), id="ns wins"),
    ],
)
def test_ns(asked: str, ns: str, expected: tuple[str, str]) -> None:
    """`ns` decides; a prefix that names the same registry once more is dropped (k3s, BuildKit)."""
    assert resolved(TABLE, asked, ns=ns) == expected


@pytest.mark.parametrize(
    ("asked", "ns", "host", "expected"),
    [
        pytest.param("a/b", None, "ghcr.proxy.example", ("ghcr.io", "a/b"), id="host"),
        pytest.param("a/b", None, "GHCR.Proxy.Example", ("ghcr.io", "a/b"), id="case"),
        pytest.param("ghcr.io/a/b", None, "ghcr.proxy.example", ("ghcr.io", "a/b"), id="prefix"),
        pytest.param("a/b", "docker.io", "ghcr.proxy.example", ("docker.io", "a/b"), id="ns wins"),
        pytest.param("a/b", None, "elsewhere.example", ("docker.io", "a/b"), id="unknown host"),
        pytest.param("a/b", None, "", ("docker.io", "a/b"), id="no host"),
    ],
)
def test_host(asked: str, ns: str | None, host: str, expected: tuple[str, str]) -> None:
    """A host of the table selects its registry; an unknown one means the default."""
    assert resolved(TABLE, asked, ns=ns, host=host) == expected


@pytest.mark.parametrize(
    ("asked", "ns"),
    [
        pytest.param("a/b", "quay.io", id="unknown ns"),
        pytest.param("a/b", "evil.example:8080", id="ns with a port"),
        pytest.param("a/b", "evil.example:443", id="unknown ns with the default port"),
        pytest.param("a/b", "docker.io:80", id="another port"),
        pytest.param("a/b", "docker.io:8443", id="a port that ends so"),
        pytest.param("a/b", "docker.io:443:443", id="two ports"),
        pytest.param("a/b", ":443", id="a port alone"),
        pytest.param("a/b", "http://169.254.169.254/", id="ns as a URL"),
        pytest.param("a/b", "docker.io.evil.example", id="ns that begins like one"),
        pytest.param("quay.io/a/b", None, id="unknown dotted prefix"),
        pytest.param("169.254.169.254/a", None, id="an address as prefix"),
        pytest.param("docker.io/quay.io/a", "quay.io", id="ns unknown, prefix known"),
    ],
)
def test_closed_world(asked: str, ns: str | None) -> None:
    """What is not in the table does not exist: nothing that a client sends is dialled."""
    with pytest.raises(NameUnknown):
        TABLE.resolve(RepositoryName(asked), ns=ns, host="proxy.example")


def test_select() -> None:
    """Requests without a repository follow `ns`, then the host, then the default."""
    for ns, host, row in (
        (None, "proxy.example", HUB),
        ("ghcr.io", "proxy.example", GHCR),
        (None, "ghcr.proxy.example", GHCR),
        ("index.docker.io", "ghcr.proxy.example", HUB),
        ("docker.io:443", "ghcr.proxy.example", HUB),
    ):
        assert TABLE.select(ns=ns, host=host).registry is row
    with pytest.raises(NameUnknown):
        TABLE.select(ns="quay.io", host="ghcr.proxy.example")


@pytest.mark.parametrize(
    ("asked", "ns", "expected"),
    [
        pytest.param("nginx", None, "nginx", id="no library"),
        pytest.param("quay.io/a/b", None, "quay.io/a/b", id="a dot is a namespace like any"),
        pytest.param("registry.example/a", None, "a", id="its prefix"),
        pytest.param("a/b", "registry.example", "a/b", id="its ns"),
    ],
)
def test_a_default_that_is_not_docker_hub(asked: str, ns: str | None, expected: str) -> None:
    """The rules of Docker Hub hold for Docker Hub only."""
    assert resolved(Registries([OWN]), asked, ns=ns) == ("registry.example", expected)


@pytest.mark.parametrize(
    ("asked", "ns"),
    [
        pytest.param("a" * 256, None, id="too long"),
        pytest.param("a" * 248, None, id="too long with library"),
        pytest.param("docker.io/" + "a" * 248, None, id="too long without its prefix"),
        pytest.param("docker.io/" + "b/" + "a" * 254, "docker.io", id="too long with ns"),
    ],
)
def test_too_long(asked: str, ns: str | None) -> None:
    """The length that counts is that of the complete name at the registry."""
    with pytest.raises(NameInvalid):
        TABLE.resolve(RepositoryName(asked), ns=ns, host="proxy.example")


def test_as_long_as_may_be() -> None:
    """255 characters are a name, `library/` counted and a prefix not."""
    assert resolved(TABLE, "a" * 247) == ("docker.io", "library/" + "a" * 247)
    assert resolved(TABLE, "docker.io/b/" + "a" * 253) == ("docker.io", "b/" + "a" * 253)


@pytest.mark.parametrize(
    ("asked", "scope", "expected"),
    [
        pytest.param("nginx", "library/nginx", "nginx", id="short"),
        pytest.param("docker.io/nginx", "library/nginx", "docker.io/nginx", id="prefix"),
        pytest.param("library/nginx", "library/nginx", "library/nginx", id="whole"),
        pytest.param("ghcr.io/a/b", "a/b", "ghcr.io/a/b", id="another registry"),
        pytest.param("nginx", "library/other", "library/other", id="another repository"),
    ],
)
def test_scope_for_client(asked: str, scope: str, expected: str) -> None:
    """A challenge names the repository as the client did, and others as the registry does."""
    address = TABLE.resolve(RepositoryName(asked), ns=None, host="proxy.example")
    told = address.scope_for_client(Scope("repository", scope, "pull"))
    assert str(told) == f"repository:{expected}:pull"


@given(
    st.from_regex(r"[a-z0-9]+([.-][a-z0-9]+)?(/[a-z0-9]+([._-][a-z0-9]+)?){0,3}", fullmatch=True),
    st.none() | st.text(max_size=20) | st.sampled_from(["docker.io", "ghcr.io"]),
    st.text(max_size=20),
)
def test_only_rows_of_the_table_come_out(asked: str, ns: str | None, host: str) -> None:
    """Whatever a client sends, the answer is a row and a valid name there, or an error."""
    try:
        address = TABLE.resolve(RepositoryName(asked), ns=ns, host=host)
    except RegistryError:
        return
    assert address.registry in TABLE.rows
    assert RepositoryName.parse(address.repository) == address.repository
    assert asked.endswith(address.repository.removeprefix("library/"))
