"""Whose credentials go up: each registry's own, by every way to address it, and nobody else's."""

import json
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.oci.errors import Unauthorized, UpstreamMisbehaved
from app.oci.headers import get_all, get_first
from app.registries import Registry
from app.routes import credentials
from app.routes.addressing import resolve_registry
from app.routes.context import begin, get_context
from app.source import BodyBroken, Reply, build_reply
from tests.unit.routes.conftest import ROWS, Proxy

HUB, GHCR, OWN, TRUSTED, MANAGED, ECR = ROWS

DIGEST = "sha256:" + "0123456789abcdef" * 4
PATHS = ["manifests/latest", f"manifests/{DIGEST}", f"blobs/{DIGEST}", "tags/list",
         f"referrers/{DIGEST}"]  # fmt: skip

WAYS = {
    "default": "proxy.example/v2/a/b/{}",
    "own prefix": "proxy.example/v2/docker.io/a/b/{}",
    "own ns": "proxy.example/v2/a/b/{}?ns=docker.io",
    "prefix": "proxy.example/v2/ghcr.io/a/b/{}",
    "alias": "proxy.example/v2/github/a/b/{}",
    "ns": "proxy.example/v2/a/b/{}?ns=ghcr.io",
    "both": "proxy.example/v2/ghcr.io/a/b/{}?ns=GHCR.io:443",
    "host": "own.proxy.example/v2/a/b/{}",
    "host, port": "own.proxy.example:8443/v2/a/b/{}",
    "host, prefix": "own.proxy.example/v2/own/a/b/{}",
    "prefix, port": "proxy.example/v2/own/a/b/{}",
    "ns, port": "proxy.example/v2/a/b/{}?ns=own.example:5000",
    "ns on a host": "own.proxy.example/v2/a/b/{}?ns=docker.io",
    "ns of the host": "own.proxy.example/v2/a/b/{}?ns=own.example:5000",
    "trusted prefix": "proxy.example/v2/trusted.example/a/b/{}",
    "managed prefix": "proxy.example/v2/managed.example/a/b/{}",
    "managed ns": "proxy.example/v2/a/b/{}?ns=managed.example",
}

BASIC = "Basic YWxpY2U6cHc="


def passed(proxy: Proxy, way: str, authorization: str, path: str = "manifests/latest") -> str:
    """Return whom a request reached with what Authorization; or the status of its refusal."""
    answer = proxy.ask(WAYS[way].format(path), authorization=authorization)
    if not proxy.asked:
        return str(answer.status_code)
    ((name, call),) = proxy.asked.items()
    assert call.name == "a/b"
    return f"{name}: {get_first(call.request.headers, 'authorization') or 'nothing'}"


@pytest.mark.parametrize(
    ("way", "authorization", "expected"),
    [
        # tokens
        pytest.param("default", "Bearer t", "docker.io: Bearer t", id="untagged"),
        pytest.param("default", "bEaReR t", "docker.io: bEaReR t", id="untagged, as it is written"),
        pytest.param("default", "Bearer a~b", "docker.io: Bearer a~b", id="a token with a tilde"),
        pytest.param("default", "Bearer quay.io~t", "401", id="of a row that is gone"),
        pytest.param("default", "Bearer docker.io~ghcr.io~t", "401", id="own tag, foreign inside"),
        pytest.param("default", "Bearer t~ghcr.io~u", "401", id="a foreign tag behind a token"),
        pytest.param("default", "Bearer docker.io~t", "docker.io: Bearer t", id="own tag"),
        pytest.param("default", "Bearer ghcr.io~t", "401", id="a foreign tag"),
        pytest.param("default", "bearer ghcr.io~t", "401", id="a foreign tag, lower case"),
        pytest.param("default", "Bearer own.example+5000~t", "401", id="a foreign tag of a port"),
        pytest.param("default", "Bearer managed.example~t", "401", id="a managed one's tag"),
        pytest.param("own prefix", "Bearer t", "docker.io: Bearer t", id="own prefix, untagged"),
        pytest.param("own prefix", "Bearer ghcr.io~t", "401", id="own prefix, foreign"),
        pytest.param("own ns", "Bearer t", "docker.io: Bearer t", id="own ns, untagged"),
        pytest.param("own ns", "Bearer ghcr.io~t", "401", id="own ns, foreign"),
        pytest.param("prefix", "Bearer ghcr.io~t", "ghcr.io: Bearer t", id="prefix, own tag"),
        pytest.param("prefix", "bearer ghcr.io~t", "ghcr.io: bearer t", id="prefix, lower case"),
        pytest.param("prefix", "Bearer ghcr.io~a~b=", "ghcr.io: Bearer a~b=", id="prefix, tildes"),
        pytest.param("prefix", "Bearer ghcr.io~docker.io~t", "401", id="prefix, foreign inside"),
        pytest.param("prefix", "Bearer ghcr.io~gone.example~t", "401", id="prefix, gone inside"),
        pytest.param("prefix", "Bearer ghcr.io~ghcr.io~t", "ghcr.io: Bearer ghcr.io~t",
                     id="prefix, one tag is taken off"),
        pytest.param("prefix", "Bearer t", "401", id="prefix, the default's untagged token"),
        pytest.param("prefix", "Bearer docker.io~t", "401", id="prefix, the default's tag"),
        pytest.param("prefix", "Bearer trusted.example~t", "401", id="prefix, another's"),
        pytest.param("prefix", "Bearer quay.io~t", "401", id="prefix, nobody's"),
        pytest.param("prefix", "Bearer ghcr.io~", "401", id="prefix, a tag alone"),
        pytest.param("prefix", "Bearer ghcr.io", "401", id="prefix, a name alone"),
        pytest.param("prefix", "Bearer", "401", id="prefix, no token"),
        pytest.param("prefix", "Bearer github~t", "401", id="prefix, an alias is no tag"),
        pytest.param("prefix", "Bearer GHCR.IO~t", "401", id="prefix, upper case is no tag"),
        pytest.param("prefix", "Bearer ghcr.io~a b", "401", id="prefix, a space"),
        pytest.param("prefix", "Bearer  ghcr.io~t", "401", id="prefix, two spaces"),
        pytest.param("alias", "Bearer ghcr.io~t", "ghcr.io: Bearer t", id="alias, own tag"),
        pytest.param("alias", "Bearer t", "401", id="alias, untagged"),
        pytest.param("ns", "Bearer ghcr.io~t", "ghcr.io: Bearer t", id="ns, own tag"),
        pytest.param("ns", "Bearer t", "401", id="ns, untagged"),
        pytest.param("ns", "Bearer docker.io~t", "401", id="ns, foreign"),
        pytest.param("both", "Bearer ghcr.io~t", "ghcr.io: Bearer t", id="ns and prefix, own tag"),
        pytest.param("both", "Bearer t", "401", id="ns and prefix, untagged"),
        pytest.param("host", "Bearer t", "own.example:5000: Bearer t", id="host, untagged"),
        pytest.param("host, port", "Bearer t", "own.example:5000: Bearer t", id="host with port"),
        pytest.param("host, prefix", "Bearer t", "own.example:5000: Bearer t", id="host, prefix"),
        pytest.param("host", "Bearer own.example+5000~t", "own.example:5000: Bearer t",
                     id="host, own tag"),
        pytest.param("host", "Bearer docker.io~t", "401", id="host, foreign"),
        pytest.param("prefix, port", "Bearer own.example+5000~t", "own.example:5000: Bearer t",
                     id="the tag of a name with a port"),
        pytest.param("prefix, port", "Bearer own.example:5000~t", "401", id="a colon is no tag"),
        pytest.param("ns, port", "Bearer own.example+5000~t", "own.example:5000: Bearer t",
                     id="ns with a port"),
        pytest.param("ns on a host", "Bearer docker.io~t", "docker.io: Bearer t",
                     id="the default's, on another's host: own tag"),
        pytest.param("ns on a host", "Bearer t", "401", id="on another's host: untagged"),
        pytest.param("ns of the host", "Bearer t", "own.example:5000: Bearer t",
                     id="ns and host agree: untagged"),
        pytest.param("trusted prefix", "Bearer trusted.example~t", "trusted.example: Bearer t",
                     id="prefix_login, own tag"),
        pytest.param("trusted prefix", "Bearer t", "401", id="prefix_login is not for tokens"),
        # passwords
        pytest.param("default", BASIC, f"docker.io: {BASIC}", id="password"),
        pytest.param("own prefix", BASIC, f"docker.io: {BASIC}", id="password, own prefix"),
        pytest.param("prefix", BASIC, "ghcr.io: nothing", id="password, prefix"),
        pytest.param("prefix", BASIC.lower(), "ghcr.io: nothing", id="password, lower case"),
        pytest.param("alias", BASIC, "ghcr.io: nothing", id="password, alias"),
        pytest.param("ns", BASIC, f"ghcr.io: {BASIC}", id="password, ns"),
        pytest.param("both", BASIC, f"ghcr.io: {BASIC}", id="password, ns and prefix"),
        pytest.param("host", BASIC, f"own.example:5000: {BASIC}", id="password, host"),
        pytest.param("ns on a host", BASIC, f"docker.io: {BASIC}", id="password, ns on a host"),
        pytest.param("trusted prefix", BASIC, f"trusted.example: {BASIC}", id="prefix_login"),
        # other schemes are logins as well
        pytest.param("default", "Negotiate abc", "docker.io: Negotiate abc", id="scheme"),
        pytest.param("prefix", "Negotiate abc", "ghcr.io: nothing", id="scheme, prefix"),
        pytest.param("prefix", "ghcr.io~t", "ghcr.io: nothing", id="no scheme, prefix"),
        # two lines
        pytest.param("prefix", "Bearer ghcr.io~t,Basic abc", "401", id="a password behind"),
        pytest.param("prefix", "Bearer ghcr.io~t,Bearer u", "401", id="a token behind"),
        pytest.param("prefix", f"{BASIC},Bearer ghcr.io~t", "ghcr.io: nothing", id="a password in"
                     " front"),
        pytest.param("ns", "Bearer ghcr.io~t,Bearer u", "401", id="ns, a token behind"),
        pytest.param("ns", f"{BASIC},Bearer hub", "401", id="ns, a password in front"),
        pytest.param("trusted prefix", f"{BASIC},Bearer hub", "401", id="prefix_login, in front"),
        pytest.param("default", "Bearer t,Bearer ghcr.io~t", "401", id="default, foreign behind"),
        pytest.param("default", f"{BASIC},Bearer ghcr.io~t", "401", id="default, and a password"),
        pytest.param("default", "Bearer ghcr.io~t,Bearer t", "401", id="default, foreign first"),
        # odd shapes
        pytest.param("default", "Bearer  ghcr.io~t", "401", id="two spaces"),
        pytest.param("default", "Bearer\tghcr.io~t", "401", id="a tab"),
        pytest.param("default", 'Bearer "ghcr.io~t"', "401", id="quotes"),
        pytest.param("default", "Basic ghcr.io~t", "401", id="a foreign token as a login"),
        pytest.param("default", "Token ghcr.io~t", "401", id="a foreign token, another scheme"),
        pytest.param("default", "ghcr.io~t", "401", id="a foreign token, no scheme"),
        pytest.param("default", "Bearer  docker.io~t", "401", id="own tag, two spaces"),
        pytest.param("default", "Basic docker.io~t", "401", id="own tag, as a login"),
        pytest.param("ns", "Basic ghcr.io~t", "401", id="ns, own tag, as a login"),
        pytest.param("ns", "ghcr.io~t", "401", id="ns, own tag, no scheme"),
        pytest.param("ns", "Bearer\tghcr.io~t", "401", id="ns, own tag, a tab"),
        pytest.param("ns", "Bearer\thub", "401", id="ns, untagged, a tab"),
        pytest.param("default", "  ", "docker.io: nothing", id="spaces are nothing"),
        # managed: what a client sends is for this proxy alone
        pytest.param("managed prefix", "Bearer t", "managed.example: nothing", id="managed, token"),
        pytest.param("managed prefix", "Bearer ghcr.io~t", "managed.example: nothing",
                     id="managed, foreign"),
        pytest.param("managed prefix", BASIC, "managed.example: nothing", id="managed, password"),
        pytest.param("managed ns", BASIC, "managed.example: nothing", id="managed, ns, password"),
        pytest.param("managed ns", "Bearer managed.example~t", "managed.example: nothing",
                     id="managed, own tag"),
        # nobody
        pytest.param("default", "", "docker.io: nothing", id="nothing"),
        pytest.param("prefix", "", "ghcr.io: nothing", id="nothing, prefix"),
        pytest.param("ns", "", "ghcr.io: nothing", id="nothing, ns"),
    ],
)  # fmt: skip
def test_what_goes_up(proxy: Proxy, way: str, authorization: str, expected: str) -> None:
    """A token goes to the registry whose it is, a password where it may have been typed for."""
    assert passed(proxy, way, authorization) == expected


@pytest.mark.parametrize("path", PATHS)
def test_every_route_asks_so(serving: Callable[..., Proxy], path: str) -> None:
    """It is one rule, not one of each view's."""
    assert passed(serving(), "prefix", "Bearer ghcr.io~t", path) == "ghcr.io: Bearer t"
    assert passed(serving(), "prefix", "Bearer t", path) == "401"
    assert passed(serving(), "prefix", BASIC, path) == "ghcr.io: nothing"


@pytest.mark.parametrize(
    ("way", "authorization", "told"),
    [
        pytest.param(
            "default", "Bearer ghcr.io~t", "proxy.example/auth/token docker.io a/b", id="default"
        ),
        pytest.param(
            "own prefix",
            "Bearer ghcr.io~t",
            "proxy.example/auth/token docker.io docker.io/a/b",
            id="own prefix",
        ),
        pytest.param(
            "prefix", "Bearer t", "proxy.example/auth/token ghcr.io ghcr.io/a/b", id="prefix"
        ),
        pytest.param(
            "alias", "Bearer t", "proxy.example/auth/token ghcr.io github/a/b", id="alias"
        ),
        pytest.param("ns", "Bearer t", "proxy.example/auth/token?ns=ghcr.io ghcr.io a/b", id="ns"),
        pytest.param(
            "both",
            "Bearer t",
            "proxy.example/auth/token?ns=ghcr.io ghcr.io ghcr.io/a/b",
            id="ns and prefix",
        ),
        pytest.param(
            "ns, port",
            "Bearer t",
            "proxy.example/auth/token?ns=own.example%3A5000 own.example:5000 a/b",
            id="ns with a port",
        ),
        pytest.param(
            "host",
            "Bearer docker.io~t",
            "own.proxy.example/auth/token own.example:5000 a/b",
            id="host",
        ),
        pytest.param(
            "host, port",
            "Bearer docker.io~t",
            "own.proxy.example:8443/auth/token own.example:5000 a/b",
            id="host with a port",
        ),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_foreign_token_is_told_where_to_get_another(
    proxy: Proxy, method: str, way: str, authorization: str, told: str
) -> None:
    """401 with our challenge, in the client's naming; no registry sees anything of it."""
    answer = proxy.ask(WAYS[way].format("manifests/x"), method, authorization=authorization)
    realm, service, asked = told.split()
    assert answer.status_code == 401
    assert answer.headers.getlist("WWW-Authenticate") == [
        f'Bearer realm="http://{realm}",service="{service}",scope="repository:{asked}:pull"'
    ]
    if method == "GET":
        assert answer.get_json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert proxy.asked == {}


@pytest.mark.parametrize(
    ("url", "authorization", "expected"),
    [
        pytest.param("proxy.example", "Bearer t", "docker.io: Bearer t", id="default"),
        pytest.param("proxy.example", "Bearer docker.io~t", "docker.io: Bearer t", id="own tag"),
        pytest.param("proxy.example", BASIC, f"docker.io: {BASIC}", id="password"),
        pytest.param(
            "proxy.example",
            "Bearer ghcr.io~t",
            '401: Bearer realm="http://proxy.example/auth/token",service="docker.io"',
            id="foreign",
        ),
        pytest.param("ns ghcr.io", "Bearer ghcr.io~t", "ghcr.io: Bearer t", id="ns, own tag"),
        pytest.param(
            "ns ghcr.io",
            "Bearer t",
            '401: Bearer realm="http://proxy.example/auth/token?ns=ghcr.io",service="ghcr.io"',
            id="ns, untagged",
        ),
        pytest.param("ns ghcr.io", BASIC, f"ghcr.io: {BASIC}", id="ns, password"),
        pytest.param(
            "own.proxy.example", "Bearer t", "own.example:5000: Bearer t", id="host, untagged"
        ),
        pytest.param(
            "own.proxy.example",
            "Bearer docker.io~t",
            '401: Bearer realm="http://own.proxy.example/auth/token",service="own.example:5000"',
            id="host, foreign",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_ping(proxy: Proxy, path: str, url: str, authorization: str, expected: str) -> None:
    """`/v2/` is about the host's default registry, or that of `ns`: by the same rules."""
    ns = url.removeprefix("ns ") if url.startswith("ns ") else ""
    host = "proxy.example" if ns else url
    answer = proxy.ask(f"{host}{path}{'?ns=' if ns else ''}{ns}", authorization=authorization)
    if proxy.asked:
        ((name, call),) = proxy.asked.items()
        assert f"{name}: {call.request.authorization}" == expected
        assert call.method == "ping"
    else:
        assert f"{answer.status_code}: {answer.headers['WWW-Authenticate']}" == expected


@pytest.mark.usefixtures("proxy")
def test_other_headers_stay(app: Flask) -> None:
    """Only Authorization is looked at, and it is there once."""
    fields = [("Accept", "a"), ("authorization", "Bearer ghcr.io~t"), ("Accept", "b"), ("X", "y")]
    with app.test_request_context("/v2/?ns=ghcr.io"):
        begin()
        context = get_context()
        selection = resolve_registry(context)
        passed_up = credentials.build_upstream_headers(context, selection, fields)
    assert get_all(passed_up, "authorization") == ["Bearer t"]
    assert [field for field in passed_up if field[0] != "Authorization"] == [
        ("Accept", "a"),
        ("Accept", "b"),
        ("X", "y"),
    ]


TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.sampled_from(["", "?ns=ghcr.io", "?ns=own.example:5000", "?ns=docker.io"]),
    host=st.sampled_from(["proxy.example", "own.proxy.example"]),
    sent=TOKENS
    | st.builds(lambda row, token: f"{row.token_tag}~{token}", st.sampled_from(ROWS), TOKENS),
)
@example(where="", host="proxy.example", sent="ghcr.io~")
@example(where="?ns=ghcr.io", host="proxy.example", sent="ghcr.io~docker.io~t")
@example(where="?ns=ghcr.io", host="proxy.example", sent="ghcr.io~ghcr.io~t")
@example(where="", host="proxy.example", sent="a.b~t")
@pytest.mark.usefixtures("proxy")
def test_no_token_reaches_another_registry(app: Flask, where: str, host: str, sent: str) -> None:
    """Whatever is in a token: it goes up where its tag says, or untagged to the host's default."""
    with app.test_request_context(f"/v2/{where}", base_url=f"http://{host}"):
        begin()
        context = get_context()
        registries, selection = context.services.registries, resolve_registry(context)
        owner, untagged = registries.split_token_tag(sent)
        tags = registries.find_token_tags(sent)
        try:
            fields = credentials.build_upstream_headers(
                context, selection, [("Authorization", f"Bearer {sent}")]
            )
        except Unauthorized:
            is_foreign = owner is not selection.registry or tags != {selection.registry.name}
            assert is_foreign or not untagged or "," in untagged
            return
    assert tags <= {selection.registry.name}
    if owner is None:
        assert selection.registry is selection.host_default
        assert get_all(fields, "authorization") == [f"Bearer {sent}"]
    else:
        assert owner is selection.registry
        assert get_all(fields, "authorization") == [f"Bearer {untagged}"]


def tagged(status: int, body: bytes, registry: Registry = GHCR) -> Reply:
    """Return a token answer as it is marked."""
    fields = [("Content-Type", "application/json"), ("X-Own", "y")]
    return credentials.tag_tokens(build_reply(status, fields, body), registry)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param(
            {"token": "t"}, {"token": "ghcr.io~t", "access_token": "ghcr.io~t"}, id="token"
        ),
        pytest.param(
            {"access_token": "t"},
            {"token": "ghcr.io~t", "access_token": "ghcr.io~t"},
            id="access token",
        ),
        pytest.param(
            {"token": "t", "access_token": "a"},
            {"token": "ghcr.io~t", "access_token": "ghcr.io~a"},
            id="both",
        ),
        pytest.param(
            {"access_token": "a", "refresh_token": "r"},
            {"token": "ghcr.io~a", "access_token": "ghcr.io~a", "refresh_token": "ghcr.io~r"},
            id="refresh token",
        ),
        pytest.param(
            {"token": "t", "refresh_token": ""},
            {"token": "ghcr.io~t", "access_token": "ghcr.io~t", "refresh_token": ""},
            id="an empty refresh token",
        ),
        pytest.param(
            {"token": None, "access_token": "a"},
            {"token": "ghcr.io~a", "access_token": "ghcr.io~a"},
            id="null in the place of one",
        ),
        pytest.param(
            {"token": "t", "access_token": ""},
            {"token": "ghcr.io~t", "access_token": "ghcr.io~t"},
            id="nothing in the place of the other",
        ),
        pytest.param(
            {"token": "t", "expires_in": 300, "issued_at": "2026", "scope": "s", "x": [1, None]},
            {
                "token": "ghcr.io~t",
                "access_token": "ghcr.io~t",
                "expires_in": 300,
                "issued_at": "2026",
                "scope": "s",
                "x": [1, None],
            },
            id="other fields",
        ),
        pytest.param(
            {"token": "ghcr.io~t~"},
            {"token": "ghcr.io~ghcr.io~t~", "access_token": "ghcr.io~ghcr.io~t~"},
            id="a token with a tag of its own",
        ),
    ],
)
def test_tag(document: dict[str, object], expected: dict[str, object]) -> None:
    """Every token is marked and named in both ways; what else is told stays."""
    reply = tagged(200, json.dumps(document).encode())
    content = reply.read()
    assert json.loads(content) == expected
    assert (reply.status, reply.length) == (200, len(content))
    assert reply.headers == [("Content-Type", "application/json"), ("X-Own", "y")]


def test_the_tag_of_a_name_with_a_port() -> None:
    """What stands in a header has no colon."""
    reply = tagged(200, b'{"token":"t"}', OWN)
    assert json.loads(reply.read())["token"] == "own.example+5000~t"  # noqa: S105


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_no_tag_where_there_is_no_token(status: int) -> None:
    """What is no token comes down as it is, byte for byte."""
    body = b' {"token":"t"} '
    reply = tagged(status, body)
    assert (reply.status, reply.read(), reply.length) == (status, body, len(body))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="a page"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"[" * 100_000, id="depth"),
        pytest.param(b"null", id="null"),
        pytest.param(b'["token"]', id="a list"),
        pytest.param(b'"token"', id="a text"),
        pytest.param(b"{}", id="no token"),
        pytest.param(b'{"token":7}', id="a number"),
        pytest.param(b'{"token":""}', id="an empty token"),
        pytest.param(b'{"token":null,"access_token":{}}', id="neither"),
        pytest.param(b'{"refresh_token":"r"}', id="a refresh token alone"),
    ],
)
def test_an_answer_that_has_no_token(body: bytes) -> None:
    """It cannot be marked, and so it is not passed on; it names whose service that was."""
    closed: list[int] = []
    reply = Reply(status=200, body=[body], close=lambda: closed.append(1))
    with pytest.raises(UpstreamMisbehaved, match=r"^the token service of ghcr\.io gave no token$"):
        credentials.tag_tokens(reply, GHCR)
    assert closed == [1]


def test_an_answer_that_breaks() -> None:
    """Half an answer is closed, and is none."""
    closed: list[int] = []

    def broken() -> Iterator[bytes]:
        yield b'{"token":'
        reason = "IncompleteRead"
        raise BodyBroken(reason)

    with pytest.raises(BodyBroken):
        credentials.tag_tokens(
            Reply(status=200, body=broken(), close=lambda: closed.append(1)), GHCR
        )
    assert closed == [1]


@given(TOKENS.filter(bool), st.sampled_from(ROWS))
def test_what_is_tagged_comes_back(token: str, row: Registry) -> None:
    """The token that a client sends back is the one that the registry gave."""
    reply = tagged(200, json.dumps({"token": token}).encode(), row)
    issued = json.loads(reply.read())["token"]
    assert issued == f"{row.token_tag}~{token}"


@pytest.mark.parametrize(
    ("where", "host", "token", "foreign"),
    [
        pytest.param("", "proxy.example", "t", [], id="default, untagged"),
        pytest.param("", "proxy.example", "docker.io~t", [], id="default, own tag"),
        pytest.param("", "proxy.example", "ghcr.io~t", ["foreign"], id="default, foreign"),
        pytest.param("?ns=ghcr.io", "proxy.example", "ghcr.io~t", [], id="ns, own tag"),
        pytest.param("?ns=ghcr.io", "proxy.example", "t", ["foreign"], id="ns, untagged"),
        pytest.param("", "own.proxy.example", "t", [], id="host, untagged"),
        pytest.param("", "own.proxy.example", "docker.io~t", ["foreign"], id="host, foreign"),
        pytest.param(
            "", "proxy.example", "gone.example~t", ["foreign"], id="of a row that is gone"
        ),
        pytest.param("", "proxy.example", "docker.io~ghcr.io~t", ["foreign"], id="two tags"),
        pytest.param("?ns=ghcr.io", "proxy.example", "ghcr.io~a.b~t", ["foreign"], id="ns, two"),
        pytest.param("", "proxy.example", "a ghcr.io~t", ["foreign"], id="not in front"),
        pytest.param("?ns=ghcr.io", "proxy.example", "", ["foreign"], id="ns, empty"),
    ],
)
@pytest.mark.usefixtures("proxy")
def test_refresh_tokens(app: Flask, where: str, host: str, token: str, foreign: list[str]) -> None:
    """They are marked as tokens are."""
    with app.test_request_context(f"/v2/{where}", base_url=f"http://{host}"):
        begin()
        context = get_context()
        registries, selection = context.services.registries, resolve_registry(context)
        assert credentials.is_foreign(registries, selection, token) == bool(foreign)
        assert foreign or registries.split_token_tag(token)[1] == "t"
