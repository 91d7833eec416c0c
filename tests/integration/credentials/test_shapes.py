"""Credentials in shapes that no client should send, and what is told when a login fails."""

from typing import Any

import pytest

from tests.integration.credentials.street import (
    BY_DEFAULT,
    DOCKER,
    GHCR,
    PUBLIC,
    QUAY,
    Address,
    Street,
    by_host,
    by_ns,
    by_prefix,
)
from tests.wire.client import Client

pytestmark = pytest.mark.integration

LINES = [
    pytest.param(["Basic {}"], id="basic"),
    pytest.param(["BASIC {}"], id="capitals"),
    pytest.param(["Basic  {}"], id="two spaces"),
    pytest.param(["Basic\t{}"], id="tab"),
    pytest.param(["Basic"], id="nothing"),
    pytest.param(["{}"], id="no scheme"),
    pytest.param(["Negotiate {}"], id="negotiate"),
    pytest.param(['Digest username="a",response="{}"'], id="digest"),
    pytest.param(["AWS4-HMAC-SHA256 Credential={}"], id="aws"),
    pytest.param(["Token {}"], id="token"),
    pytest.param(["Basic {}", "Basic {}"], id="two logins"),
    pytest.param(["Basic {}", "Bearer {}"], id="a login and a token"),
    pytest.param(["Bearer {}", "Basic {}"], id="a token and a login"),
    pytest.param(["Bearer {}", "Bearer ghcr.io~{}"], id="two tokens"),
    pytest.param(["Bearer ghcr.io~{}", "Bearer {}"], id="two tokens, its own first"),
    pytest.param(["", "Basic {}"], id="an empty line first"),
    pytest.param(["Bearer ", "Basic {}"], id="an empty token first"),
    pytest.param(["Bearer docxy.basic.{}"], id="a stand-in"),
    pytest.param(["Bearer docxy.none", "Basic {}"], id="a stand-in for nothing"),
    pytest.param(["Bearer ghcr.io~docxy.none,Basic {}"], id="a stand-in and more"),
]


@pytest.mark.parametrize("lines", LINES)
def test_nothing_of_the_host_by_prefix(street: Street, lines: list[str]) -> None:
    """Whatever Authorization there is, a registry by prefix sees none of it."""
    secret = street.ledger.note("login-of-the-host", DOCKER)
    shown = [f"Authorization: {line.format(secret)}" for line in lines]
    for row in (GHCR, QUAY):
        address = by_prefix(row)
        with Client(street.proxy.host) as client:
            for ask in [*address.reads(street.hubs[row])[1:], address.token()]:
                answer = client.get(ask.target, *shown, method=ask.method)
                assert answer.status < 500, row
        seen = street.hubs[row].requests
        assert [record for record in seen if "Authorization" in record.headers] == [], row


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param("Bearer own,Bearer {}", id="second line"),
        pytest.param("Bearer {},Bearer own", id="first line"),
        pytest.param("Basic YTpi,Bearer {}", id="after a login"),
        pytest.param("Bearer  {}", id="two spaces"),
        pytest.param("Bearer\t{}", id="tab"),
        pytest.param('Bearer "{}"', id="quoted"),
        pytest.param("Basic {}", id="as a login"),
        pytest.param("Token {}", id="another scheme"),
        pytest.param("{}", id="no scheme"),
    ],
)
def test_a_marked_token_in_any_shape(street: Street, shape: str) -> None:
    """However it is written, no other registry gets it."""
    secret = street.ledger.note("odd-shape", GHCR)
    shown = shape.format(f"{GHCR}~{secret}")
    addresses = [by_prefix(QUAY), by_prefix("basic.test"), by_ns(QUAY), by_host(QUAY), BY_DEFAULT]
    for address in addresses:
        for ask in (address.ping(), address.read(PUBLIC, "manifests/1"), address.token()):
            street.send(ask, Authorization=shown)
    assert street.got(secret) == set()


@pytest.mark.parametrize(
    "field",
    ["Proxy-Authorization", "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "X-Real-IP"],
)
def test_headers_between_client_and_proxy(street: Street, field: str) -> None:
    """What is said to the proxy, or of the client, stays here."""
    secret = street.ledger.note("203.0.113.99")
    for address in (BY_DEFAULT, by_prefix(GHCR), by_ns(QUAY), by_host(GHCR)):
        for ask in (address.read(PUBLIC, "manifests/1"), address.token()):
            street.send(ask, **{field: f"for={secret}"})
    assert street.asked()
    assert street.got(secret) == set()


FAULTS: list[Any] = [
    pytest.param({"hang_up": True}, id="hangs up"),
    pytest.param({"cut_after": 5}, id="cut"),
    pytest.param({"status": 500}, id="500"),
    pytest.param({"status": 307, "headers": {"Location": "https://localhost:1/"}}, id="to nobody"),
    pytest.param({"status": 307, "headers": {"Location": "https://a:b@c/"}}, id="astray"),
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("address", [BY_DEFAULT, by_ns(GHCR)], ids=str)
def test_a_login_that_fails(street: Street, address: Address, fault: dict[str, Any]) -> None:
    """Neither the answer nor the log at debug level has anything of it, in a query or a form."""
    row = address.row
    mark = "" if row == DOCKER else f"{row}~"
    secrets = [street.ledger.note(f"{kind}-in-{row}", row) for kind in ("query", "refresh")]
    fields = ("username=alice", f"password={secrets[0]}", f"refresh_token={mark}{secrets[1]}")
    secrets.append(street.hubs[row].users["alice"].password)
    before = len(street.proxy.log)
    street.hubs[row].fail(part="token", times=None, **fault)
    for ask in (address.token(*fields), address.post("grant_type=password", *fields)):
        answer = street.send(ask, Authorization=street.basic(row, "alice"))
        assert answer.status_code >= 400
        said = f"{answer.headers}{answer.text}{street.proxy.log[before:]}"
        assert [secret for secret in secrets if secret in said] == []
    assert street.got(secrets[1]) == {row}
