"""What belongs to one registry never arrives at another, in whatever way it is addressed.

The fixture `street` looks after each test for every secret at every registry.
"""

import pytest

from tests.integration.credentials.street import (
    BY_DEFAULT,
    DOCKER,
    GHCR,
    PRIVATE,
    QUAY,
    Address,
    Street,
    by_host,
    by_ns,
    by_prefix,
)
from tests.pairs import pairs

pytestmark = pytest.mark.integration

ALL = [
    BY_DEFAULT,
    by_prefix(DOCKER),
    by_ns(DOCKER),
    *(way(row) for row in (GHCR, QUAY) for way in (by_prefix, by_ns, by_host)),
]
PREFIXES = [pytest.param(by_prefix(row), id=row) for row in (GHCR, QUAY)]


def send_all(
    street: Street, address: Address, *fields: str, **headers: str
) -> list[tuple[str, int]]:
    """Ask for everything, for tokens with some fields more; return what came of it."""
    asks = [*address.reads(street.hubs[address.row]), address.token(*fields), address.post(*fields)]
    return [(ask.target, street.send(ask, **headers).status_code) for ask in asks]


# Logins


@pytest.mark.parametrize("address", PREFIXES)
def test_a_login_stays_with_the_default_registry(street: Street, address: Address) -> None:
    """By prefix, the host's login goes nowhere, and a public image is pulled as nobody."""
    password = street.hubs[DOCKER].users["alice"].password
    fields = ("account=alice", "username=alice", f"password={password}", "grant_type=password")
    answers = send_all(street, address, *fields, Authorization=street.basic(DOCKER, "alice"))
    assert answers[-1][1] == answers[-2][1] == 200  # a token for nobody in particular
    assert street.got(password) == set()
    records = [record for hub in street.hubs.values() for record in hub.requests]
    assert [record for record in records if "Authorization" in record.headers] == []
    assert {record.method for record in records if record.part == "token"} <= {"GET"}
    assert [
        name
        for record in records
        for name in {*record.query, *record.body}
        if name not in {"scope", "service", "client_id"}
    ] == []


@pytest.mark.parametrize(
    "address",
    [BY_DEFAULT, *(way(row) for row in (GHCR, QUAY) for way in (by_ns, by_host))],
    ids=str,
)
def test_a_login_goes_to_its_registry(street: Street, address: Address) -> None:
    """Where it is the registry's own, it arrives there, and nowhere else."""
    password = street.hubs[address.row].users["alice"].password
    fields = ("account=alice", "username=alice", f"password={password}", "grant_type=password")
    answers = send_all(street, address, *fields, Authorization=street.basic(address.row, "alice"))
    assert street.got(password) == {address.row}
    assert [status for target, status in answers if "/auth/" in target] == [200, 200]


def test_a_host_with_a_dot_at_its_end(street: Street) -> None:
    """It is the same host (RFC 1034, section 3.1), and so the same registry's login."""
    address = Address(GHCR, host=f"{by_host(GHCR).host}.")
    answer = street.send(address.token("account=alice"), Authorization=street.basic(GHCR, "alice"))
    assert answer.status_code == 200
    street.note(answer, GHCR)
    assert street.got(street.hubs[GHCR].users["alice"].password) == {GHCR}


@pytest.mark.parametrize(
    "name", ["access_token", "client_secret", "assertion", "Password", "token"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_secret_by_another_name(street: Street, name: str, method: str) -> None:
    """By prefix, without prefix_login, only what asks for a token goes up."""
    secret = street.ledger.note("secret-by-another-name", DOCKER)
    for row in (GHCR, QUAY):
        address = by_prefix(row)
        fields = ("grant_type=password", f"{name}={secret}")
        answer = street.send(address.token(*fields) if method == "GET" else address.post(*fields))
        assert answer.status_code == 200
        street.note(answer, row)
    assert street.got(secret) == set()


@pytest.mark.parametrize("row", ["login.test", "basic.test"])
def test_a_login_by_prefix_where_the_row_says_so(street: Street, row: str) -> None:
    """With prefix_login it buys a tagged token, which opens what the user may read there."""
    address, name = by_prefix(row), {"login.test": GHCR, "basic.test": QUAY}[row]
    hub = street.hubs[name]
    shown = {"Authorization": street.basic(DOCKER, "carol")}
    answer = street.send(address.token("account=carol", repository=PRIVATE), **shown)
    token = answer.json()["token"]
    street.note(answer, name)
    assert token.startswith(f"{row}~")
    assert street.got(hub.users["carol"].password) == {name}
    read = address.read(PRIVATE, "manifests/1")
    pulled = street.send(read, Authorization=f"Bearer {token}")
    assert (pulled.status_code, pulled.content) == (200, hub.image(PRIVATE, "1").body)
    street.forget()
    assert street.send(address.ping(), Authorization=f"Bearer {token}").status_code == 401
    assert street.asked() == []  # without a name it is the default registry's ping


@pytest.mark.parametrize("row", ["login.test", "basic.test"])
@pytest.mark.parametrize("ask", ["GET", "POST"])
def test_no_refresh_token_by_prefix(street: Street, row: str, ask: str) -> None:
    """The host's refresh token is the default registry's, also where passwords are shared."""
    kept = street.refresh_token(BY_DEFAULT, "carol")
    street.forget()
    address = by_prefix(row)
    fields = ("grant_type=refresh_token", f"refresh_token={kept}")
    asked = address.post(*fields) if ask == "POST" else address.token(*fields)
    answer = street.send(asked)
    assert answer.status_code == 200
    assert "refresh_token" not in answer.json()
    assert street.got(kept) == set()


# Tokens


@pytest.mark.parametrize("address", ALL, ids=str)
@pytest.mark.parametrize("owner", [GHCR, QUAY, "login.test"])
def test_a_tagged_token_goes_home_or_nowhere(street: Street, address: Address, owner: str) -> None:
    """Elsewhere it is answered 401 with this proxy's challenge, and nobody is asked."""
    secret = street.ledger.note(f"made-up-{owner}", owner)
    shown = {"Authorization": f"Bearer {owner}~{secret}"}
    hub = street.hubs[address.row]
    for ask in [*address.reads(hub), address.token(), address.post()]:
        street.forget()
        answer = street.send(ask, **shown)
        is_ping_of_default = address.prefix and ask.path == "/v2/"
        if owner == address.row and not is_ping_of_default:
            is_about_tokens = ask.path == "/auth/token"  # where a token buys nothing
            assert street.got(secret) == {owner} or is_about_tokens, ask
            continue
        assert answer.status_code == 401, ask
        assert street.asked() == []
        challenge = answer.headers["WWW-Authenticate"]
        realm = f"http://{ask.host or street.proxy.host}/auth/token"
        where = f"?ns={address.ns}" if address.ns else ""
        assert challenge.startswith(f'Bearer realm="{realm}{where}",')
        if ask.path.startswith("/v2/") and ask.path != "/v2/":
            assert f'scope="{address.scope("owner/app")}"' in challenge


def test_a_mark_of_a_row_that_is_gone(street: Street) -> None:
    """What clients have kept of a registry that was taken out of the table goes nowhere."""
    secret = street.ledger.note("of-a-row-that-is-gone")
    for address in (BY_DEFAULT, by_ns(GHCR), by_host(QUAY)):
        fields = ("grant_type=refresh_token", f"refresh_token=gone.test~{secret}")
        shown = {"Authorization": f"Bearer gone.test~{secret}"}
        answers = [
            street.send(address.read(PRIVATE, "manifests/1"), **shown),
            street.send(address.post(*fields)),
            street.send(address.token(*fields)),
        ]
        assert [answer.status_code for answer in answers] == [401, 200, 200]
    assert street.got(secret) == set()


@pytest.mark.parametrize(
    "address", [way(row) for row in (GHCR, QUAY) for way in (by_prefix, by_ns)], ids=str
)
def test_an_untagged_token_goes_to_the_default_registry_only(
    street: Street, address: Address
) -> None:
    """It was got at this host, and so for its default registry."""
    token = street.token(BY_DEFAULT, "alice")
    assert "~" not in token
    street.forget()
    for ask in address.reads(street.hubs[address.row]):
        if address.prefix and ask.path == "/v2/":
            continue
        answer = street.send(ask, Authorization=f"Bearer {token}")
        assert answer.status_code == 401
        assert street.proxy.host in answer.headers["WWW-Authenticate"]
    assert street.asked() == []
    assert street.send(BY_DEFAULT.read(PRIVATE, "manifests/1")).status_code == 401
    assert street.send(BY_DEFAULT.ping(), Authorization=f"Bearer {token}").status_code == 200
    assert street.got(token) == {DOCKER}


def test_hosts_have_defaults_of_their_own(street: Street) -> None:
    """At a registry's own host its tokens are bare, and the proxy's default is a stranger."""
    token = street.token(by_host(GHCR), "alice", repository=PRIVATE)
    assert "~" not in token
    read = by_host(GHCR).read(PRIVATE, "manifests/1")
    assert street.send(read, Authorization=f"Bearer {token}").status_code == 200
    there = Address(DOCKER, ns=DOCKER, host=by_host(GHCR).host)
    tagged = street.token(there, "alice", repository=PRIVATE)
    assert tagged.startswith(f"{DOCKER}~")
    street.forget()
    for address, shown in ((there, token), (by_host(GHCR), tagged), (by_host(QUAY), tagged)):
        answer = street.send(address.read(PRIVATE, "manifests/1"), Authorization=f"Bearer {shown}")
        assert answer.status_code == 401
    assert street.asked() == []
    read = there.read(PRIVATE, "manifests/1")
    assert street.send(read, Authorization=f"Bearer {tagged}").status_code == 200


@pytest.mark.parametrize(
    ("ask", "address", "owner"), pairs(["GET", "POST"], ALL, [DOCKER, GHCR, QUAY]), ids=str
)
def test_refresh_tokens(street: Street, address: Address, owner: str, ask: str) -> None:
    """They follow the rule of tokens, but those of others are dropped and not refused.

    A refusal would make containerd send them as a password.
    """
    secret = street.ledger.note(f"refresh-of-{owner}", owner)
    kept = secret if owner == DOCKER else f"{owner}~{secret}"
    if address.host and owner == DOCKER:
        kept = f"{owner}~{secret}"  # what is bare there is that registry's
    fields = ("grant_type=refresh_token", f"refresh_token={kept}")
    answer = street.send(address.post(*fields) if ask == "POST" else address.token(*fields))
    other_prefix = address.prefix and address.row != DOCKER
    if owner == address.row and not other_prefix:
        assert street.got(secret) == ({owner} if owner != QUAY else set())
    else:
        assert answer.status_code == 200
        assert street.got(secret) == set()


# Cookies


@pytest.mark.parametrize("address", ALL, ids=str)
def test_cookies(street: Street, address: Address) -> None:
    """No cookie goes up or comes down, nor from one registry's answer to the next request."""
    street.ledger.note("cookie-of-the-client")
    for name, hub in street.hubs.items():
        hub.cookie = f"session={street.ledger.note(f'cookie-of-{name}')}; Path=/"
    try:
        for _ in range(2):
            for ask in [*address.reads(street.hubs[address.row]), address.token(), address.post()]:
                answer = street.send(ask, Cookie="a=cookie-of-the-client; b=2")
                assert "Set-Cookie" not in answer.headers
        street.session.cookies.clear()
    finally:
        for hub in street.hubs.values():
            hub.cookie = None
    assert street.asked()
    seen = [record for hub in street.hubs.values() for record in hub.requests]
    assert [record for record in seen if "Cookie" in record.headers] == []
