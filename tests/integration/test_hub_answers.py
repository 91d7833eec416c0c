import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests import programs
from tests.hub.accounts import default_users
from tests.hub.content import default_content
from tests.hub.gates import Gate
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX
from tests.integration.asking import ALPINE, LATEST, PRIVATE, Client, stranger_at
from tests.servers import wait_until
from tests.tables import write_config

pytestmark = [pytest.mark.integration, pytest.mark.rig]

SCOPE = "repository:library/alpine:pull"
COOKIE = "seen=1; Path=/; Secure"


@pytest.fixture(scope="module")
def shared_hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        yield hub


@pytest.fixture
def client(shared_hub: Hub) -> Iterator[Client]:
    shared_hub.reset()
    with stranger_at(shared_hub) as client:
        yield client
    shared_hub.reset()


# Cookies


def test_cookie(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part sets it, also with a refusal, and a record shows who brings it back."""
    hub = client.hub
    monkeypatch.setattr(hub, "cookie", COOKIE)
    token = client.token(SCOPE)
    refused = client.get(LATEST)
    client.bear(token.json()["token"])
    digest = next(iter(hub.image("library/alpine", "latest").all_blobs))
    served, moved = client.get(LATEST), client.get(f"{ALPINE}/blobs/{digest}")
    client.log_out()
    cdn = client.get(moved.headers["Location"])
    region = client.get(f"{hub.region_url}{LATEST}")
    answers = [token, refused, served, moved, cdn, region]
    assert [answer.status_code for answer in answers] == [200, 401, 200, 307, 200, 200]
    assert [answer.headers["Set-Cookie"] for answer in answers] == [COOKIE] * 6
    assert ["Cookie" in record.headers for record in hub.requests][:2] == [False, True]


def test_no_cookie(client: Client) -> None:
    """Usually there is none."""
    assert "Set-Cookie" not in client.get(LATEST).headers
    assert "Set-Cookie" not in client.token(SCOPE).headers


# Token answers


@pytest.mark.parametrize(
    "fields",
    [
        {"token"},
        {"access_token"},
        {"token", "expires_in"},
        {"access_token", "expires_in", "issued_at"},
        {"token", "access_token", "expires_in", "issued_at"},
        {"token", "of no meaning"},
    ],
)
def test_token_fields(client: Client, monkeypatch: pytest.MonkeyPatch, fields: set[str]) -> None:
    """The answer has the fields that it is to have, as far as there are such, and is good."""
    monkeypatch.setattr(client.hub, "token_fields", fields)
    reply = client.token(SCOPE).json()
    assert set(reply) == fields - {"of no meaning"}
    client.bear(reply.get("token") or reply["access_token"])
    assert client.get(LATEST).status_code == 200


def test_token_fields_of_a_post(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a POST stays as it is."""
    monkeypatch.setattr(client.hub, "token_fields", {"token"})
    form = {"client_id": "t", "grant_type": "password", "username": "bob", "password": "bobpw"}
    reply = client.session.post(client.hub.token_url, data=form, timeout=10).json()
    assert set(reply) == {"access_token", "scope", "expires_in", "issued_at"}


# Gates


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def ask(pool: ThreadPoolExecutor, hub: Hub) -> Future[int]:
    """Ask for a token in another thread."""

    def token() -> int:
        with stranger_at(hub) as client:
            return client.token(SCOPE).status_code

    return pool.submit(token)


def test_gate_opens(client: Client, pool: ThreadPoolExecutor) -> None:
    """Answers wait for a test, and others do not."""
    hub, gate = client.hub, Gate()
    hub.fail(part="token", times=None, gate=gate)
    waiting = [ask(pool, hub), ask(pool, hub)]
    wait_until(lambda: gate.arrived == 2)
    assert client.get(LATEST).status_code == 401
    assert [record.status for record in hub.select("token")] == [0, 0]
    gate.open()
    assert [answer.result(10) for answer in waiting] == [200, 200]
    assert client.token(SCOPE).status_code == 200
    assert gate.arrived == 3


def test_gate_opens_for_a_number(client: Client, pool: ThreadPoolExecutor) -> None:
    """The last one that is waited for brings the others through, and itself."""
    hub, gate = client.hub, Gate(arrivals=2)
    hub.fail(part="token", times=None, gate=gate)
    first = ask(pool, hub)
    wait_until(lambda: gate.arrived == 1)
    assert not gate.is_open
    assert ask(pool, hub).result(10) == 200
    assert first.result(10) == 200


def test_gate_opens_at_the_end_of_its_block(client: Client, pool: ThreadPoolExecutor) -> None:
    """A test that fails leaves nobody waiting."""
    with Gate() as gate:
        client.hub.fail(part="token", gate=gate)
        waiting = ask(pool, client.hub)
        wait_until(lambda: gate.arrived == 1)
    assert waiting.result(10) == 200


def test_gate_with_another_fault(client: Client) -> None:
    """What comes after the gate may be anything."""
    with Gate(arrivals=1) as gate:
        client.hub.fail(part="token", gate=gate, status=503)
        assert client.token(SCOPE).status_code == 503


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_gate_in_a_body(client: Client, *, chunked: bool) -> None:
    """So many bytes pass, and the rest follows when the gate opens."""
    client.log_in("library/alpine")
    whole = client.get(LATEST, Accept=OCI_INDEX).content
    with Gate() as gate:
        client.hub.fail(part="registry", gate=gate, hold_after=100, chunked=chunked)
        url, accept = f"{client.hub.url}{LATEST}", {"Accept": OCI_INDEX}
        with client.session.get(url, headers=accept, timeout=10, stream=True) as answer:
            pieces = answer.iter_content(1)
            begun = b"".join(next(pieces) for _ in range(100))
            wait_until(lambda: gate.arrived == 1)  # the bytes leave before it does
            gate.open()
            assert begun + b"".join(pieces) == whole


def test_client_leaves_the_gate(client: Client) -> None:
    """Nothing is answered to those who have gone."""
    with Gate() as gate:
        client.hub.fail(part="registry", gate=gate)
        with pytest.raises(requests.exceptions.ReadTimeout):
            client.session.get(f"{client.hub.url}{LATEST}", timeout=0.1)
        wait_until(lambda: gate.arrived == 1)
    assert client.get(LATEST).status_code == 401
    assert client.hub.select("registry")[0].status in {0, 401}


def test_hub_closes_with_a_closed_gate(pool: ThreadPoolExecutor) -> None:
    """It waits for nobody."""
    programs.require("docker-registry")
    gate = Gate()
    with Hub(content=tuple) as hub:
        hub.fail(part="token", gate=gate)
        waiting = ask(pool, hub)
        wait_until(lambda: gate.arrived == 1)
        begin = time.monotonic()
    assert time.monotonic() - begin < 5
    assert waiting.exception(10) is None or isinstance(
        waiting.exception(), requests.exceptions.ConnectionError
    )


# Hubs that differ


def test_the_same_names_elsewhere(client: Client) -> None:
    """Another hub has the same repositories and users, with other images and passwords."""
    hub = client.hub
    other_hub = Hub(
        users=default_users("2"), content=lambda: default_content("2"), listen="127.0.0.2"
    )
    with other_hub as other, stranger_at(other) as guest:
        assert other.url.startswith("https://127.0.0.2:")
        assert set(other.users) == set(hub.users)
        for asking, right, wrong in (
            (client, "alicepw", "alicepw2"),
            (guest, "alicepw2", "alicepw"),
        ):
            assert asking.token(SCOPE, auth=("alice", wrong)).status_code == 401
            asking.log_in("alice/private", auth=("alice", right))
        bodies = {asking.get(PRIVATE).content for asking in (client, guest)}
        assert bodies == {one.image("alice/private", "1").body for one in (hub, other)}
        assert len(bodies) == 2


def test_row(shared_hub: Hub, tmp_path: Path) -> None:
    """A hub knows its row in Docxy's table, which a file takes as it is."""
    hub = shared_hub
    short: dict[str, object] = {
        "name": "ghcr.test",
        "url": hub.url,
        "ca_bundle": str(hub.ca_bundle),
        "allow_private": True,
    }
    whole = short | {"token_url": hub.token_url, "token_service": hub.service}
    assert hub.row("ghcr.test") == whole
    assert hub.row("ghcr.test", discovered=True) == short
    row = hub.row("ghcr.test", username="alice", allow_private=False, aliases=["ghcr"])
    assert row == whole | {"username": "alice", "allow_private": False, "aliases": ["ghcr"]}
    path = write_config(tmp_path / "docxy.toml", [row, short], log_level="debug")
    assert tomllib.loads(path.read_text()) == {"log_level": "debug", "registries": [row, short]}
