"""GET /v2/: the challenge that starts the token dance at this proxy."""

from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from app.oci.challenge import Challenge
from app.oci.errors import UpstreamUnavailable
from app.source import build_reply
from tests.unit.fake_source import FakeSource

BEARER = Challenge(
    "Bearer", {"realm": "https://auth.docker.example/token", "service": "registry.docker.example"}
)
REFUSED = b'{"errors":[{"code":"UNAUTHORIZED"}]}'


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_realm_is_ours(client: FlaskClient, source: FakeSource, method: str, path: str) -> None:
    """A 401 points at this proxy, keeps the service, and is JSON; with and without a slash."""
    answered = build_reply(401, [("Content-Type", "application/json")], REFUSED)
    source.reply = replace(answered, challenges=[BEARER])
    answer = client.open(path, method=method)
    assert answer.status_code == 401
    assert answer.headers.getlist("WWW-Authenticate") == [
        'Bearer realm="http://localhost/auth/token",service="registry.docker.example"'
    ]
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert answer.content_type == "application/json"
    assert answer.data == (b"" if method == "HEAD" else REFUSED)
    assert source.calls[0].request.method == method
    assert source.closed == 1


def test_basic_is_not_rewritten(client: FlaskClient, source: FakeSource) -> None:
    """A registry that asks for credentials itself has no realm that could be ours."""
    source.answers(
        REFUSED,
        status=401,
        challenges=[Challenge("Basic", {"realm": "Registry"}), BEARER],
    )
    answer = client.get("/v2/")
    assert answer.headers.getlist("WWW-Authenticate") == [
        'Basic realm="Registry"',
        'Bearer realm="http://localhost/auth/token",service="registry.docker.example"',
    ]


@pytest.mark.parametrize(
    ("headers", "peer", "realm"),
    [
        pytest.param({}, "192.0.2.1", "http://localhost/auth/token", id="as asked"),
        pytest.param({"Host": "[::1]:5000"}, "::1", "http://[::1]:5000/auth/token", id="IPv6"),
        pytest.param(
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "p.example"},
            "10.0.0.1",
            "https://p.example/auth/token",
            id="trusted",
        ),
        pytest.param(
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"},
            "192.0.2.1",
            "http://localhost/auth/token",
            id="untrusted",
        ),
    ],
)
def test_the_realm_is_how_the_client_reaches_us(
    client: FlaskClient, source: FakeSource, headers: dict[str, str], peer: str, realm: str
) -> None:
    """The servers in front are believed, and nobody else."""
    source.answers(REFUSED, status=401, challenges=[BEARER])
    answer = client.get("/v2/", headers=headers, environ_overrides={"REMOTE_ADDR": peer})
    assert f'realm="{realm}"' in answer.headers["WWW-Authenticate"]


def test_open(client: FlaskClient, source: FakeSource) -> None:
    """200 is JSON, whatever the registry wrote; what it wrote is closed unread."""
    source.answers(b"OK", headers=[("Content-Type", "text/plain"), ("X-Own", "x")])
    answer = client.get("/v2/", headers={"Authorization": "Bearer abc"})
    assert (answer.status_code, answer.data) == (200, b"{}")
    assert answer.content_type == "application/json"
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert source.calls[0].request.authorization == "Bearer abc"
    assert (source.read, source.closed) == (0, 1)


def test_a_registry_that_cannot_be_reached(client: FlaskClient, source: FakeSource) -> None:
    """503, as OCI JSON, and when to come back."""
    source.error = UpstreamUnavailable("registry.example cannot be reached")
    answer = client.get("/v2/")
    assert answer.status_code == 503
    assert answer.get_json()["errors"][0]["code"] == "UNAVAILABLE"
    assert int(answer.headers["Retry-After"]) > 0


def test_a_host_that_can_be_no_url(client: FlaskClient, source: FakeSource) -> None:
    """No realm can be made: 400, and no registry is asked."""
    source.answers(REFUSED, status=401, challenges=[BEARER])
    answer = client.get("/v2/", headers={"Host": 'a"b'})
    assert answer.status_code == 400
    assert answer.get_json()["errors"][0]["message"] == "invalid Host header"
    assert "WWW-Authenticate" not in answer.headers
    assert (source.calls, source.closed) == ([], 0)
