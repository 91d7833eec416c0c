"""Managed registries: clients need nothing, and what they send is for this proxy alone."""

import re
from pathlib import Path

import pytest

from tests.integration.credentials.street import (
    BY_DEFAULT,
    DOCKER,
    GHCR,
    PRIVATE,
    PUBLIC,
    QUAY,
    Address,
    Street,
    by_host,
    by_ns,
    by_prefix,
)

pytestmark = pytest.mark.integration

NOBODY = "nobody.test"
STRANGER = "stranger.test"
ALL = [
    pytest.param(BY_DEFAULT, id="default"),
    *(
        pytest.param(way(row), id=f"{row} {way.__name__}")
        for row in (GHCR, QUAY)
        for way in (by_prefix, by_ns, by_host)
    ),
]


@pytest.mark.parametrize("address", ALL)
def test_no_login_and_no_token(managed: Street, address: Address) -> None:
    """Everything private is read by whoever comes, and the ping asks for nothing."""
    hub = managed.hubs[address.row]
    ping, *reads = address.reads(hub, PRIVATE)
    for ask in (ping, *reads):
        answer = managed.send(ask)
        assert answer.status_code == 200, ask
        assert "WWW-Authenticate" not in answer.headers
    answer = managed.send(address.read(PRIVATE, "manifests/1"))
    assert answer.content == hub.image(PRIVATE, "1").body
    others = [name for name in managed.hubs if name != address.row]
    assert [managed.hubs[name].requests for name in others] == [[], []]
    assert hub.count("token", "POST") == 0


@pytest.mark.parametrize("address", ALL)
def test_who_insists_gets_a_token_that_says_nothing(managed: Street, address: Address) -> None:
    """No token server is asked, not even with the right login, and the token does no harm."""
    shown = managed.basic(address.row, "carol")
    login = ("grant_type=password", "username=carol", "password=carolpw-at-all")
    asks = (address.token("account=carol"), address.post(*login))
    answers = [managed.send(ask, Authorization=shown) for ask in asks]
    for answer in answers:
        assert answer.status_code == 200
        for name in ("token", "access_token"):
            assert "docxy.none" in answer.json()[name]
        assert "refresh_token" not in answer.json()
        assert managed.asked() == []
    token = answers[0].json()["token"]
    read = address.read(PRIVATE, "manifests/1")
    assert managed.send(read, Authorization=f"Bearer {token}").status_code == 200


@pytest.mark.parametrize("address", ALL)
def test_what_clients_send_stays_here(managed: Street, address: Address) -> None:
    """No login, token or cookie of a client's goes up, however it is written."""
    for secret in ("of-the-client", "b2YtdGhlLWNsaWVudA=="):
        managed.ledger.note(secret)
    shapes = [
        "Basic YWxpY2U6b2YtdGhlLWNsaWVudA==",
        "Bearer of-the-client",
        f"Bearer {address.row}~of-the-client",
        "Bearer ghcr.io~of-the-client",
        "Bearer docxy.basic.YWxpY2U6b2YtdGhlLWNsaWVudA==",
        "Bearer  of-the-client",
        "Negotiate of-the-client",
        "Basic of-the-client,Bearer of-the-client",
        "of-the-client",
    ]
    for shape in shapes:
        for ask in address.reads(managed.hubs[address.row], PRIVATE):
            answer = managed.send(ask, Authorization=shape, Cookie="a=of-the-client")
            assert answer.status_code == 200, (ask, shape)
    assert managed.got("of-the-client") == set()


@pytest.mark.parametrize("row", [NOBODY, STRANGER])
def test_as_nobody(managed: Street, row: str) -> None:
    """Without an account only what is public is read, whatever login a client has."""
    name = {NOBODY: GHCR, STRANGER: QUAY}[row]
    hub, address = managed.hubs[name], by_prefix(row)
    for shown in ({}, {"Authorization": managed.basic(name, "carol")}):
        answer = managed.send(address.read(PUBLIC, "manifests/1"), **shown)
        assert answer.status_code == (200 if row == NOBODY else 403)
        answer = managed.send(address.read(PRIVATE, "manifests/1"), **shown)
        assert answer.status_code == 403
        assert "WWW-Authenticate" not in answer.headers
        assert hub.image(PRIVATE, "1").body not in answer.content
    assert managed.got(hub.users["alice"].password) == set()
    assert managed.got("carolpw-at-all") == set()


def test_accounts_do_not_mix(managed: Street) -> None:
    """Two rows of one registry have a token each: nobody's is not the account's."""
    private = [by_prefix(row).read(PRIVATE, "manifests/1") for row in (GHCR, NOBODY, GHCR, NOBODY)]
    assert [managed.send(ask).status_code for ask in private] == [200, 403, 200, 403]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("row", "there"), [(DOCKER, GHCR), (GHCR, DOCKER), (DOCKER, QUAY), (QUAY, DOCKER)]
)
def test_no_account_follows_a_redirect(managed: Street, row: str, there: str, method: str) -> None:
    """The account stays, and the other registry's own account is not used for it either."""
    here, other = managed.hubs[row], managed.hubs[there]
    address = BY_DEFAULT if row == DOCKER else by_prefix(row)
    blob = f"blobs/{next(iter(other.image(PRIVATE, '1').all_blobs))}"
    for name, rest in ((PRIVATE, "manifests/1"), (PRIVATE, blob), (PUBLIC, "manifests/1")):
        target = f"{other.url}/v2/{name}/{rest}"
        here.fail(part="registry", path="/manifests/", status=307, headers={"Location": target})
        answer = managed.send(address.read(PRIVATE, "manifests/1", method))
        readable = name == PUBLIC and there != QUAY
        assert answer.status_code == (200 if readable else 403)
        assert "WWW-Authenticate" not in answer.headers
    assert managed.got(here.users["alice"].password) <= {row}
    assert managed.got(other.users["alice"].password) == set()
    for record in other.select("token"):
        assert "Authorization" not in record.headers
        assert "account" not in record.query


def test_the_start_warns(managed: Street) -> None:
    """Each worker says of each account what whoever reaches the proxy can read."""
    warned = re.findall(r"WARNING Any client can pull .* registry=(\S+)", managed.proxy.log)
    assert {row: warned.count(row) for row in warned} == {DOCKER: 2, GHCR: 2, QUAY: 2}


def test_passwords_are_nowhere(managed: Street) -> None:
    """Neither in the log at debug level, nor in what is answered, nor in any command line."""
    passwords = [managed.hubs[name].users["alice"].password for name in (DOCKER, GHCR, QUAY)]
    told = []
    for path in ("/health", "/health?upstream", "/v2/", "/v2/none.test/x/manifests/1", "/x"):
        answer = managed.session.get(f"{managed.proxy.url}{path}", timeout=20)
        told.append(f"{answer.headers}{answer.text}")
    pids = re.findall(r"Booting worker with pid: (\d+)", managed.proxy.log)
    assert len(pids) == 2
    pids.append(str(managed.proxy.server.process.pid))
    told += [Path(f"/proc/{pid}/cmdline").read_text(errors="replace") for pid in pids]
    assert "gunicorn" in told[-1]
    text = "\n".join([*told, managed.proxy.log])
    assert [password for password in passwords if password in text] == []
    assert "alicepw" not in text
