"""Every way to address a registry, and what of it reaches the registry."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.errors import NameInvalid, NameUnknown, RegistryError
from app.oci.reference import RepositoryName
from app.oci.scope import Scope
from app.registries import DOCKER_HUB, DOCKER_HUB_ALIASES, Account, Registries, Registry

HUB = Registry(
    name=DOCKER_HUB,
    url="https://hub.example",
    aliases=DOCKER_HUB_ALIASES,
    hosts=frozenset({"hub.proxy.example"}),
    library_prefix=True,
)
GHCR = Registry(
    name="ghcr.io",
    url="https://ghcr.example",
    aliases=frozenset({"github", "gh.example:8443"}),
    hosts=frozenset({"ghcr.proxy.example", "gh.proxy.example"}),
    prefix_login=True,
)
PORTED = Registry(
    name="own.example:5000", url="https://own.example:5000", aliases=frozenset({"own"})
)
COPY = Registry(name="copy.example", url="https://copy.example", library_prefix=True)
OWN = Registry(name="registry.example", url="https://registry.example")

TABLE = Registries([HUB, GHCR, PORTED, COPY])

PROXY = "proxy.example"
HUB_HOST = "hub.proxy.example"
GHCR_HOST = "ghcr.proxy.example"

UNKNOWN = "NAME_UNKNOWN"


Asked = tuple[str] | tuple[str, str | None] | tuple[str, str | None, str]
"""A repository name as a client writes it; `ns`, and the host, where they are not the usual."""


def meant(*asked: str | None, registries: Registries = TABLE) -> str:
    """Return the registry, the repository there and what holds of the way; or the error's code."""
    name, ns, host = [*asked, None, None][:3]
    host = PROXY if host is None else host
    try:
        address = registries.resolve(RepositoryName(name), ns=ns, host=host)
    except RegistryError as error:
        return error.code
    assert address.requested_name == name
    assert address.ns == ns
    ways = {
        "by prefix": address.by_prefix,
        "tagged": address.has_tagged_tokens,
        "no logins": not address.accepts_logins,
    }
    holds = [way for way, does in ways.items() if does]
    return ", ".join([f"{address.registry.name} {address.repository}", *holds])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        # default: `proxy.example/...`
        pytest.param(("library/nginx",), "docker.io library/nginx", id="whole name"),
        pytest.param(("nginx",), "docker.io library/nginx", id="short name"),
        pytest.param(("owner/app",), "docker.io owner/app", id="two components"),
        pytest.param(("a/b/c",), "docker.io a/b/c", id="three components"),
        pytest.param(("library/a/b",), "docker.io library/a/b", id="below library"),
        pytest.param(("manifests/tags",), "docker.io manifests/tags", id="words of the protocol"),
        pytest.param(("my.app",), "docker.io library/my.app", id="a dot in a short name"),
        pytest.param(("owner/my.app",), "docker.io owner/my.app", id="a dot behind the namespace"),
        pytest.param(("docker.io",), "docker.io library/docker.io", id="a name, not a prefix"),
        pytest.param(("ghcr.io",), "docker.io library/ghcr.io", id="another's name, not a prefix"),
        pytest.param(("github",), "docker.io library/github", id="an alias, not a prefix"),
        pytest.param(("owner/ghcr.io",), "docker.io owner/ghcr.io", id="a prefix not in front"),
        pytest.param(("localhost/app",), "docker.io localhost/app", id="looks like a host"),
        pytest.param(("ghcr/owner/app",), "docker.io ghcr/owner/app", id="half of a name"),
        pytest.param(("quay.io/a/b",), UNKNOWN, id="a registry that is not served"),
        pytest.param(("sub.ghcr.io/a/b",), UNKNOWN, id="below one that is"),
        pytest.param(("ghcr.io.evil.example/a",), UNKNOWN, id="begins like one"),
        pytest.param(("own.example/a",), UNKNOWN, id="one without its port"),
        pytest.param(("169.254.169.254/latest/meta-data",), UNKNOWN, id="an address"),
        pytest.param(("proxy.example/a",), UNKNOWN, id="the proxy itself"),
        pytest.param(("ghcr.proxy.example/a",), UNKNOWN, id="a host of ours as prefix"),
        # default, with its own name before it
        pytest.param(("docker.io/library/nginx",), "docker.io library/nginx", id="own prefix"),
        pytest.param(("docker.io/nginx",), "docker.io library/nginx", id="own prefix, short"),
        pytest.param(("index.docker.io/a/b",), "docker.io a/b", id="own prefix, first alias"),
        pytest.param(("registry-1.docker.io/a",), "docker.io library/a", id="own prefix, second"),
        pytest.param(("docker.io/docker.io/x",), UNKNOWN, id="dropped once"),
        pytest.param(("docker.io/quay.io/a",), UNKNOWN, id="own prefix, not served"),
        pytest.param(("docker.io/ghcr.io/a",), UNKNOWN, id="own prefix, another's"),
        pytest.param(("docker.io/index.docker.io",), "docker.io library/index.docker.io", id="two"),
        # prefix: `proxy.example/ghcr.io/...`
        pytest.param(("ghcr.io/owner/app",), "ghcr.io owner/app, by prefix, tagged", id="prefix"),
        pytest.param(("ghcr.io/a/b/c",), "ghcr.io a/b/c, by prefix, tagged", id="prefix, nested"),
        pytest.param(("ghcr.io/app",), "ghcr.io app, by prefix, tagged", id="prefix, no library"),
        pytest.param(("github/a/b",), "ghcr.io a/b, by prefix, tagged", id="prefix, alias"),
        pytest.param(
            ("ghcr.io/ghcr.io/a",), "ghcr.io ghcr.io/a, by prefix, tagged", id="prefix, twice"
        ),
        pytest.param(
            ("ghcr.io/docker.io/a",), "ghcr.io docker.io/a, by prefix, tagged", id="prefix, two"
        ),
        pytest.param(
            ("own/a/b",), "own.example:5000 a/b, by prefix, tagged, no logins", id="alias of a port"
        ),
        pytest.param(
            ("copy.example/nginx",),
            "copy.example library/nginx, by prefix, tagged, no logins",
            id="prefix, with library",
        ),
        # `ns`: `proxy.example/...?ns=ghcr.io`
        pytest.param(("library/nginx", "docker.io"), "docker.io library/nginx", id="ns of default"),
        pytest.param(("nginx", "docker.io"), "docker.io library/nginx", id="ns, short"),
        pytest.param(("a/b", "index.docker.io"), "docker.io a/b", id="ns, alias"),
        pytest.param(("a/b", "registry-1.docker.io"), "docker.io a/b", id="ns, second alias"),
        pytest.param(("a/b", "DOCKER.IO"), "docker.io a/b", id="ns, upper case"),
        pytest.param(("a", "docker.io:443"), "docker.io library/a", id="ns, the default port"),
        pytest.param(("a/b", "index.docker.io:443"), "docker.io a/b", id="ns, alias and port"),
        pytest.param(("owner/app", "ghcr.io"), "ghcr.io owner/app, tagged", id="ns of another"),
        pytest.param(("app", "ghcr.io"), "ghcr.io app, tagged", id="ns, no library"),
        pytest.param(("a/b", "GHCR.io:443"), "ghcr.io a/b, tagged", id="ns, another and port"),
        pytest.param(("a/b", "GitHub"), "ghcr.io a/b, tagged", id="ns, alias of another"),
        pytest.param(("a/b", "gh.example:8443"), "ghcr.io a/b, tagged", id="ns, alias with port"),
        pytest.param(("a", "own.example:5000"), "own.example:5000 a, tagged", id="ns, its port"),
        pytest.param(("nginx", "copy.example"), "copy.example library/nginx, tagged", id="ns, lib"),
        pytest.param(("a/b", "quay.io"), UNKNOWN, id="ns that is not served"),
        pytest.param(("a/b", "own.example"), UNKNOWN, id="ns without the port"),
        pytest.param(("a/b", "own.example:443"), UNKNOWN, id="ns with another port"),
        pytest.param(("a/b", "evil.example:8080"), UNKNOWN, id="unknown ns with a port"),
        pytest.param(("a/b", "evil.example:443"), UNKNOWN, id="unknown ns, the default port"),
        pytest.param(("a/b", "docker.io:80"), UNKNOWN, id="ns, a port of http"),
        pytest.param(("a/b", "docker.io:8443"), UNKNOWN, id="ns, a port that ends so"),
        pytest.param(("a/b", "docker.io:443:443"), UNKNOWN, id="ns, two ports"),
        pytest.param(("a/b", ":443"), UNKNOWN, id="ns, a port alone"),
        pytest.param(("a/b", "https://ghcr.io"), UNKNOWN, id="ns as a URL"),
        pytest.param(("a/b", "http://169.254.169.254/"), UNKNOWN, id="ns as a URL of elsewhere"),
        pytest.param(("a/b", "docker.io.evil.example"), UNKNOWN, id="ns that begins like one"),
        pytest.param(("a/b", GHCR_HOST), "ghcr.io a/b, tagged", id="ns, a host of ours"),
        pytest.param(("a/b", "GHCR.proxy.example:8443"), "ghcr.io a/b, tagged", id="and its port"),
        pytest.param(("a/b", GHCR_HOST, GHCR_HOST), "ghcr.io a/b", id="ns, this host"),
        pytest.param(("nginx", f"{HUB_HOST}:443"), "docker.io library/nginx", id="of the default"),
        pytest.param(("a/b", PROXY), UNKNOWN, id="ns, a host of ours that is no row's"),
        pytest.param(("a/b", " ghcr.io"), UNKNOWN, id="ns after a space"),
        pytest.param(("a/b", "doc\u212aer.io"), UNKNOWN, id="ns, a sign whose lower case is k"),
        pytest.param(("a/b", "ghcr.\uff49o"), UNKNOWN, id="ns, a wide letter"),
        # `ns` and prefix at once (k3s rewrites, BuildKit's mirrors)
        pytest.param(("docker.io/a/b", "docker.io"), "docker.io a/b", id="ns and prefix"),
        pytest.param(("docker.io/quay.io/a", "docker.io"), UNKNOWN, id="both, and not served"),
        pytest.param(("docker.io/docker.io/x", "docker.io"), UNKNOWN, id="both, dropped once"),
        pytest.param(("docker.io/nginx", "docker.io"), "docker.io library/nginx", id="both, short"),
        pytest.param(("index.docker.io/a/b", "docker.io"), "docker.io a/b", id="ns, alias before"),
        pytest.param(("ghcr.io/a/b", "ghcr.io"), "ghcr.io a/b, tagged", id="both of another"),
        pytest.param(("github/a/b", "ghcr.io"), "ghcr.io a/b, tagged", id="both, alias before"),
        pytest.param(("docker.io/a/b", "ghcr.io"), "ghcr.io docker.io/a/b, tagged", id="ns wins"),
        pytest.param(("ghcr.io/a/b", "docker.io"), UNKNOWN, id="ns of the hub, another's prefix"),
        pytest.param(("quay.io/a/b", "docker.io"), UNKNOWN, id="ns of the hub, a dotted name"),
        pytest.param(("docker.io/quay.io/a", "quay.io"), UNKNOWN, id="ns unknown, prefix known"),
        # host: `ghcr.proxy.example/...`
        pytest.param(("a/b", None, GHCR_HOST), "ghcr.io a/b", id="host"),
        pytest.param(("app", None, GHCR_HOST), "ghcr.io app", id="host, no library"),
        pytest.param(("a/b", None, "gh.proxy.example"), "ghcr.io a/b", id="host, the second"),
        pytest.param(("a/b", None, "GHCR.Proxy.Example"), "ghcr.io a/b", id="host, upper case"),
        pytest.param(("ghcr.io/a/b", None, GHCR_HOST), "ghcr.io a/b", id="host and prefix"),
        pytest.param(("github/a/b", None, GHCR_HOST), "ghcr.io a/b", id="host and alias"),
        pytest.param(
            ("docker.io/a/b", None, GHCR_HOST), "ghcr.io docker.io/a/b", id="host, another's prefix"
        ),
        pytest.param(("own/a", None, GHCR_HOST), "ghcr.io own/a", id="host, another's alias"),
        pytest.param(("own/a", None, "GHCR.Proxy.Example"), "ghcr.io own/a", id="and upper case"),
        pytest.param(("nginx", None, HUB_HOST), "docker.io library/nginx", id="host of default"),
        pytest.param(("docker.io/a/b", None, HUB_HOST), "docker.io a/b", id="and its own prefix"),
        pytest.param(("docker.io/x.y/b", None, HUB_HOST), UNKNOWN, id="and a dot behind it"),
        pytest.param(("github/a/b", None, HUB_HOST), "docker.io github/a/b", id="no other prefix"),
        pytest.param(("ghcr.io/a/b", None, HUB_HOST), UNKNOWN, id="no other prefix with a dot"),
        pytest.param(("nginx", None, "x.example"), "docker.io library/nginx", id="unknown host"),
        pytest.param(("nginx", None, ""), "docker.io library/nginx", id="no host"),
        pytest.param(
            ("ghcr.io/a", None, "x.example"),
            "ghcr.io a, by prefix, tagged",
            id="prefix on an unknown host",
        ),
        pytest.param(("a/b", None, "ghcr.io"), "docker.io a/b", id="a registry's name as host"),
        # `ns` on a host of one registry
        pytest.param(("a/b", "docker.io", GHCR_HOST), "docker.io a/b, tagged", id="ns before host"),
        pytest.param(("a/b", "ghcr.io", GHCR_HOST), "ghcr.io a/b", id="ns and host agree"),
        pytest.param(("a/b", "ghcr.io", HUB_HOST), "ghcr.io a/b, tagged", id="ns on default's"),
        pytest.param(("a/b", "quay.io", GHCR_HOST), UNKNOWN, id="unknown ns on a host"),
        pytest.param(("quay.io/a", "docker.io", GHCR_HOST), UNKNOWN, id="ns of the hub on a host"),
        pytest.param(("github/a", "ghcr.io", HUB_HOST), "ghcr.io a, tagged", id="all three"),
    ],
)  # fmt: skip
def test_addresses(asked: Asked, expected: str) -> None:
    """`ns` decides before the host, the host before a prefix; what is not in the table is not."""
    assert meant(*asked) == expected


def test_no_name_begins_with_a_port_or_has_upper_case() -> None:
    """A prefix is part of a repository name, whose grammar the routes check."""
    for asked in ("own.example:5000/a", "GHCR.io/a/b"):
        with pytest.raises(NameInvalid):
            RepositoryName.parse(asked)


@pytest.mark.parametrize(
    ("ns", "host", "row", "tagged"),
    [
        pytest.param(None, PROXY, HUB, [], id="default"),
        pytest.param("ghcr.io", PROXY, GHCR, ["tagged"], id="ns"),
        pytest.param("docker.io", PROXY, HUB, [], id="ns of the default"),
        pytest.param(None, GHCR_HOST, GHCR, [], id="host"),
        pytest.param("github", GHCR_HOST, GHCR, [], id="ns and host agree"),
        pytest.param("index.docker.io", GHCR_HOST, HUB, ["tagged"], id="ns before host"),
        pytest.param("docker.io:443", GHCR_HOST, HUB, ["tagged"], id="ns with the default port"),
        pytest.param("", GHCR_HOST, GHCR, [], id="empty ns"),
    ],
)
def test_select(ns: str | None, host: str, row: Registry, tagged: list[str]) -> None:
    """Requests without a repository follow `ns`, then the host, then the default."""
    selection = TABLE.select(ns=ns, host=host)
    assert selection.registry is row
    assert selection.has_tagged_tokens == bool(tagged)
    assert selection.accepts_logins
    assert not selection.by_prefix


def test_select_what_is_not_served() -> None:
    """No registry stands in for one that is not in the table."""
    with pytest.raises(NameUnknown):
        TABLE.select(ns="quay.io", host=GHCR_HOST)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(("nginx",), "registry.example nginx", id="no library"),
        pytest.param(("quay.io/a/b",), "registry.example quay.io/a/b", id="a dot is like any"),
        pytest.param(("registry.example/a",), "registry.example a", id="its prefix"),
        pytest.param(("a/b", "registry.example"), "registry.example a/b", id="its ns"),
        pytest.param(
            ("docker.io/nginx",),
            "docker.io library/nginx, by prefix, tagged, no logins",
            id="the hub by prefix",
        ),
        pytest.param(("nginx", "docker.io"), "docker.io library/nginx, tagged", id="the hub by ns"),
        pytest.param(("quay.io/a", "docker.io"), UNKNOWN, id="the hub's rule about dots"),
        pytest.param(("docker.io/quay.io/a",), UNKNOWN, id="and by prefix"),
        pytest.param(("nginx", None, HUB_HOST), "docker.io library/nginx", id="the hub by host"),
    ],
)
def test_a_default_that_is_not_docker_hub(asked: Asked, expected: str) -> None:
    """The rules of Docker Hub hold for Docker Hub only."""
    assert meant(*asked, registries=Registries([OWN, HUB])) == expected


@pytest.mark.parametrize("default", ["ghcr.io", "github"])
def test_a_default_that_is_not_the_first(default: str) -> None:
    """It may be named, also by an alias; the others are then as any other."""
    registries = Registries([HUB, GHCR], default)
    assert registries.default is GHCR
    assert meant("a/b", registries=registries) == "ghcr.io a/b"
    told = meant("docker.io/nginx", registries=registries)
    assert told == "docker.io library/nginx, by prefix, tagged, no logins"


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
    assert meant("a" * 247) == "docker.io library/" + "a" * 247
    assert meant("docker.io/b/" + "a" * 253) == "docker.io b/" + "a" * 253


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


@pytest.mark.parametrize(
    ("token", "owner", "untagged"),
    [
        pytest.param("ghcr.io~abc", GHCR, "abc", id="tagged"),
        pytest.param("docker.io~abc", HUB, "abc", id="the default's"),
        pytest.param("own.example+5000~abc", PORTED, "abc", id="a name with a port"),
        pytest.param("ghcr.io~a~b~", GHCR, "a~b~", id="a token with tildes"),
        pytest.param("ghcr.io~docker.io~a", GHCR, "docker.io~a", id="two tags"),
        pytest.param("ghcr.io~", GHCR, "", id="nothing behind it"),
        pytest.param("abc", None, "abc", id="no tag"),
        pytest.param("", None, "", id="nothing"),
        pytest.param("~abc", None, "~abc", id="an empty tag"),
        pytest.param("ghcr.io", None, "ghcr.io", id="a tag alone"),
        pytest.param("quay.io~abc", None, "quay.io~abc", id="nobody's tag"),
        pytest.param("github~abc", None, "github~abc", id="an alias is no tag"),
        pytest.param("own.example:5000~a", None, "own.example:5000~a", id="a colon is no tag"),
        pytest.param("GHCR.io~abc", None, "GHCR.io~abc", id="upper case"),
        pytest.param("a~ghcr.io~b", None, "a~ghcr.io~b", id="a tag not in front"),
    ],
)
def test_tag_owner(token: str, owner: Registry | None, untagged: str) -> None:
    """What stands before the first `~` says whose a token is, if it is a registry's tag."""
    assert TABLE.split_token_tag(token) == (owner, untagged)


@pytest.mark.parametrize(
    ("text", "owners"),
    [
        pytest.param("ghcr.io~abc", {"ghcr.io"}, id="in front"),
        pytest.param("Bearer ghcr.io~abc", {"ghcr.io"}, id="behind a scheme"),
        pytest.param("Bearer\tghcr.io~abc", {"ghcr.io"}, id="behind a tab"),
        pytest.param('Bearer "ghcr.io~abc"', {"ghcr.io"}, id="in quotes"),
        pytest.param("Bearer a,Bearer ghcr.io~b", {"ghcr.io"}, id="in a second line"),
        pytest.param("a~ghcr.io~b", {"ghcr.io"}, id="behind a tilde"),
        pytest.param("token=ghcr.io~b", {"ghcr.io"}, id="behind an equals sign"),
        pytest.param("ghcr.io~docker.io~a", {"ghcr.io", "docker.io"}, id="two"),
        pytest.param("own.example+5000~a", {"own.example:5000"}, id="of a name with a port"),
        pytest.param("ghcr.io~", {"ghcr.io"}, id="nothing behind it"),
        pytest.param("quay.io~abc", {"quay.io"}, id="of a row that is gone"),
        pytest.param("gone.example+5000~a", {"gone.example+5000"}, id="of one with a port"),
        pytest.param("my-ghcr.io~a", {"my-ghcr.io", "ghcr.io"}, id="of one whose name ends so"),
        pytest.param("sub.ghcr.io~a", {"sub.ghcr.io", "ghcr.io"}, id="of one below"),
        pytest.param("Xghcr.io~t", {"ghcr.io"}, id="glued"),
        pytest.param("\u00e4ghcr.io~t", {"ghcr.io"}, id="glued to a letter beyond ASCII"),
        pytest.param("Xquay.io~t", set(), id="of one that is gone, glued"),
        pytest.param("gone~t", set(), id="a name without a dot, of none"),
        pytest.param("abc", set(), id="none"),
        pytest.param("", set(), id="nothing"),
        pytest.param("ghcr.io", set(), id="a name alone"),
        pytest.param("~abc", set(), id="a tilde alone"),
        pytest.param("a~b~c", set(), id="no name of a host"),
        pytest.param("eyJhbGciOi.eyJpc3Mi.c2ln", set(), id="a JWT"),
        pytest.param("github~abc", set(), id="an alias is no tag"),
        pytest.param("GHCR.io~abc", set(), id="upper case is no tag"),
    ],
)
def test_tags_in(text: str, owners: set[str]) -> None:
    """Whose tokens a text holds, wherever, in the table or not any more."""
    assert TABLE.find_token_tags(text) == owners


def test_tags_that_are_no_names_of_hosts() -> None:
    """A row may be called as its operator likes; one that is gone is then not known by it."""
    registries = Registries([HUB, Registry(name="mine", url="u")])
    assert registries.find_token_tags("Bearer x,Bearer mine~t") == {"mine"}
    assert registries.find_token_tags("mines~t min~t") == set()
    assert TABLE.find_token_tags("mine~t") == set()


@given(st.text(), st.sampled_from(" \t,;=~\"'/"), st.sampled_from(TABLE.rows), st.text())
def test_no_tag_is_overlooked(before: str, mark: str, row: Registry, after: str) -> None:
    """Whatever stands around it."""
    assert row.name in TABLE.find_token_tags(f"{before}{mark}{row.token_tag}~{after}")


@pytest.mark.parametrize("text", ["a.", "a-", "a", "a+1", "ghcr.io", "a.a/", "a.a~"])
def test_no_token_takes_long(text: str) -> None:
    """A header of 64 KB is looked through in a moment."""
    began = time.process_time()
    TABLE.find_token_tags(text * (64 * 1024 // len(text)))
    assert time.process_time() - began < 1


@given(st.text(), st.sampled_from(TABLE.rows))
def test_whoever_tags_is_the_owner(token: str, row: Registry) -> None:
    """Whatever is in a token, it comes back whole, as the registry's that gave it."""
    assert TABLE.split_token_tag(f"{row.token_tag}~{token}") == (row, token)


def test_no_tag_ends_a_token_or_a_header() -> None:
    """RFC 6750's b64token allows `+`, and no colon."""
    assert [row.token_tag for row in TABLE.rows] == [
        "docker.io",
        "ghcr.io",
        "own.example+5000",
        "copy.example",
    ]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        pytest.param(
            [HUB, GHCR, Registry(name="ghcr.io", url="https://x.example")],
            "two tables are named ghcr.io; remove one",
            id="one name",
        ),
        pytest.param(
            [HUB, Registry(name="docker.io", url="u", aliases=DOCKER_HUB_ALIASES)],
            "two tables are named docker.io; remove one",
            id="one name, before the aliases that they share",
        ),
        pytest.param(
            [HUB, Registry(name="x.example", url="u", aliases=frozenset({"docker.io"}))],
            "docker.io stands for both docker.io and x.example; remove it from one of the tables",
            id="a name as alias",
        ),
        pytest.param(
            [GHCR, Registry(name="x.example", url="u", aliases=frozenset({"github"}))],
            "github stands for both ghcr.io and x.example; remove it from one of the tables",
            id="one alias",
        ),
        pytest.param(
            [GHCR, Registry(name="x.example", url="u", hosts=frozenset({GHCR_HOST}))],
            "ghcr.proxy.example stands for both ghcr.io and x.example; "
            "remove it from one of the tables",
            id="one host",
        ),
    ],
)
def test_what_is_ambiguous_is_refused(rows: list[Registry], told: str) -> None:
    """Two rows with one name, alias or host: nobody could say which is meant."""
    with pytest.raises(ValueError, match=f"^registries: {re.escape(told)}$"):
        Registries(rows)


def test_a_default_that_is_not_in_the_table() -> None:
    """It is told by its name."""
    with pytest.raises(ValueError, match=r"^default: no registry .* is named quay\.io$"):
        Registries([HUB, GHCR], "quay.io")


def test_the_same_word_as_name_and_as_host() -> None:
    """A name says what is asked for, a host where: they are never mixed up."""
    row = Registry(name=GHCR_HOST, url="https://x.example")
    registries = Registries([HUB, GHCR, row])
    assert meant("a/b", None, GHCR_HOST, registries=registries) == "ghcr.io a/b"
    assert meant("a/b", GHCR_HOST, registries=registries) == f"{GHCR_HOST} a/b, tagged"


def test_hosts() -> None:
    """Every host of ours that stands for one registry is known."""
    assert TABLE.hosts == {HUB_HOST, GHCR_HOST, "gh.proxy.example"}


def test_an_account_does_not_tell_its_password() -> None:
    """Not in its own repr, nor in that of its row."""
    row = Registry(name="r", url="u", managed=True, account=Account("me", "s3cr3t"))
    assert "s3cr3t" not in f"{row} {row!r} {row.account} {row.account!r}"
    assert "me" in repr(row.account)


def test_a_name_that_is_the_end_of_another() -> None:
    """Each has its own tokens, and the longer one's are not the shorter one's as well."""
    rows = [Registry(name=name, url=f"https://{name}") for name in ("ghcr.io", "my-ghcr.io")]
    table = Registries(rows)
    assert table.find_token_tags("Bearer my-ghcr.io~t") == {"my-ghcr.io"}
    assert table.find_token_tags("Bearer ghcr.io~t") == {"ghcr.io"}
