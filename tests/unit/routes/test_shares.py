"""On how many connections each address has a request at once, counted until its response ends."""

from collections.abc import Callable

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.config.load import load
from app.factory import create_app
from app.oci.errors import UpstreamUnavailable
from tests.unit.routes.conftest import Proxy

DIGEST = f"sha256:{'0' * 64}"
BLOB = f"/v2/owner/app/blobs/{DIGEST}"
ONE, OTHER, FRONT = "198.51.100.7", "203.0.113.9", "10.0.0.1"

Ask = Callable[..., TestResponse]


class Cut(BaseException):
    """Ends a request as gevent's GreenletExit does."""


@pytest.fixture
def app(environment: pytest.MonkeyPatch) -> Flask:
    """Return an application that serves an address two requests at once."""
    environment.setenv("DOCXY_CLIENT_CONNECTIONS", "2")
    return create_app(load())


@pytest.fixture
def ask(proxy: Proxy) -> Ask:
    """Return what asks as an address, and leaves the response open."""

    def asked(
        path: str = BLOB, peer: str = ONE, forwarded: str = "", method: str = "GET"
    ) -> TestResponse:
        environ = {"REMOTE_ADDR": peer}
        if forwarded:
            environ["HTTP_X_FORWARDED_FOR"] = forwarded
        return proxy.client.open(path, method=method, environ_overrides=environ, buffered=False)

    return asked


def test_more_than_a_share_is_refused(ask: Ask, proxy: Proxy) -> None:
    """In OCI JSON that says when to come again; no registry hears of it, and others pass."""
    first, second = ask(), ask("/v2/owner/app/manifests/1")
    assert (first.status_code, second.status_code) == (200, 200)
    asked = len(proxy.sources["docker.io"].calls)
    own = ("/", "/health?upstream", "/health?cache", "/nowhere")
    for path in (BLOB, "/v2/", "/v2/owner/app/tags/list", "/auth/token", *own):
        refused = ask(path)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        refused.close()
    (error,) = ask().get_json()["errors"]
    assert error["code"] == "TOOMANYREQUESTS"
    assert (
        error["message"]
        == "your address has reached the limit of concurrent requests of this proxy"
    )
    assert error["detail"] == {"rule": "limit-connections"}
    assert len(proxy.sources["docker.io"].calls) == asked
    assert ask("/health").status_code == 200
    assert ask(peer=OTHER).status_code == 200
    second.close()
    assert ask().status_code == 200
    assert ask().status_code == 429
    first.close()
    assert ask().status_code == 200


@pytest.mark.parametrize(
    ("peer", "forwarded", "is_counted"),
    [
        pytest.param(ONE, "", True, id="a client"),
        pytest.param(FRONT, ONE, True, id="behind a front"),
        pytest.param(FRONT, f"{OTHER}, {ONE}", True, id="pretends behind it"),
        pytest.param(ONE, OTHER, True, id="pretends"),
        pytest.param(f"::ffff:{ONE}", "", True, id="mapped"),
        pytest.param(OTHER, "", False, id="another"),
        pytest.param(FRONT, OTHER, False, id="another behind a front"),
    ],
)
def test_who_counts(ask: Ask, peer: str, forwarded: str, is_counted: bool) -> None:  # noqa: FBT001 - a column
    """The client is who trusted servers say."""
    opened = [ask(), ask()]
    assert (ask(peer=peer, forwarded=forwarded).status_code == 429) is is_counted
    assert [one.status_code for one in opened] == [200, 200]


def test_a_network_of_ipv6_is_one(ask: Ask) -> None:
    """Of 64 bits."""
    opened = [ask(peer="2001:db8::1"), ask(peer="2001:db8::2")]
    assert ask(peer="2001:db8:0:0:ffff::3").status_code == 429
    assert ask(peer="2001:db8:0:1::1").status_code == 200
    assert [one.status_code for one in opened] == [200, 200]


@pytest.mark.parametrize(
    ("peer", "forwarded"),
    [
        pytest.param(FRONT, "", id="a front that does not tell"),
        pytest.param(FRONT, "unknown", id="a front that hides it"),
        pytest.param("", "", id="a Unix socket"),
    ],
)
def test_a_front_is_not_a_client(ask: Ask, peer: str, forwarded: str) -> None:
    """Those behind it cannot be told apart, and are not counted as one."""
    opened = [ask(peer=peer, forwarded=forwarded) for _ in range(5)]
    assert {one.status_code for one in opened} == {200}


def test_what_fails_keeps_no_place(ask: Ask, proxy: Proxy) -> None:
    """Neither what is refused, nor what a registry fails to answer, nor what is cut."""
    source = proxy.sources["docker.io"]
    for _ in range(5):
        ask("/v2/owner/app/manifests/-").close()
        source.error = UpstreamUnavailable()
        ask().close()
        source.error = Cut()
        with pytest.raises(Cut):
            ask()
        source.error = None
        ask(method="HEAD").close()
    opened = [ask(), ask()]
    assert [one.status_code for one in opened] == [200, 200]
    assert ask().status_code == 429
