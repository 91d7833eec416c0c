"""GET and POST /auth/token: everything passes, in the registry's naming."""

import base64
import io
import json

import pytest
from flask.testing import FlaskClient

from app.oci.headers import get_first
from app.source import build_reply
from tests.unit.fake_source import FakeSource
from tests.unit.routes.conftest import Proxy

ANSWER = b'{"token":"t","access_token":"t","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}'

SCOPES = [
    pytest.param("scope=repository:a/b:pull", ["repository:a/b:pull"], id="one"),
    pytest.param("scope=repository:nginx:pull", ["repository:library/nginx:pull"], id="short"),
    pytest.param(
        "scope=repository:a/b:pull&scope=repository:c/d:pull,push",
        ["repository:a/b:pull", "repository:c/d:pull,push"],
        id="two fields",
    ),
    pytest.param(
        "scope=repository:nginx:pull+repository:c/d:pull",
        ["repository:library/nginx:pull repository:c/d:pull"],
        id="one field, two scopes",
    ),
    pytest.param(
        "scope=repository:library/nginx:pull&scope=repository:nginx:pull",
        ["repository:library/nginx:pull"],
        id="two namings of one (containerd)",
    ),
    pytest.param(
        "scope=repository:nginx:pull+repository:docker.io/nginx:pull+repository:x/y:pull",
        ["repository:library/nginx:pull repository:x/y:pull"],
        id="two namings in one field",
    ),
    pytest.param(
        "scope=repository:a/b:pull&scope=repository:a/b:pull,push",
        ["repository:a/b:pull", "repository:a/b:pull,push"],
        id="other actions are another scope",
    ),
    pytest.param("scope=repository:docker.io/a/b:pull", ["repository:a/b:pull"], id="prefix"),
    pytest.param(
        "scope=repository:index.docker.io/nginx:pull", ["repository:library/nginx:pull"], id="alias"
    ),
    pytest.param(
        "scope=repository(plugin):nginx:pull", ["repository(plugin):library/nginx:pull"], id="class"
    ),
    pytest.param("scope=registry:catalog:*", ["registry:catalog:*"], id="not of a repository"),
    pytest.param("scope=something%20else", ["something else"], id="not a scope"),
    pytest.param("scope=repository:UPPER:pull", [], id="not a name"),
    pytest.param("scope=repository", [], id="half a scope"),
    pytest.param("scope=repository:quay.io/a", [], id="half a scope, of another"),
    pytest.param("scope=repositoryx%3Aa", [], id="begins like one of a repository"),
    pytest.param("scope=repository:quay.io/a/b:pull", [], id="a registry that is not served"),
    pytest.param(
        "scope=repository:quay.io/a/b:pull+repository:c/d:pull",
        ["repository:c/d:pull"],
        id="one that is not served, one that is",
    ),
    pytest.param("scope=", [], id="empty"),
    pytest.param("account=alice", [], id="none"),
    pytest.param(
        "ns=docker.io&scope=repository:nginx:pull", ["repository:library/nginx:pull"], id="ns"
    ),
]


@pytest.mark.parametrize(("fields", "expected"), SCOPES)
def test_scopes(client: FlaskClient, source: FakeSource, fields: str, expected: list[str]) -> None:
    """Scopes go up in the registry's naming, each once, in the fields they came in."""
    for method in ["GET", "POST"]:
        source.calls.clear()
        asked(client, method, fields)
        parameters = source.calls[-1].token.parameters
        assert [text for name, text in parameters if name == "scope"] == expected, method


def asked(client: FlaskClient, method: str, fields: str, **headers: str) -> bytes:
    """Ask for a token, with the fields where the method has them."""
    form = "application/x-www-form-urlencoded"
    if method == "POST":
        answer = client.post("/auth/token", data=fields, content_type=form, headers=headers)
    else:
        answer = client.open(f"/auth/token?{fields}", method=method, headers=headers)
    return bytes(answer.data)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_parameters_pass_in_order(client: FlaskClient, source: FakeSource, method: str) -> None:
    """Whatever clients send reaches the token service; `service` is the source's to name."""
    asked(
        client,
        method,
        "grant_type=password&service=proxy.example&client_id=docker&access_type=offline"
        "&username=al+ice&password=p%26%3D%2B%25%C3%A4&empty=&account=alice&offline_token=true"
        "&client_id=again&ns=docker.io",
    )
    (call,) = source.calls
    assert (call.method, call.token.method) == ("token", method)
    assert call.token.parameters == [
        ("grant_type", "password"),
        ("client_id", "docker"),
        ("access_type", "offline"),
        ("username", "al ice"),
        ("password", "p&=+%ä"),
        ("empty", ""),
        ("account", "alice"),
        ("offline_token", "true"),
        ("client_id", "again"),
    ]


def test_head_is_a_get(client: FlaskClient, source: FakeSource) -> None:
    """Token services know GET and POST."""
    source.answers(ANSWER)
    assert asked(client, "HEAD", "account=alice") == b""
    assert source.calls[0].token.method == "GET"
    assert source.closed == 1


def test_basic_passes(client: FlaskClient, source: FakeSource) -> None:
    """Credentials are the token service's to judge."""
    asked(client, "GET", "account=alice", Authorization="Basic YWxpY2U6cHc=")
    assert get_first(source.calls[0].token.headers, "authorization") == "Basic YWxpY2U6cHc="


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, ANSWER, id="token"),
        pytest.param(401, b'{"details":"incorrect username or password"}', id="refused"),
        pytest.param(404, b'{"errors":[]}', id="no POST"),
        pytest.param(429, b"slow down", id="too many"),
        pytest.param(500, b"<html>", id="broken"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_answer_comes_back_unchanged(
    client: FlaskClient, source: FakeSource, method: str, status: int, body: bytes
) -> None:
    """Byte for byte, whatever it is."""
    source.reply = build_reply(status, [("Content-Type", "application/json")], body)
    assert asked(client, method, "account=alice") == body
    assert source.closed == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods(client: FlaskClient, source: FakeSource, method: str) -> None:
    """Nothing else is a token request."""
    answer = client.open("/auth/token", method=method)
    assert answer.status_code == 405
    assert {"GET", "POST"} <= {name.strip() for name in answer.headers["Allow"].split(",")}
    assert source.calls == []


def test_unknown_ns(client: FlaskClient, source: FakeSource) -> None:
    """A registry that is not served has no tokens."""
    answer = client.get("/auth/token?ns=quay.io&scope=repository:a/b:pull")
    assert answer.status_code == 404
    assert answer.get_json()["errors"][0]["code"] == "NAME_UNKNOWN"
    assert source.calls == []


def test_a_body_beyond_measure(client: FlaskClient, source: FakeSource) -> None:
    """A token request of megabytes is refused before it is read into memory."""
    answer = client.post("/auth/token", data=b"x" * (2 * 1024 * 1024))
    assert answer.status_code == 413
    assert answer.get_json()["errors"]
    assert source.calls == []


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param("a=b&" * 1001, id="parameters"),
        pytest.param("scope=" + "repository:a:pull+" * 1001, id="scopes"),
    ],
)
def test_very_many(client: FlaskClient, source: FakeSource, method: str, parameters: str) -> None:
    """What takes long to read is refused unread."""
    if method == "POST":
        answer = client.post("/auth/token", data=parameters)
    else:
        answer = client.get(f"/auth/token?{parameters}")
    assert answer.status_code == 400
    assert answer.get_json()["errors"]
    assert source.calls == []


@pytest.mark.parametrize(
    ("length", "status"),
    [
        pytest.param({"CONTENT_LENGTH": "100"}, 400, id="cut"),
        pytest.param({"CONTENT_LENGTH": "5"}, 200, id="whole"),
        pytest.param({}, 200, id="in chunks"),
    ],
)
def test_a_form_that_ends_early(client: FlaskClient, length: dict[str, str], status: int) -> None:
    """Servers hand over what came as if it were all; half a password must not be tried."""
    environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": "", **length}
    answer = client.post(
        "/auth/token", input_stream=io.BytesIO(b"a=b&c"), environ_overrides=environ
    )
    assert answer.status_code == status


def test_a_form_without_end(client: FlaskClient, source: FakeSource) -> None:
    """Chunks that go on and on are not cut to the limit and taken for all."""
    answer = client.post(
        "/auth/token",
        input_stream=io.BytesIO(b"a" * (2 * 1024 * 1024)),
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert answer.status_code == 413
    assert source.calls == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_long_tokens(client: FlaskClient, source: FakeSource, method: str) -> None:
    """Refresh tokens of 20 KB pass whole."""
    asked(client, method, "grant_type=refresh_token&refresh_token=" + "x" * 20_000)
    assert source.calls[0].token.parameters[1] == ("refresh_token", "x" * 20_000)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_bytes_that_are_not_utf8(client: FlaskClient, source: FakeSource, method: str) -> None:
    """Two passwords that differ stay different, in whatever encoding they are written."""
    for password in ("p%E4ss", "p%F6ss"):
        asked(client, method, f"grant_type=password&password={password}")
    first, second = (dict(call.token.parameters)["password"] for call in source.calls)
    assert first != second


HOST = "proxy.example"
OWN_HOST = "own.proxy.example"
BASIC = "Basic YWxpY2U6cHc="
GHCR = "scope=repository:ghcr.io/a/b:pull"
LOGIN = (
    "account=alice&offline_token=true&access_type=offline&grant_type=password&client_id=docker"
    "&username=alice&password=pw"
)


def passed(proxy: Proxy, asked: str, method: str = "GET", authorization: str = "") -> str:
    """Return which token service was asked what, with what Authorization; or the refusal.

    `asked` is the host, perhaps with `?ns=...`, and the fields, with a space between.
    """
    for source in proxy.sources.values():
        source.reply = build_reply(200, [("Content-Type", "application/json")], ANSWER)
    where, _, fields = asked.partition(" ")
    host, _, query = where.partition("?")
    if method == "POST":
        url = f"{host}/auth/token?{query}"
        answer = proxy.ask(url, "POST", authorization=authorization, form=fields)
    else:
        url = f"{host}/auth/token?{query}&{fields}"
        answer = proxy.ask(url, method, authorization=authorization)
    if not proxy.asked:
        return f"{answer.status_code} {answer.get_json()['errors'][0]['code']}"
    ((name, call),) = proxy.asked.items()
    parameters = "&".join(f"{key}={text}" for key, text in call.token.parameters)
    login = get_first(call.token.headers, "authorization")
    return " ".join(part for part in (name, call.token.method, parameters, login) if part)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        # which registry: `ns`, the host, the first scope of a known registry, the default
        pytest.param(f"{HOST} scope=repository:a/b:pull", "docker.io scope=repository:a/b:pull",
                     id="default"),
        pytest.param(f"{HOST} account=alice", "docker.io account=alice", id="no scope"),
        pytest.param(f"{HOST} {GHCR}", "ghcr.io scope=repository:a/b:pull", id="prefix"),
        pytest.param(f"{HOST} scope=repository:github/app:pull",
                     "ghcr.io scope=repository:app:pull", id="alias"),
        pytest.param(f"{HOST} scope=repository:docker.io/nginx:pull",
                     "docker.io scope=repository:library/nginx:pull", id="the default's prefix"),
        pytest.param(f"{HOST}?ns=ghcr.io scope=repository:a/b:pull",
                     "ghcr.io scope=repository:a/b:pull", id="ns"),
        pytest.param(f"{HOST}?ns=ghcr.io client_id=docker", "ghcr.io client_id=docker",
                     id="ns, no scope"),
        pytest.param(f"{HOST}?ns=ghcr.io {GHCR}", "ghcr.io scope=repository:a/b:pull",
                     id="ns and prefix"),
        pytest.param(f"{HOST}?ns=ghcr.io scope=repository:docker.io/a:pull",
                     "ghcr.io scope=repository:docker.io/a:pull", id="ns before prefix"),
        pytest.param(f"{HOST}?ns=docker.io scope=repository:nginx:pull",
                     "docker.io scope=repository:library/nginx:pull", id="ns of the default"),
        pytest.param(f"{HOST}?ns=docker.io {GHCR}", "docker.io", id="ns of the hub, a dotted one"),
        pytest.param(f"{OWN_HOST} scope=repository:a/b:pull",
                     "own.example:5000 scope=repository:a/b:pull", id="host"),
        pytest.param(f"{OWN_HOST} account=alice", "own.example:5000 account=alice",
                     id="host, no scope"),
        pytest.param(f"{OWN_HOST} {GHCR}", "own.example:5000 scope=repository:ghcr.io/a/b:pull",
                     id="a host knows no prefixes"),
        pytest.param(f"{OWN_HOST}?ns=ghcr.io scope=repository:a/b:pull",
                     "ghcr.io scope=repository:a/b:pull", id="ns before host"),
        pytest.param(f"{HOST} scope=repository:managed.example/a:pull",
                     "managed.example scope=repository:a:pull", id="managed"),
        # scopes: those of the registry in its naming, the others not at all
        pytest.param(f"{HOST} {GHCR}&scope=repository:c/d:pull",
                     "ghcr.io scope=repository:a/b:pull", id="the first decides, not the rest"),
        pytest.param(f"{HOST} scope=repository:c/d:pull&{GHCR}",
                     "docker.io scope=repository:c/d:pull", id="the first decides, another's is"),
        pytest.param(f"{HOST} {GHCR}+repository:trusted.example/c:pull",
                     "ghcr.io scope=repository:a/b:pull", id="dropped inside one field"),
        pytest.param(f"{HOST} scope=repository:quay.io/a:pull&{GHCR}",
                     "ghcr.io scope=repository:a/b:pull", id="an unknown one does not decide"),
        pytest.param(f"{HOST} scope=repository:UPPER:pull&{GHCR}",
                     "ghcr.io scope=repository:a/b:pull", id="nor does one that is no name"),
        pytest.param(f"{HOST} {GHCR}&scope=repository:quay.io/a:pull",
                     "ghcr.io scope=repository:a/b:pull", id="an unknown one is dropped"),
        pytest.param(f"{HOST} {GHCR}&scope=repository:ghcr.io/c:pull,push",
                     "ghcr.io scope=repository:a/b:pull&scope=repository:c:pull,push",
                     id="several of one registry"),
        pytest.param(f"{HOST} {GHCR}+repository:github/a/b:pull+repository:ghcr.io/c:pull",
                     "ghcr.io scope=repository:a/b:pull repository:c:pull",
                     id="two namings of one (containerd)"),
        pytest.param(f"{HOST} scope=repository:public.ecr.aws/a/b:pull+aws",
                     "public.ecr.aws scope=repository:a/b:pull aws", id="of no repository"),
        pytest.param(f"{HOST} scope=aws+repository:public.ecr.aws/a/b:pull",
                     "public.ecr.aws scope=aws repository:a/b:pull", id="of no repository, first"),
        pytest.param(f"{HOST} scope=registry:catalog:*", "docker.io scope=registry:catalog:*",
                     id="the catalog"),
        pytest.param(f"{HOST} scope=registry:catalog:*&{GHCR}",
                     "ghcr.io scope=registry:catalog:*&scope=repository:a/b:pull",
                     id="the catalog, and one of another registry"),
        pytest.param(f"{HOST} scope=repository(plugin):ghcr.io/a/b:pull",
                     "ghcr.io scope=repository(plugin):a/b:pull", id="a class"),
        pytest.param(f"{HOST}?ns=ghcr.io service=proxy.example&ns=docker.io&client_id=x",
                     "ghcr.io client_id=x", id="service and ns stay here"),
        # none
        pytest.param(f"{HOST}?ns=quay.io {GHCR}", "404 NAME_UNKNOWN", id="unknown ns"),
        pytest.param(f"{OWN_HOST}?ns=quay.io {GHCR}", "404 NAME_UNKNOWN", id="on a host too"),
    ],
)  # fmt: skip
def test_which_registry_is_asked_for_what(proxy: Proxy, asked: str, expected: str) -> None:
    """`ns` decides before the host, the host before the first scope of a registry that is known."""
    name, _, parameters = expected.partition(" ")
    for method in ("GET", "POST"):
        found = passed(proxy, asked, method).split(" ", 2)
        if name == "404":
            assert found == [name, parameters], method
            continue
        # By prefix the login stays here, and so a POST goes on as a GET.
        by_prefix = name not in {"docker.io", "own.example:5000"} and "ns=" not in asked
        assert found[0] == name, method
        assert found[1] == ("GET" if by_prefix else method)
        assert "".join(found[2:]) == parameters, method


@pytest.mark.parametrize(
    ("asked", "method", "expected"),
    [
        pytest.param(f"{HOST} {LOGIN}", "POST", f"docker.io POST {LOGIN} {BASIC}", id="default"),
        pytest.param(f"{HOST} {LOGIN}", "GET", f"docker.io GET {LOGIN} {BASIC}", id="default, GET"),
        pytest.param(
            f"{HOST}?ns=ghcr.io {LOGIN}", "POST", f"ghcr.io POST {LOGIN} {BASIC}", id="ns"
        ),
        pytest.param(
            f"{OWN_HOST} {LOGIN}", "POST", f"own.example:5000 POST {LOGIN} {BASIC}", id="host"
        ),
        pytest.param(
            f"{HOST} {LOGIN}&{GHCR}",
            "POST",
            "ghcr.io GET client_id=docker&scope=repository:a/b:pull",
            id="prefix",
        ),
        pytest.param(
            f"{HOST} {LOGIN}&{GHCR}",
            "GET",
            "ghcr.io GET client_id=docker&scope=repository:a/b:pull",
            id="prefix, GET",
        ),
        pytest.param(
            f"{HOST} {LOGIN}&scope=repository:trusted.example/a:pull",
            "POST",
            f"trusted.example POST {LOGIN}&scope=repository:a:pull {BASIC}",
            id="prefix_login",
        ),
        pytest.param(
            f"{HOST} {LOGIN}&scope=repository:c/d:pull&{GHCR}",
            "POST",
            f"docker.io POST {LOGIN}&scope=repository:c/d:pull {BASIC}",
            id="default first",
        ),
    ],
)
def test_whose_login_goes_up(proxy: Proxy, asked: str, method: str, expected: str) -> None:
    """By prefix it is nobody's: all of it stays here, and the token is one for nobody."""
    authorization = BASIC.replace("Basic", "bAsIc")
    found = passed(proxy, asked, method, authorization)
    assert found == expected.replace("Basic", "bAsIc")


@pytest.mark.parametrize(
    "name",
    ["access_token", "client_secret", "assertion", "Password", "token", "code", "SCOPE", "x"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_secret_by_another_name(proxy: Proxy, method: str, name: str) -> None:
    """By prefix only what asks for a token goes up; where a login does, all of it."""
    fields = f"{name}=s3cr3t&client_id=docker"
    assert passed(proxy, f"{HOST} {fields}&{GHCR}", method) == (
        "ghcr.io GET client_id=docker&scope=repository:a/b:pull"
    )
    for source in proxy.sources.values():
        source.calls.clear()
    trusted = f"{HOST} {fields}&scope=repository:trusted.example/a:pull"
    assert passed(proxy, trusted, method) == (
        f"trusted.example {method} {fields}&scope=repository:a:pull"
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(f"{HOST} refresh_token=r", "docker.io POST refresh_token=r", id="default"),
        pytest.param(f"{HOST} refresh_token=docker.io~r", "docker.io POST refresh_token=r",
                     id="default, own tag"),
        pytest.param(f"{HOST} refresh_token=ghcr.io~r", "docker.io GET", id="default, foreign"),
        pytest.param(f"{HOST} refresh_token=quay.io~r", "docker.io GET",
                     id="default, the tag of a row that is gone"),
        pytest.param(f"{HOST} refresh_token=a~b", "docker.io POST refresh_token=a~b",
                     id="default, a tilde"),
        pytest.param(f"{HOST} refresh_token=x%20ghcr.io~r", "docker.io GET",
                     id="default, foreign, not in front"),
        pytest.param(f"{HOST} refresh_token=docker.io~ghcr.io~r", "docker.io GET",
                     id="default, own and foreign"),
        pytest.param(f"{HOST}?ns=ghcr.io refresh_token=ghcr.io~docker.io~r", "ghcr.io GET",
                     id="ns, own and foreign"),
        pytest.param(f"{HOST}?ns=docker.io refresh_token=r", "docker.io POST refresh_token=r",
                     id="ns of the default"),
        pytest.param(f"{HOST}?ns=ghcr.io refresh_token=ghcr.io~r", "ghcr.io POST refresh_token=r",
                     id="ns, own tag"),
        pytest.param(f"{HOST}?ns=ghcr.io refresh_token=r", "ghcr.io GET", id="ns, untagged"),
        pytest.param(f"{HOST}?ns=ghcr.io refresh_token=docker.io~r", "ghcr.io GET",
                     id="ns, foreign"),
        pytest.param(f"{OWN_HOST} refresh_token=r", "own.example:5000 POST refresh_token=r",
                     id="host"),
        pytest.param(f"{OWN_HOST} refresh_token=own.example%2B5000~r",
                     "own.example:5000 POST refresh_token=r", id="host, own tag"),
        pytest.param(f"{OWN_HOST} refresh_token=ghcr.io~r",
                     "own.example:5000 GET", id="host, foreign"),
        pytest.param(f"{HOST} {GHCR}&refresh_token=r&grant_type=refresh_token",
                     "ghcr.io GET scope=repository:a/b:pull", id="prefix, the default's"),
        pytest.param(f"{HOST} {GHCR}&refresh_token=ghcr.io~r",
                     "ghcr.io GET scope=repository:a/b:pull", id="prefix, own tag"),
        pytest.param(
            f"{HOST} scope=repository:trusted.example/a:pull&refresh_token=trusted.example~r",
            "trusted.example POST scope=repository:a:pull&refresh_token=r",
            id="prefix_login, own tag",
        ),
        pytest.param(
            f"{HOST} scope=repository:trusted.example/a:pull&refresh_token=r&username=u",
            "trusted.example GET scope=repository:a:pull",
            id="prefix_login, the default's",
        ),
        pytest.param(f"{HOST} refresh_token=r&refresh_token=ghcr.io~r", "docker.io GET",
                     id="two, one of them foreign"),
        pytest.param(
            f"{HOST} grant_type=refresh_token&refresh_token=ghcr.io~r&client_id=c&account=a"
            "&scope=repository:c/d:pull&service=x&password=s3cr3t",
            "docker.io GET client_id=c&scope=repository:c/d:pull",
            id="foreign, with all that clients send",
        ),
        pytest.param(f"{HOST} refresh_token=", "docker.io POST refresh_token=", id="empty"),
    ],
)  # fmt: skip
def test_refresh_tokens(proxy: Proxy, asked: str, expected: str) -> None:
    """Each goes to the registry that gave it, as it gave it; for another's, nobody asks.

    A refusal would make containerd send it as a password.
    """
    assert passed(proxy, asked, "POST") == expected


@pytest.mark.parametrize(
    ("asked", "authorization", "expected"),
    [
        pytest.param(f"{HOST} a=b", "Bearer ghcr.io~t", "401 UNAUTHORIZED", id="foreign"),
        pytest.param(f"{HOST} a=b", "Bearer docker.io~t", "docker.io GET a=b Bearer t", id="own"),
        pytest.param(f"{HOST}?ns=ghcr.io a=b", "Bearer t", "401 UNAUTHORIZED", id="ns, untagged"),
        pytest.param(
            f"{HOST}?ns=ghcr.io a=b", "Bearer ghcr.io~t", "ghcr.io GET a=b Bearer t", id="ns, own"
        ),
        pytest.param(f"{HOST} {GHCR}", "Bearer t", "401 UNAUTHORIZED", id="prefix, untagged"),
    ],
)
def test_tokens_for_tokens(proxy: Proxy, asked: str, authorization: str, expected: str) -> None:
    """An Authorization here is as everywhere."""
    assert passed(proxy, asked, authorization=authorization) == expected


def basic(password: str) -> str:
    """Return the Basic credentials of alice."""
    return f"Basic {base64.b64encode(f'alice:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("asked", "password", "expected"),
    [
        pytest.param(f"{HOST} a=b", "ghcr.io~r", "docker.io GET a=b", id="foreign"),
        pytest.param(f"{HOST} a=b", "quay.io~r", "docker.io GET a=b", id="of a row that is gone"),
        pytest.param(f"{HOST} a=b", "xghcr.io~r", "docker.io GET a=b", id="glued"),
        pytest.param(f"{HOST}?ns=ghcr.io a=b", "docker.io~r", "ghcr.io GET a=b", id="ns"),
        pytest.param(f"{OWN_HOST} a=b", "ghcr.io~r", "own.example:5000 GET a=b", id="host"),
        pytest.param(
            f"{HOST} a=b", "pa~ss", f"docker.io GET a=b {basic('pa~ss')}", id="a tilde of its own"
        ),
    ],
)
def test_a_token_as_a_password(proxy: Proxy, asked: str, password: str, expected: str) -> None:
    """Clients like containerd send a refresh token so: another registry's stays here."""
    assert passed(proxy, asked, authorization=basic(password)) == expected


FULL = b'{ "token":"t", "access_token": "t","refresh_token":"r", "expires_in":300, "x":[1] }\n'


@pytest.mark.parametrize(
    ("asked", "tag"),
    [
        pytest.param(f"{HOST} a=b", "", id="default"),
        pytest.param(f"{HOST}?ns=docker.io a=b", "", id="ns of the default"),
        pytest.param(f"{HOST} scope=repository:docker.io/a:pull", "", id="the default's prefix"),
        pytest.param(f"{OWN_HOST} a=b", "", id="host"),
        pytest.param(f"{OWN_HOST}?ns=own.example:5000 a=b", "", id="ns of the host's"),
        pytest.param(f"{HOST} {GHCR}", "ghcr.io~", id="prefix"),
        pytest.param(f"{HOST}?ns=ghcr.io a=b", "ghcr.io~", id="ns"),
        pytest.param(f"{OWN_HOST}?ns=docker.io a=b", "docker.io~", id="the default on a host"),
        pytest.param(f"{HOST}?ns=own.example:5000 a=b", "own.example+5000~", id="ns with a port"),
        pytest.param(
            f"{HOST} scope=repository:managed.example/a:pull", "managed.example~", id="managed"
        ),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_whose_tokens_are_marked(proxy: Proxy, method: str, asked: str, tag: str) -> None:
    """All but those of the host's own default, whose answers stay byte for byte."""
    for source in proxy.sources.values():
        source.answers(FULL, headers=[("Content-Type", "application/json")])
    where, _, fields = asked.partition(" ")
    host, _, query = where.partition("?")
    url = f"{host}/auth/token?{query}" + ("" if method == "POST" else f"&{fields}")
    answer = proxy.ask(url, method, form=fields if method == "POST" else None)
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.content_length == len(answer.data)
    if not tag:
        assert answer.data == FULL
    assert json.loads(answer.data) == {
        "token": f"{tag}t",
        "access_token": f"{tag}t",
        "refresh_token": f"{tag}r",
        "expires_in": 300,
        "x": [1],
    }
    ((name, _),) = proxy.asked.items()
    assert proxy.sources[name].closed == 1


def test_an_answer_that_has_no_token(proxy: Proxy) -> None:
    """What cannot be marked is not passed on."""
    proxy.sources["ghcr.io"].answers(b"<html>")
    answer = proxy.ask(f"{HOST}/auth/token?{GHCR}")
    assert answer.status_code == 502
    assert answer.get_json()["errors"][0]["code"] == "UNAVAILABLE"
    assert proxy.sources["ghcr.io"].closed == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_refusal_of_another_registrys(proxy: Proxy, status: int) -> None:
    """It comes down byte for byte: nothing in it is a token."""
    body = b'{ "details":"no such account" }'
    proxy.sources["ghcr.io"].reply = build_reply(
        status, [("Content-Type", "application/json")], body
    )
    answer = proxy.ask(f"{HOST}/auth/token?{GHCR}")
    assert (answer.status_code, answer.data) == (status, body)
    assert proxy.sources["ghcr.io"].closed == 1


def test_a_head_for_another_registry(proxy: Proxy) -> None:
    """It has the length of the GET's answer, and no body."""
    proxy.sources["ghcr.io"].answers(FULL)
    whole = proxy.ask(f"{HOST}/auth/token?{GHCR}")
    proxy.sources["ghcr.io"].answers(FULL)
    head = proxy.ask(f"{HOST}/auth/token?{GHCR}", "HEAD")
    assert (head.data, head.content_length) == (b"", whole.content_length)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        pytest.param(f"{HOST}/v2/?ns=own.example:5000", 200, id="by the same way"),
        pytest.param(f"{OWN_HOST}/v2/", 200, id="at its own host"),
        pytest.param(f"{HOST}/v2/", 401, id="at the default"),
        pytest.param(f"{HOST}/v2/?ns=ghcr.io", 401, id="at another"),
    ],
)
def test_a_token_is_good_where_it_comes_from(proxy: Proxy, url: str, status: int) -> None:
    """However that registry is addressed; elsewhere it is refused before anybody sees it."""
    proxy.sources["own.example:5000"].answers(FULL)
    bought = proxy.ask(f"{HOST}/auth/token?ns=own.example:5000", form="username=a", method="POST")
    token = json.loads(bought.data)["access_token"]
    for source in proxy.sources.values():
        source.answers(b"{}")
        source.calls.clear()
    assert proxy.ask(url, authorization=f"Bearer {token}").status_code == status
    passed_up = [call.request.authorization for call in proxy.asked.values()]
    assert passed_up == (["Bearer t"] if status == 200 else [])
