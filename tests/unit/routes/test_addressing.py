"""A registry's words in the client's naming, by every way to address it."""

from collections.abc import Callable

import pytest

from app.oci.challenge import Challenge
from tests.unit.routes.conftest import Proxy

BASIC = Challenge("Basic", {"realm": "Registry"})
REFUSED = b'{"errors":[{"code":"UNAUTHORIZED"}]}'

DEFAULT = "proxy.example/v2/nginx/tags/list"
PREFIX = "proxy.example/v2/ghcr.io/a/b/tags/list"
ALIAS = "proxy.example/v2/github/a/b/tags/list"
NS = "proxy.example/v2/a/b/tags/list?ns=ghcr.io"
HOST = "own.proxy.example/v2/a/b/tags/list"
TRUSTED = "proxy.example/v2/trusted.example/a/b/tags/list"


def bearer(scope: str | None = "repository:a/b:pull") -> Challenge:
    """Return a registry's challenge, for a scope or for none."""
    parameters = {"realm": "https://auth.example/token", "service": "s"}
    return Challenge("Bearer", parameters if scope is None else {**parameters, "scope": scope})


def told(proxy: Proxy, url: str, *challenges: Challenge) -> list[str]:
    """Return the challenges that a client gets when every registry answers with these."""
    for source in proxy.sources.values():
        source.answers(REFUSED, status=401, challenges=challenges)
    return proxy.ask(url).headers.getlist("WWW-Authenticate")


def challenge(realm: str, scope: str | None) -> str:
    """Return a challenge as the client gets it."""
    scoped = "" if scope is None else f',scope="{scope}"'
    return f'Bearer realm="http://{realm}",service="s"{scoped}'


@pytest.mark.parametrize(
    ("url", "scope", "expected"),
    [
        pytest.param(DEFAULT, "repository:library/nginx:pull", "repository:nginx:pull", id="short"),
        pytest.param(DEFAULT, None, None, id="default, no scope"),
        pytest.param(DEFAULT, "aws", "aws", id="default, no scope of a repository"),
        pytest.param(PREFIX, "repository:a/b:pull", "repository:ghcr.io/a/b:pull", id="prefix"),
        pytest.param(ALIAS, "repository:a/b:pull", "repository:github/a/b:pull", id="alias"),
        pytest.param(PREFIX, None, "repository:ghcr.io/a/b:pull", id="prefix, no scope"),
        pytest.param(PREFIX, "", "repository:ghcr.io/a/b:pull", id="prefix, an empty scope"),
        pytest.param(
            "proxy.example/v2/public.ecr.aws/a/b/tags/list",
            "aws",
            "repository:public.ecr.aws/a/b:pull aws",
            id="prefix, no scope of a repository (public.ecr.aws)",
        ),
        pytest.param(
            PREFIX,
            "repository:a/b:pull,push",
            "repository:ghcr.io/a/b:pull repository:ghcr.io/a/b:pull,push",
            id="prefix, more than pull",
        ),
        pytest.param(
            PREFIX,
            "registry:catalog:* repository:a/b:pull",
            "repository:ghcr.io/a/b:pull registry:catalog:*",
            id="prefix, ours comes first and once",
        ),
        pytest.param(
            PREFIX,
            "repository:other/c:pull",
            "repository:ghcr.io/a/b:pull repository:other/c:pull",
            id="prefix, another repository",
        ),
    ],
)
def test_scopes(proxy: Proxy, url: str, scope: str | None, expected: str | None) -> None:
    """A token is asked for in the client's naming; by prefix, only a scope tells the registry."""
    assert told(proxy, url, bearer(scope)) == [challenge("proxy.example/auth/token", expected)]


@pytest.mark.parametrize(
    ("url", "realm"),
    [
        pytest.param(DEFAULT, "proxy.example/auth/token", id="default"),
        pytest.param(PREFIX, "proxy.example/auth/token", id="prefix"),
        pytest.param(NS, "proxy.example/auth/token?ns=ghcr.io", id="ns"),
        pytest.param(
            "proxy.example/v2/a/b/tags/list?ns=GitHub:443",
            "proxy.example/auth/token?ns=ghcr.io",
            id="ns, as the registry is called",
        ),
        pytest.param(
            "proxy.example/v2/a/b/tags/list?ns=docker.io",
            "proxy.example/auth/token?ns=docker.io",
            id="ns of the default",
        ),
        pytest.param(
            "proxy.example/v2/ghcr.io/a/b/tags/list?ns=ghcr.io",
            "proxy.example/auth/token?ns=ghcr.io",
            id="ns and prefix",
        ),
        pytest.param(HOST, "own.proxy.example/auth/token", id="host"),
        pytest.param(
            "own.proxy.example:8443/v2/a/b/tags/list",
            "own.proxy.example:8443/auth/token",
            id="host with a port",
        ),
        pytest.param(
            "own.proxy.example/v2/a/b/tags/list?ns=ghcr.io",
            "own.proxy.example/auth/token?ns=ghcr.io",
            id="ns on a host",
        ),
        pytest.param("proxy.example/v2/", "proxy.example/auth/token", id="ping"),
        pytest.param(
            "proxy.example/v2/?ns=ghcr.io", "proxy.example/auth/token?ns=ghcr.io", id="ping, ns"
        ),
        pytest.param("own.proxy.example/v2/", "own.proxy.example/auth/token", id="ping, host"),
    ],
)
def test_realms(proxy: Proxy, url: str, realm: str) -> None:
    """Token requests carry no `ns`, so the realm does; a host stays the host that it is."""
    (only,) = told(proxy, url, bearer(None))
    assert only.startswith(f'Bearer realm="http://{realm}",service="s"')


@pytest.mark.parametrize(
    ("url", "realm"),
    [
        pytest.param(DEFAULT, "https://public.example/docxy/auth/token", id="default"),
        pytest.param(PREFIX, "https://public.example/docxy/auth/token", id="prefix"),
        pytest.param(NS, "https://public.example/docxy/auth/token?ns=ghcr.io", id="ns"),
        pytest.param(
            "unknown.example/v2/nginx/tags/list",
            "https://public.example/docxy/auth/token",
            id="unknown host",
        ),
        pytest.param(HOST, "https://own.proxy.example/auth/token", id="host"),
        pytest.param(
            "own.proxy.example:8443/v2/a/b/tags/list",
            "https://own.proxy.example:8443/auth/token",
            id="host with a port",
        ),
        pytest.param(
            "own.proxy.example/v2/a/b/tags/list?ns=ghcr.io",
            "https://own.proxy.example/auth/token?ns=ghcr.io",
            id="ns on a host",
        ),
    ],
)
def test_realms_with_a_public_url(serving: Callable[..., Proxy], url: str, realm: str) -> None:
    """It is one URL; a host that stands for one registry would be another registry there."""
    proxy = serving(public_url="https://public.example/docxy")
    (only,) = told(proxy, url, bearer(None))
    assert only.startswith(f'Bearer realm="{realm}",')


@pytest.mark.parametrize(
    ("url", "challenges", "expected"),
    [
        pytest.param(DEFAULT, [BASIC], ["Basic"], id="default"),
        pytest.param(DEFAULT, [BASIC, bearer()], ["Basic", "Bearer"], id="default, either"),
        pytest.param(NS, [BASIC, bearer()], ["Basic", "Bearer"], id="ns, either"),
        pytest.param(HOST, [bearer(), BASIC], ["Bearer", "Basic"], id="host, either"),
        pytest.param(TRUSTED, [BASIC, bearer()], ["Basic", "Bearer"], id="prefix_login, either"),
        pytest.param(TRUSTED, [BASIC], ["Basic"], id="prefix_login"),
        pytest.param(PREFIX, [BASIC, bearer()], ["Bearer"], id="prefix, either"),
        pytest.param(ALIAS, [bearer(), BASIC], ["Bearer"], id="alias, either"),
    ],
)
def test_challenges_that_can_be_met(
    proxy: Proxy, url: str, challenges: list[Challenge], expected: list[str]
) -> None:
    """By prefix a password is nobody's, and so none is asked for."""
    found = told(proxy, url, *challenges)
    assert [text.split()[0] for text in found] == expected
    if "Basic" in expected:
        assert 'Basic realm="Registry"' in found


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("url", [PREFIX, ALIAS])
def test_a_login_that_goes_nowhere_is_not_asked_for(proxy: Proxy, url: str, method: str) -> None:
    """403 in place of a 401 that no client could answer; what the registry said stays."""
    proxy.sources["ghcr.io"].answers(REFUSED, status=401, challenges=[BASIC])
    answer = proxy.ask(url, method)
    assert answer.status_code == 403
    assert "WWW-Authenticate" not in answer.headers
    assert answer.data == (REFUSED if method == "GET" else b"")
    assert proxy.sources["ghcr.io"].closed == 1


@pytest.mark.parametrize(
    ("url", "query", "link"),
    [
        pytest.param(DEFAULT, "last=b", "/v2/nginx/tags/list?last=b", id="default"),
        pytest.param(PREFIX, "last=b", "/v2/ghcr.io/a/b/tags/list?last=b", id="prefix"),
        pytest.param(ALIAS, "n=1&last=b", "/v2/github/a/b/tags/list?n=1&last=b", id="alias"),
        pytest.param(NS, "last=b", "/v2/a/b/tags/list?last=b&ns=ghcr.io", id="ns"),
        pytest.param(NS, "", "/v2/a/b/tags/list?ns=ghcr.io", id="ns alone"),
        pytest.param(
            "proxy.example/v2/a/b/tags/list?ns=GHCR.io:443",
            "last=b",
            "/v2/a/b/tags/list?last=b&ns=GHCR.io%3A443",
            id="ns, as it was asked",
        ),
        pytest.param(
            "proxy.example/v2/ghcr.io/a/b/tags/list?ns=ghcr.io",
            "last=b",
            "/v2/ghcr.io/a/b/tags/list?last=b&ns=ghcr.io",
            id="ns and prefix",
        ),
        pytest.param(HOST, "last=b", "/v2/a/b/tags/list?last=b", id="host"),
    ],
)
def test_the_next_page(proxy: Proxy, url: str, query: str, link: str) -> None:
    """It is asked for as the first was: of the same registry, by the same way."""
    for source in proxy.sources.values():
        source.answers(b"{}", next_query=query)
    assert proxy.ask(url).headers.getlist("Link") == [f'<{link}>; rel="next"']
    ((name, _),) = proxy.asked.items()
    host = url.partition("/")[0]
    proxy.ask(f"{host}{link}")
    ((again, call),) = proxy.asked.items()
    assert again == name
    assert call.request.query == query


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        pytest.param("ns=quay.io&last=b", "last=b", id="in front"),
        pytest.param("last=b&ns=quay.io", "last=b", id="behind"),
        pytest.param("n=1&ns=quay.io&last=b&ns=x", "n=1&last=b", id="between, and twice"),
        pytest.param("%6Es=quay.io&last=b", "last=b", id="encoded"),
        pytest.param("ns&last=b", "last=b", id="without a value"),
        pytest.param("ns=quay.io", "", id="nothing else"),
        pytest.param("nsx=1&last=ns=b&xns=2", "nsx=1&last=ns=b&xns=2", id="what only looks so"),
        pytest.param("last=a%26ns=b", "last=a%26ns=b", id="as it is written"),
    ],
)
@pytest.mark.parametrize("url", [DEFAULT, PREFIX, NS])
def test_the_next_page_is_of_the_same_registry(
    proxy: Proxy, url: str, query: str, kept: str
) -> None:
    """An `ns` in the registry's own Link would lead the client to another one."""
    for source in proxy.sources.values():
        source.answers(b"{}", next_query=query)
    path = url.removeprefix("proxy.example").partition("?")[0]
    expected = "&".join(filter(None, [kept, "ns=ghcr.io" if url == NS else ""]))
    assert proxy.ask(url).headers["Link"] == f'<{path}?{expected}>; rel="next"'


@pytest.mark.parametrize(
    ("url", "link"),
    [
        pytest.param(NS, "/docxy/v2/a/b/tags/list?last=b&ns=ghcr.io", id="below a path"),
        pytest.param(HOST, "/v2/a/b/tags/list?last=b", id="a host is at the top"),
    ],
)
def test_the_next_page_with_a_public_url(
    serving: Callable[..., Proxy], url: str, link: str
) -> None:
    """The path is that of the URL which clients use."""
    proxy = serving(public_url="https://public.example/docxy")
    for source in proxy.sources.values():
        source.answers(b"{}", next_query="last=b")
    assert proxy.ask(url).headers["Link"] == f'<{link}>; rel="next"'


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param(NS, ["ghcr.io"], id="ns"),
        pytest.param("proxy.example/v2/a/b/tags/list?ns=GHCR.io:443", ["GHCR.io:443"], id="as is"),
        pytest.param("proxy.example/v2/?ns=docker.io", ["docker.io"], id="ping"),
        pytest.param("proxy.example/auth/token?ns=docker.io", ["docker.io"], id="token"),
        pytest.param("own.proxy.example/v2/a/b/tags/list?ns=docker.io", ["docker.io"], id="host"),
        pytest.param("proxy.example/v2/a/b/tags/list?ns=", [], id="empty ns"),
        pytest.param(DEFAULT, [], id="default"),
        pytest.param(PREFIX, [], id="prefix"),
        pytest.param(HOST, [], id="a host alone"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_namespace_is_told(proxy: Proxy, method: str, url: str, expected: list[str]) -> None:
    """Who asks by `ns` is told that it was heard (OCI distribution-spec, "Registry Proxying")."""
    for source in proxy.sources.values():
        source.answers(b"{}", headers=[("OCI-Namespace", "upstream.example")] if expected else [])
    assert proxy.ask(url, method).headers.getlist("OCI-Namespace") == expected


@pytest.mark.parametrize("ns", ["doc%E2%84%AAer.io", "%C7%B0hcr.io", "ghcr.io%C2%A0"])
def test_a_namespace_that_no_header_can_hold(proxy: Proxy, ns: str) -> None:
    """U+212A is a k in lower case: only ASCII names a registry, and an answer can be sent."""
    answer = proxy.ask(f"proxy.example/v2/a/b/tags/list?ns={ns}")
    assert answer.status_code == 404
    assert answer.get_json()["errors"][0]["code"] == "NAME_UNKNOWN"
    assert all(text.isascii() for _, text in answer.headers)
    assert proxy.asked == {}
