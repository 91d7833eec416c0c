"""One token request with scopes of several registries, or with scopes that only look so."""

from urllib.parse import quote

import pytest

from tests.hub.accounts import Scope
from tests.hub.record import Record
from tests.integration.credentials.street import (
    BY_DEFAULT,
    DOCKER,
    GHCR,
    PRIVATE,
    QUAY,
    Ask,
    Street,
    by_prefix,
)

pytestmark = pytest.mark.integration

OURS = "repository:library/alpine:pull"
GHCRS = "repository:ghcr.io/alice/private:pull"
QUAYS = "repository:quay.io/owner/app:pull"
_S = "service=registry.test"


def ask(written: str, method: str, ns: str | None = None) -> Ask:
    """Return a token request with this query or form, as it is written."""
    if method == "GET":
        return Ask("GET", "/auth/token", f"{written}&ns={ns}" if ns else written)
    return Ask("POST", "/auth/token", f"ns={ns}" if ns else "", f"{written}&client_id=t")


def token_requests(street: Street) -> dict[str, list[Record]]:
    """Return what came to each token server that was asked."""
    found = {name: hub.select("token") for name, hub in street.hubs.items()}
    return {name: records for name, records in found.items() if records}


def scopes(record: Record) -> list[str]:
    fields = record.body if record.method == "POST" else record.query
    return [one for value in fields.get("scope", []) for one in value.split()]


MIXED = [
    pytest.param(f"scope={OURS}&scope={GHCRS}", DOCKER, id="default first"),
    pytest.param(f"scope={GHCRS}&scope={OURS}", GHCR, id="other first"),
    pytest.param(f"scope={quote(f'{GHCRS} {OURS}')}", GHCR, id="in one field"),
    pytest.param(f"scope={OURS}+{GHCRS}", DOCKER, id="plus"),
    pytest.param(f"scope={OURS}%0a{GHCRS}", DOCKER, id="newline"),
    pytest.param(f"scope={OURS}%09{GHCRS}", DOCKER, id="tab"),
    pytest.param(f"scope={OURS}%00%20{GHCRS}", DOCKER, id="nul"),
    pytest.param(f"scope=&scope=%20&scope={GHCRS}&scope={OURS}", GHCR, id="empty first"),
    pytest.param(f"scope={quote(GHCRS, safe='')}&scope={OURS}", GHCR, id="encoded"),
    pytest.param(f"%73cope={GHCRS}&scope={OURS}", GHCR, id="encoded name"),
    pytest.param(f"scope={quote(quote(GHCRS, safe=''))}&scope={OURS}", DOCKER, id="encoded twice"),
    pytest.param(f"scope={GHCRS.replace('ghcr', 'GHCR')}&scope={OURS}", DOCKER, id="upper case"),
    pytest.param(f"scope={GHCRS.replace('.io', '.io:443')}&scope={OURS}", DOCKER, id="port"),
    pytest.param(f"scope={GHCRS.replace(':ghcr', '://ghcr')}&scope={OURS}", DOCKER, id="url"),
    pytest.param(f"scope={GHCRS.replace('ghcr.io', '../ghcr.io')}&scope={OURS}", DOCKER, id="dots"),
    pytest.param(f"scope={GHCRS.replace('repository', 'repository(plugin)')}", GHCR, id="class"),
    pytest.param(f"scope={GHCRS}&scope={QUAYS}&scope={OURS}", GHCR, id="three"),
    pytest.param(f"scope=registry:catalog:*&scope={GHCRS}&scope={OURS}", GHCR, id="not a name"),
    pytest.param(f"scope={OURS}&scope={GHCRS}&scope={GHCRS}&scope={OURS}", DOCKER, id="repeated"),
    pytest.param(f"scope=repository:evil.test/x:pull&scope={GHCRS}", GHCR, id="not served first"),
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("written", "row"), MIXED)
def test_the_first_scope_decides(street: Street, written: str, row: str, method: str) -> None:
    """One registry is asked, for its own scopes; the others' are dropped and told to nobody.

    The hub takes no POST without a login, and clients then come back with a GET.
    Whatever the scopes are, the host's login comes to the default registry or to nobody.
    """
    answer = street.send(ask(f"{written}&{_S}", method))
    assert answer.status_code == (200 if method == "GET" or row != DOCKER else 404), answer.text
    asked = token_requests(street)
    assert set(asked) == {row}
    others = ("ghcr", "quay", "evil", "owner/app", "alpine" if row == GHCR else "alice/private")
    for record in asked[row]:
        for scope in filter(Scope.from_text, scopes(record)):
            assert not any(name in scope.lower() for name in others), scope
        assert len(scopes(record)) == len(set(scopes(record)))
    if answer.status_code == 200:
        assert answer.json()["token"].startswith("ghcr.io~") == (row == GHCR)
    street.forget()
    secret = street.ledger.note("password-of-the-host", DOCKER)
    login = f"account=alice&grant_type=password&username=alice&password={secret}"
    shown = {"Authorization": street.basic(DOCKER, "alice")} if method == "GET" else {}
    street.send(ask(f"{written}&{_S}&{login}", method), **shown)
    assert street.got(secret) == ({DOCKER} if row == DOCKER else set())
    assert set(token_requests(street)) == {row}


@pytest.mark.parametrize("written", [value.values[0] for value in MIXED])
def test_ns_decides_before_all_scopes(street: Street, written: str) -> None:
    """A token is asked of the registry of the realm, and never with another one's names."""
    answer = street.send(ask(str(written), "GET", GHCR))
    assert answer.status_code == 200
    assert answer.json()["token"].startswith("ghcr.io~")
    (record,) = token_requests(street)[GHCR]
    assert set(token_requests(street)) == {GHCR}
    assert not any("ghcr" in scope for scope in filter(Scope.from_text, scopes(record)))


@pytest.mark.parametrize("ns", ["evil.test", "ghcr.io.evil.test", "ghcr.io%00", "127.0.0.1", "~"])
def test_a_realm_for_nobody(street: Street, ns: str) -> None:
    """A namespace that is not served is 404, with nothing asked and no login passed on."""
    for method in ("GET", "POST"):
        shown = {"Authorization": street.basic(DOCKER, "alice")}
        answer = street.send(ask(f"scope={OURS}", method, ns), **shown)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
    assert street.asked() == []


def test_the_union_of_containerd(street: Street) -> None:
    """What it wanted and what the challenge says, in two namings, are one scope upstream."""
    address = by_prefix(GHCR)
    refused = street.send(address.read(PRIVATE, "manifests/1", "HEAD"))
    challenge = refused.headers["WWW-Authenticate"]
    assert f'scope="{address.scope(PRIVATE)}"' in challenge
    street.forget()
    fields = f"scope={address.scope(PRIVATE)}&scope={address.scope(PRIVATE)}&{_S}"
    assert street.send(ask(fields, "GET")).status_code == 200
    (record,) = token_requests(street)[GHCR]
    assert record.query["scope"] == ["repository:alice/private:pull"]
    assert record.query["service"] == [street.hubs[GHCR].service]
    street.forget()
    both = quote("repository:alpine:pull repository:library/alpine:pull")
    assert street.send(ask(f"scope={both}&{_S}", "GET")).status_code == 200
    (record,) = token_requests(street)[DOCKER]
    assert record.query["scope"] == ["repository:library/alpine:pull"]


@pytest.mark.parametrize("order", [("GET", "/v2/"), ("GET", "/v2/ghcr.io/owner/app/manifests/1")])
def test_podman_by_prefix(street: Street, order: tuple[str, str]) -> None:
    """The default registry's challenge, and a scope by prefix, give a token that pulls there."""
    refused = street.send(Ask(*order))
    challenge = refused.headers["WWW-Authenticate"]
    assert challenge.startswith(f'Bearer realm="{street.proxy.url}/auth/token",service="')
    service = challenge.partition('service="')[2].partition('"')[0]
    query = f"service={quote(service)}&scope=repository:ghcr.io/owner/app:pull"
    answer = street.send(Ask("GET", "/auth/token", query))
    street.note(answer, GHCR)
    shown = {"Authorization": f"Bearer {answer.json()['token']}"}
    image = street.hubs[GHCR].image("owner/app", "1")
    street.forget()
    read = by_prefix(GHCR).read("owner/app", "manifests/1")
    assert street.send(read, **shown).content == image.body
    for digest, blob in image.all_blobs.items():
        content = street.send(by_prefix(GHCR).read("owner/app", f"blobs/{digest}"), **shown).content
        assert content == blob.data
    assert {name for name, hub in street.hubs.items() if hub.requests} == {GHCR}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_realm_keeps_its_query(street: Street, method: str) -> None:
    """The realm that names the registry is asked as it is written, by GET and by POST."""
    refused = street.send(Ask("HEAD", f"/v2/{PRIVATE}/manifests/1", f"ns={GHCR}"))
    challenge = refused.headers["WWW-Authenticate"]
    realm = challenge.partition('realm="')[2].partition('"')[0]
    assert realm == f"{street.proxy.url}/auth/token?ns={GHCR}"
    assert 'scope="repository:alice/private:pull"' in challenge
    fields = f"scope=repository:{PRIVATE}:pull&{_S}"
    if method == "GET":
        shown = {"Authorization": street.basic(GHCR, "alice")}
        answer = street.send(Ask("GET", "/auth/token", f"ns={GHCR}&{fields}"), **shown)
    else:
        password = street.hubs[GHCR].users["alice"].password
        form = f"{fields}&client_id=t&grant_type=password&username=alice&password={password}"
        answer = street.send(Ask("POST", "/auth/token", f"ns={GHCR}", form))
    assert answer.status_code == 200
    street.note(answer, GHCR)
    token = answer.json()["token"] if method == "GET" else answer.json()["access_token"]
    read = Ask("GET", f"/v2/{PRIVATE}/manifests/1", f"ns={GHCR}")
    pulled = street.send(read, Authorization=f"Bearer {token}")
    assert pulled.content == street.hubs[GHCR].image(PRIVATE, "1").body
    assert pulled.headers["OCI-Namespace"] == GHCR


def test_a_login_twice(street: Street) -> None:
    """Basic and a form, or a password in a query, are one login: all of it stays or goes."""
    secret = street.ledger.note("second-password", DOCKER)
    shown = {"Authorization": street.basic(DOCKER, "alice")}
    login = f"grant_type=password&username=alice&password={secret}&password={secret}"
    for address in (by_prefix(GHCR), by_prefix(QUAY)):
        for asked in (address.token(*login.split("&")), address.post(*login.split("&"))):
            assert street.send(asked, **shown).status_code == 200
    assert street.got(secret) == set()
    assert street.got(street.hubs[DOCKER].users["alice"].password) == set()
    street.send(BY_DEFAULT.post(*login.split("&")), **shown)
    assert street.got(secret) == {DOCKER}
