"""GET and POST /auth/token: everything passes, in the registry's naming."""

import pytest
from flask.testing import FlaskClient

from app.content import replied
from app.oci.headers import value
from tests.unit.fake_source import FakeSource

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


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("fields", "expected"), SCOPES)
def test_scopes(
    client: FlaskClient, source: FakeSource, method: str, fields: str, expected: list[str]
) -> None:
    """Scopes go up in the registry's naming, each once, in the fields they came in."""
    asked(client, method, fields)
    parameters = source.calls[0].token.parameters
    assert [text for name, text in parameters if name == "scope"] == expected


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
    assert value(source.calls[0].token.headers, "authorization") == "Basic YWxpY2U6cHc="


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
    source.reply = replied(status, [("Content-Type", "application/json")], body)
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
