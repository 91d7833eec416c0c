"""The tokens of a managed registry: how many are asked for, when, and what comes of a refusal."""

import base64
import contextlib
import itertools
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import programs
from tests.hub.gates import Gate
from tests.hub.hub import Hub
from tests.integration.credentials.street import ACCEPT, PRIVATE, PUBLIC, QUAY
from tests.servers import Docxy, docxy, wait_until
from tests.tables import write_config
from tests.wire.client import Client

pytestmark = pytest.mark.integration

WORKERS = 2
CLIENTS = 40
WRONG = "not-the-password"
_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def lone_hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        hub.limit = hub.user_limit = None
        yield hub


@pytest.fixture(scope="session")
def proxy(
    lone_hub: Hub, hubs: Mapping[str, Hub], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Docxy]:
    login: dict[str, Any] = {"credentials": "managed", "username": "alice"}
    rows = [
        lone_hub.row("docker.io", password=lone_hub.users["alice"].password, **login),
        lone_hub.row("wrong.test", password=WRONG, **login),
        hubs[QUAY].row("basic.test", password=WRONG, **login),
    ]
    path = write_config(tmp_path_factory.mktemp("tokens") / "docxy.toml", rows)
    with docxy(workers=WORKERS, DOCXY_CONFIG=str(path), DOCXY_LOG_LEVEL="debug") as proxy:
        yield proxy
        written = base64.b64encode(f"alice:{WRONG}".encode()).decode()
        assert [secret for secret in (WRONG, written, "alicepw") if secret in proxy.log] == []


@pytest.fixture
def hub(lone_hub: Hub) -> Iterator[Hub]:
    lone_hub.reset()
    yield lone_hub
    lone_hub.reset()


@pytest.fixture
def repository(hub: Hub) -> str:
    """Return a private repository for which no token has been got yet."""
    name = f"fresh/number{next(_NUMBERS)}"
    hub.push(name, hub.image(PUBLIC, "1"), ["1"])
    hub.make_private(name)
    return name


def manifest(proxy: Docxy, repository: str) -> requests.Response:
    url = f"{proxy.url}/v2/{repository}/manifests/1"
    return requests.get(url, headers={"Accept": ACCEPT}, timeout=20)


def ask_at_once(proxy: Docxy, repository: str, gate: Gate) -> list[int]:
    """Let many clients ask while the gate holds the token server; return what they were told."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(proxy.host)) for _ in range(CLIENTS)]
        for client in clients:
            fields = (f"Accept: {ACCEPT}", "Authorization: Bearer of-the-client")
            client.ask(f"/v2/{repository}/manifests/1", *fields)
        wait_until(lambda: gate.arrived > 0, what="a token request")
        for _ in range(2 * WORKERS):  # what came before them has been read
            assert requests.get(f"{proxy.url}/health", timeout=20).status_code == 200
        gate.open()
        return [client.answer().status for client in clients]


def test_one_token_for_all_who_wait(proxy: Docxy, hub: Hub, repository: str) -> None:
    """Each worker asks once for a scope, with the account, and the crowd shares what comes.

    Before that, each has proven the account once, without a scope.
    """
    with Gate() as gate:
        hub.fail(part="token", times=None, gate=gate)
        assert ask_at_once(proxy, repository, gate) == [200] * CLIENTS
    logins = [record for record in hub.select("token") if "scope" not in record.query]
    asked = [record for record in hub.select("token") if "scope" in record.query]
    assert len(logins) <= WORKERS
    assert 1 <= len(asked) <= WORKERS
    for record in logins:
        assert record.headers["Authorization"].startswith("Basic ")
    for record in asked:
        assert record.query["scope"] == [f"repository:{repository}:pull"]
        assert record.query["service"] == [hub.service]
        assert record.headers["Authorization"].startswith("Basic ")
    shown = {record.headers["Authorization"] for record in hub.select("registry", "GET", "/fresh/")}
    assert len(shown) == len(asked)
    assert hub.count("registry", path="/fresh/", status=401) == 0


def test_one_failure_for_all_who_wait(proxy: Docxy, hub: Hub, repository: str) -> None:
    """A token server that fails is asked by one of them, and all are told to come again."""
    with Gate() as gate:
        hub.fail(part="token", times=None, gate=gate, status=500)
        assert ask_at_once(proxy, repository, gate) == [503] * CLIENTS
    assert 1 <= hub.count("token") <= WORKERS * 4  # each tries again three times


def test_one_renewal_for_all_who_are_refused(proxy: Docxy, hub: Hub, repository: str) -> None:
    """A token that the registry has had enough of is renewed once, and nobody notices."""
    for _ in range(4 * WORKERS):
        assert manifest(proxy, repository).status_code == 200
    had = hub.count("token")
    hub.advance(100_000)
    hub.forget()
    with Gate() as gate:
        hub.fail(part="token", times=None, gate=gate)
        assert ask_at_once(proxy, repository, gate) == [200] * CLIENTS
    assert 1 <= hub.count("token") <= WORKERS
    assert had <= WORKERS
    assert hub.count("registry", "GET", "/fresh/", status=401) >= 1


def test_a_token_is_renewed_before_it_expires(proxy: Docxy, hub: Hub, repository: str) -> None:
    """The registry never sees one that is too old, however short their lives are."""
    hub.expire_tokens_after(3)
    try:

        def renewed() -> bool:
            assert manifest(proxy, repository).status_code == 200
            return hub.count("token") > WORKERS

        wait_until(renewed, what="a renewal")
    finally:
        hub.expire_tokens_after(300)
    assert hub.count("registry", path="/fresh/", status=401) == 0


def test_a_refusal_is_final(proxy: Docxy, hub: Hub) -> None:
    """What the account may not read costs one more token and one more question, not a circle."""
    hub.push("mallory/secret", hub.image(PUBLIC, "1"), ["1"])
    hub.fail(part="registry", method="GET", path="/mallory/", status=401, times=None, headers={
        "WWW-Authenticate": f'Bearer realm="{hub.token_url}",service="{hub.service}"'
    })  # fmt: skip
    answer = manifest(proxy, "mallory/secret")
    assert answer.status_code == 403
    assert "WWW-Authenticate" not in answer.headers
    assert hub.count("registry", path="/mallory/") == 2
    assert hub.count("token") <= 2


def test_a_wrong_password(proxy: Docxy, hub: Hub) -> None:
    """It is this proxy's fault and told so, without a secret; the token server is left alone."""
    for _ in range(30):
        answer = manifest(proxy, f"wrong.test/{PRIVATE}")
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["code"]) == (502, "UNAVAILABLE")
        assert "own credentials" in error["message"]
        assert "alice" not in answer.text
        assert WRONG not in answer.text
        assert "WWW-Authenticate" not in answer.headers
    # Each worker asks for the repository, and then without a scope; others may have done so before.
    assert hub.count("token") <= 2 * WORKERS
    assert hub.count("registry", path=PRIVATE) == 0


def test_a_wrong_password_at_a_registry_without_tokens(
    proxy: Docxy, hubs: Mapping[str, Hub]
) -> None:
    """Nothing is read, no client is asked for a login, and the registry is left alone."""
    hubs[QUAY].reset()
    for number in range(20):
        answer = manifest(proxy, f"basic.test/some/name{number}")
        assert answer.status_code == 502
        assert "WWW-Authenticate" not in answer.headers
        assert WRONG not in answer.text
    shown = [one for one in hubs[QUAY].requests if "Authorization" in one.headers]
    assert 1 <= len(shown) <= 2 * WORKERS  # each shows it for a repository, and to the ping
    hubs[QUAY].reset()


def test_a_wrong_password_for_many_repositories(proxy: Docxy, hub: Hub) -> None:
    """Registries lock accounts that fail too often, and any client can ask for any name."""
    for number in range(40):
        assert manifest(proxy, f"wrong.test/some/name{number}").status_code == 502
    assert hub.count("token") <= 2 * WORKERS
    told = [line for line in proxy.log.splitlines() if " ERROR " in line]
    assert any(
        "wrong.test" in line and "rejected this proxy's credentials" in line for line in told
    )


def test_a_new_password(hub: Hub, tmp_path: Path) -> None:
    """SIGHUP takes what stands in password_file by then, and says nothing of it."""
    secret = tmp_path / "password"
    secret.write_text(f"{WRONG}\n")
    row = hub.row("docker.io", credentials="managed", username="alice", password_file=str(secret))
    path = write_config(tmp_path / "docxy.toml", [row])
    with docxy(workers=1, DOCXY_CONFIG=str(path), DOCXY_LOG_LEVEL="debug") as proxy:
        assert manifest(proxy, PRIVATE).status_code == 502
        secret.write_text(f"{hub.users['alice'].password}\r\n")
        proxy.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: manifest(proxy, PRIVATE).status_code == 200, what="the new password")
        secret.unlink()
        proxy.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Reload refused" in proxy.log, what="the refusal to reload")
        assert manifest(proxy, PRIVATE).status_code == 200
        assert "password_file" in proxy.log
        assert [text for text in (WRONG, "alicepw", "Traceback") if text in proxy.log] == []
