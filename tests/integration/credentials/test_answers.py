"""Token answers: the default registry's byte for byte, the others' marked and else the same."""

import json

import pytest

from tests.hub.hub import Hub
from tests.integration.credentials.street import (
    BY_DEFAULT,
    DOCKER,
    GHCR,
    QUAY,
    Address,
    Street,
    by_host,
    by_ns,
    by_prefix,
)

pytestmark = pytest.mark.integration

WRITTEN = (
    b'{ "token":"t~%s\\u0041/",\r\n"expires_in": 3e2, "access_token" : "t~%s\\u0041/"'
    b', "x":null,"refresh_token":"r~%s~r", "token_type":"Bearer", "nested":{"token":"n"} }\n'
)
"""Nothing that a JSON library would write."""


def written_at(street: Street, row: str) -> bytes:
    """Let a token server answer this once; return it."""
    hub, name = street.hubs[row], row.encode()
    body = WRITTEN % (name, name, name)
    for secret in (f"{row}A/", f"{row}~r"):
        street.ledger.note(secret, row)
    headers = {"Content-Type": "application/json; charset=utf-8"}
    hub.fail(part="token", status=200, body=body, headers=headers)
    return body


BARE = [
    pytest.param(BY_DEFAULT, DOCKER, id="default"),
    pytest.param(by_prefix(DOCKER), DOCKER, id="its prefix"),
    pytest.param(by_prefix("index.docker.io"), DOCKER, id="its alias"),
    pytest.param(by_ns(DOCKER), DOCKER, id="its ns"),
    pytest.param(by_ns("registry-1.docker.io"), DOCKER, id="its ns by alias"),
    pytest.param(by_host(GHCR), GHCR, id="a host of its own"),
    pytest.param(Address(GHCR, ns=GHCR, host=by_host(GHCR).host), GHCR, id="host and ns"),
    pytest.param(Address(GHCR, prefix=GHCR, host=by_host(GHCR).host), GHCR, id="host and prefix"),
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("address", "row"), BARE)
def test_the_hosts_own_registry_is_not_rewritten(
    street: Street, address: Address, row: str, method: str
) -> None:
    """Not a byte of the answer is changed, however the JSON is written."""
    body = written_at(street, row)
    answer = street.send(address.token() if method == "GET" else address.post())
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Content-Length"] == str(len(body))
    (record,) = street.hubs[row].select("token")
    assert record.method == method


TAGGED = [
    pytest.param(by_ns(GHCR), id="ns"),
    pytest.param(Address(GHCR, ns=f"{GHCR}:443"), id="ns with a port"),
    pytest.param(Address(GHCR, ns=GHCR.upper()), id="ns in capitals"),
    pytest.param(by_prefix(GHCR), id="prefix"),
    pytest.param(Address(GHCR, prefix=GHCR, ns=GHCR), id="both"),
    pytest.param(Address(GHCR, ns=GHCR, host=by_host(QUAY).host), id="at another's host"),
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("address", TAGGED)
def test_others_are_marked(street: Street, address: Address, method: str) -> None:
    """Access and refresh tokens alike carry the name, whatever is in them; the rest stays."""
    plain = json.loads(written_at(street, GHCR))
    answer = street.send(address.token() if method == "GET" else address.post())
    assert answer.status_code == 200
    marked = {name: f"ghcr.io~{plain[name]}" for name in ("token", "access_token", "refresh_token")}
    assert answer.json() == plain | marked
    assert answer.headers["Content-Length"] == str(len(answer.content))


@pytest.mark.parametrize("address", [by_prefix(GHCR), by_ns(GHCR)], ids=str)
@pytest.mark.parametrize("present", ["token", "access_token"])
def test_one_name_becomes_both(street: Street, address: Address, present: str) -> None:
    """Clients of GET want `token`, those of POST `access_token`."""
    body = json.dumps({present: street.ledger.note("only-one", GHCR)})
    street.hubs[GHCR].fail(part="token", status=200, body=body)
    answer = street.send(address.token())
    assert answer.json() == {"token": "ghcr.io~only-one", "access_token": "ghcr.io~only-one"}


BAD = [b"", b"[]", b"null", b'{"token": ""}', b'{"token": 7}', b"not JSON", b"[" * 100_000]


@pytest.mark.parametrize("body", BAD, ids=lambda body: repr(body[:12]))
def test_an_answer_that_cannot_be_marked(street: Street, body: bytes) -> None:
    """What may hold a token and cannot be read is not passed on bare."""
    street.hubs[GHCR].fail(part="token", status=200, body=body)
    answer = street.send(by_prefix(GHCR).token())
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (502, "UNAVAILABLE")
    assert GHCR in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_a_refusal_is_passed_on(street: Street, status: int) -> None:
    """A token service's own words reach the client, of whichever registry it is."""
    for address in (BY_DEFAULT, by_prefix(GHCR), by_ns(GHCR), by_host(GHCR)):
        body = b'{"errors":[{"code":"DENIED","message":"because"}]}'
        told = {"Content-Type": "application/json"}
        street.hubs[address.row].fail(
            part="token", status=status, body=body, headers=told, times=None
        )
        # A 429 is remembered for some seconds, for whoever asks the same: nobody else does.
        answer = street.send(address.token(f"client_id=refused-{status}"))
        street.hubs[address.row].heal()
        assert (answer.status_code, answer.content) == (status, body)


def test_a_token_goes_back_as_it_came(street: Street) -> None:
    """Only one mark is taken off, so that a token with a tilde of its own is whole again."""
    written_at(street, GHCR)
    kept = street.send(by_prefix(GHCR).token()).json()["token"]
    assert kept == "ghcr.io~t~ghcr.ioA/"  # what looks like a mark in it is not another's
    street.forget()
    street.send(by_prefix(GHCR).read("owner/app", "tags/list"), Authorization=f"Bearer {kept}")
    (record,) = street.hubs[GHCR].select("registry")
    assert record.headers.getlist("Authorization") == ["Bearer t~ghcr.ioA/"]


def test_a_token_with_two_marks(street: Street) -> None:
    """It may be the other registry's: it goes to none."""
    secret = street.ledger.note("inner-token", QUAY)
    for marks in (
        "ghcr.io~quay.io~",
        "quay.io~ghcr.io~",
        "ghcr.io~docker.io~",
        "docker.io~a.test~",
    ):
        for address in (BY_DEFAULT, by_prefix(GHCR), by_ns(GHCR), by_host(GHCR), by_ns(QUAY)):
            read = address.read("owner/app", "tags/list")
            answer = street.send(read, Authorization=f"Bearer {marks}{secret}")
            assert answer.status_code == 401, (marks, address)
    assert street.asked() == []


@pytest.mark.parametrize("empty", ["ghcr.io~", "ghcr.io~ ", "ghcr.io~,", "ghcr.io~\xe9"])
def test_a_mark_without_a_token(street: Street, empty: str) -> None:
    """It is refused as any token that is not one, and nobody is asked."""
    for address in (BY_DEFAULT, by_prefix(GHCR), by_ns(GHCR), by_ns(QUAY)):
        read = address.read("owner/app", "manifests/1")
        answer = street.send(read, Authorization=f"Bearer {empty}")
        assert answer.status_code == 401
    assert street.asked() == []


def test_the_hub_says_the_same(street: Street) -> None:
    """A real answer has the fields that the token server wrote, in their order."""
    hub: Hub = street.hubs[DOCKER]
    fields = ["token", "access_token", "refresh_token", "expires_in", "issued_at"]
    shown = {"Authorization": street.basic(DOCKER, "alice")}
    answer = street.send(BY_DEFAULT.token("offline_token=true"), **shown)
    street.note(answer, DOCKER)
    assert list(answer.json()) == fields
    try:
        hub.token_fields = ["access_token"]
        answer = street.send(BY_DEFAULT.token())
        street.note(answer, DOCKER)
        assert list(answer.json()) == ["access_token"]
    finally:
        hub.token_fields = None
