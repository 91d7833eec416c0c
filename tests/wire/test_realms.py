"""Where a registry may send its clients for tokens: pinned, or on its own host over https."""

import json
from collections.abc import Iterator
from typing import Final

import pytest

from tests.servers import Docxy, docxy
from tests.tables import write_config
from tests.wire.client import Answer, Client
from tests.wire.upstream import Asked, Upstream, answering, playing, response
from tests.wire.wires import Certificates

LOGIN: Final = "Authorization: Basic YWxpY2U6c2VjcmV0LW9mLWFsaWNl"
SECRET: Final = LOGIN.rpartition(" ")[2]

# {port} is the registry's own; it answers to both of its names.
FOREIGN: Final = {
    "name": 'Bearer realm="https://localhost:{port}/token",service="s"',
    "plain": 'Bearer realm="http://127.0.0.1:{port}/token",service="s"',
    "suffix": 'Bearer realm="https://127.0.0.1.localhost:{port}/token"',
    "prefix": 'Bearer realm="https://evil-127.0.0.1:{port}/token"',
    "user": 'Bearer realm="https://127.0.0.1:{port}@localhost:{port}/token"',
    "own-user": 'Bearer realm="https://localhost@127.0.0.1:{port}/token"',
    "backslash": 'Bearer realm="https://localhost:{port}\\\\@127.0.0.1:{port}/token"',
    "fragment": 'Bearer realm="https://127.0.0.1:{port}/token#@localhost"',
    "space": 'Bearer realm="https://127.0.0.1:{port}/token x"',
    "relative": 'Bearer realm="/token"',
    "no-scheme": 'Bearer realm="//127.0.0.1:{port}/token"',
    "no-host": 'Bearer realm="https:///token"',
    "no-realm": 'Bearer service="s"',
    "empty": 'Bearer realm=""',
    "port": 'Bearer realm="https://127.0.0.1:99999/token"',
    "decimal": 'Bearer realm="https://2130706433:{port}/token"',
    "short": 'Bearer realm="https://127.1:{port}/token"',
    "dot": 'Bearer realm="https://127.0.0.1.:{port}/token"',
    "mapped": 'Bearer realm="https://[::ffff:127.0.0.1]:{port}/token"',
    "file": 'Bearer realm="file:///etc/passwd"',
    "capitals": 'bEARER REALM="https://LOCALHOST:{port}/token"',
    "after-basic": 'Basic realm="r", Bearer realm="https://localhost:{port}/token"',
    "before-basic": 'Bearer realm="https://localhost:{port}/token", Basic realm="r"',
    "twice": 'Bearer realm="https://127.0.0.1:{port}/token",realm="https://localhost:{port}/token"',
}
OWN: Final = {
    "own": 'Bearer realm="https://127.0.0.1:{port}/own/token",service="s"',
    "own-query": 'Bearer realm="https://127.0.0.1:{port}/own/token?a=b",service="s"',
    "own-either": 'Basic realm="r", Bearer realm="https://127.0.0.1:{port}/own/token",service="s"',
}


@pytest.fixture(scope="module")
def registry(certificates: Certificates) -> Iterator[Upstream]:
    with Upstream(certificates.context) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(
    registry: Upstream, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Docxy]:
    """Run Docxy before registries that are one, told apart by the path of their URL."""
    common = {"ca_bundle": str(certificates.ca_path), "allow_private": True}
    rows: list[dict[str, object]] = [
        {"name": f"{name}.test", "url": f"{registry.url}/{name}", **common}
        for name in {**OWN, **FOREIGN}
    ]
    pinned = {"token_url": f"{registry.url}/pinned/token", "token_service": "pinned"}
    rows.append({"name": "pinned.test", "url": f"{registry.url}/name", **common, **pinned})
    managed = {"credentials": "managed", "username": "alice", "password": "secret-of-alice"}
    rows.append({"name": "managed.test", "url": f"{registry.url}/name", **common, **managed})
    path = write_config(tmp_path_factory.mktemp("realms") / "docxy.toml", rows)
    with docxy(DOCXY_CONFIG=str(path), DOCXY_LOG_LEVEL="debug") as proxy:
        yield proxy
        assert [text for text in (SECRET, "secret-of-alice") if text in proxy.log] == []


@pytest.fixture
def asked(registry: Upstream) -> Iterator[list[Asked]]:
    """Let everybody be refused with the challenge of the path; return what is asked."""

    def answer(asked: Asked) -> bytes:
        name = asked.target.split("/")[1]
        if "/token" in asked.target:
            return response(b'{"token": "bought"}', "Content-Type: application/json")
        challenge = {**OWN, **FOREIGN}[name].format(port=registry.port)
        return response(b"", f"WWW-Authenticate: {challenge}", status="401 Unauthorized")

    with playing(registry):
        registry.play(answering(answer))
        yield registry.asked


def ask(proxy: Docxy, target: str, *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
    with Client(proxy.host) as client:
        return client.get(target, *fields, method=method, body=body)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_realm_gets_nothing(proxy: Docxy, asked: list[Asked], name: str) -> None:
    """No token request goes there, with a login or without; the error names the remedy."""
    ns = f"ns={name}.test"
    form = "Content-Type: application/x-www-form-urlencoded"
    answers = [
        ask(proxy, f"/v2/?{ns}"),
        ask(proxy, f"/v2/?{ns}", LOGIN),
        ask(proxy, f"/v2/owner/app/manifests/1?{ns}", LOGIN),
        ask(proxy, f"/v2/{name}.test/owner/app/manifests/1"),
        ask(proxy, f"/auth/token?{ns}&scope=repository:owner/app:pull", LOGIN),
        ask(
            proxy, f"/auth/token?{ns}", form, method="POST", body=b"grant_type=password&username=a"
        ),
    ]
    for answer in answers:
        assert answer.status == 502
        (error,) = json.loads(answer.body)["errors"]
        assert error["code"] == "UNAVAILABLE"
        assert f"{name}.test" in error["message"]
        assert "token_url" in error["message"]
        assert not answer.head.values("WWW-Authenticate")
        assert "localhost" not in answer.body.decode()
    assert [one.target for one in asked if "token" in one.target] == []
    # Only where a client showed it to the registry itself, at what it asked of it.
    shown = [one for one in asked if SECRET in one.raw.decode("latin-1")]
    assert {one.target for one in shown} <= {f"/{name}/v2/owner/app/manifests/1"}


def test_a_foreign_realm_gets_no_account(proxy: Docxy, asked: list[Asked]) -> None:
    """Nor does this proxy's own login go there, nor to the registry in its place."""
    answer = ask(proxy, "/v2/managed.test/owner/app/manifests/1")
    assert answer.status == 502
    assert b"token_url" in answer.body
    assert [one for one in asked if one.values("Authorization")] == []
    assert {one.target for one in asked} == {"/name/v2/"}


@pytest.mark.parametrize("name", OWN)
def test_its_own_host_is_trusted(proxy: Docxy, asked: list[Asked], name: str) -> None:
    """A realm there, or one of two challenges, is used as it is written, with its query."""
    answer = ask(proxy, f"/v2/owner/app/manifests/1?ns={name}.test")
    assert answer.status == 401
    (bearer,) = [one for one in answer.head.values("WWW-Authenticate") if "Bearer" in one]
    assert bearer.startswith(f'Bearer realm="http://{proxy.host}/auth/token?ns={name}.test"')
    assert "127.0.0.1:" not in bearer.replace(proxy.host, "")
    answer = ask(proxy, f"/auth/token?ns={name}.test&scope=repository:owner/app:pull", LOGIN)
    assert answer.status == 200
    assert json.loads(answer.body)["token"] == (
        "bought" if name == "own" else f"{name}.test~bought"
    )
    (token,) = [one for one in asked if "/token" in one.target]
    glue = "/own/token?a=b&" if name == "own-query" else "/own/token?"
    assert token.target == f"{glue}scope=repository%3Aowner%2Fapp%3Apull&service=s"
    assert token.value("Authorization") == LOGIN.partition(": ")[2]


def test_by_prefix_only_a_token_is_asked_for(proxy: Docxy, asked: list[Asked]) -> None:
    """Of two challenges, the one for a login that would go nowhere is left out."""
    answer = ask(proxy, "/v2/own-either.test/owner/app/manifests/1", LOGIN)
    (challenge,) = answer.head.values("WWW-Authenticate")
    assert challenge.startswith("Bearer ")
    assert [one for one in asked if one.values("Authorization")] == []


def test_a_pinned_service_is_the_only_one(proxy: Docxy, asked: list[Asked]) -> None:
    """What a challenge says of another one does not matter."""
    answer = ask(proxy, "/v2/owner/app/manifests/1?ns=pinned.test")
    assert answer.status == 401
    assert "localhost" not in answer.head.value("WWW-Authenticate")
    answer = ask(proxy, "/auth/token?ns=pinned.test&service=s&scope=repository:a/b:pull", LOGIN)
    assert answer.status == 200
    (token,) = [one for one in asked if "token" in one.target]
    assert token.target == "/pinned/token?scope=repository%3Aa%2Fb%3Apull&service=pinned"
