"""How much each may ask: decided before any registry is asked, and counted where it is answered."""

from collections.abc import Callable

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.config.load import load
from app.events import current
from app.factory import create_app
from app.oci.errors import UpstreamUnavailable
from tests.unit.fake_source import FakeSource
from tests.unit.routes.conftest import Proxy

DIGEST = f"sha256:{'0' * 64}"
MANIFEST, BLOB = "/v2/owner/app/manifests/1", f"/v2/owner/app/blobs/{DIGEST}"
ONE, OTHER, FRONT = "198.51.100.7", "203.0.113.9", "10.0.0.1"

Ask = Callable[..., TestResponse]


class Cut(BaseException):
    """Ends a request as gevent's GreenletExit does."""


@pytest.fixture
def app(environment: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Flask:
    """Return an application with the limits of a test."""
    for name, value in request.function.limits.items():
        environment.setenv(f"DOCXY_LIMIT_{name}", value)
    return create_app(load())


def limited(**limits: str) -> Callable[..., Callable[..., None]]:
    """Say what is limited in a test."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        test.limits = limits  # type: ignore[attr-defined]
        return test

    return mark


@pytest.fixture
def ask(proxy: Proxy) -> Ask:
    """Return what asks as an address."""

    def asked(
        path: str, method: str = "GET", peer: str = ONE, forwarded: str = "", **more: bool
    ) -> TestResponse:
        environ = {"REMOTE_ADDR": peer}
        if forwarded:
            environ["HTTP_X_FORWARDED_FOR"] = forwarded
        return proxy.client.open(path, method=method, environ_overrides=environ, **more)

    return asked


@pytest.fixture
def hub(proxy: Proxy) -> FakeSource:
    """Return the default registry."""
    return proxy.sources["docker.io"]


def refused(answer: TestResponse, message: str) -> bool:
    """Tell whether an answer is a refusal as clients read it."""
    error = (answer.json or {}).get("errors", [{}])[0]
    return (
        answer.status_code == 429
        and int(answer.headers["Retry-After"]) > 0
        and error["code"] == "TOOMANYREQUESTS"
        and message in error["message"]
    )


@limited(REQUESTS="2")
def test_requests(ask: Ask, hub: FakeSource) -> None:
    """Whatever they ask for, also for what is not there; other addresses have their own."""
    assert ask(MANIFEST).status_code == 200
    assert ask("/v2/nowhere").status_code == 404
    for path in (
        "/v2/",
        MANIFEST,
        BLOB,
        "/auth/token",
        "/v1/search?q=x",
        "/page/tags?image=x",
        "/nowhere",
    ):
        assert refused(ask(path), "limit of requests per minute"), path
    assert ask(MANIFEST, "HEAD").status_code == 429
    assert len(hub.calls) == 1
    assert ask(MANIFEST, peer=OTHER).status_code == 200


@limited(REQUESTS="1")
def test_what_is_free(ask: Ask) -> None:
    """Who looks whether the proxy is there, and who looks at the page, pulls nothing."""
    for _ in range(5):
        for path in ("/health", "/", "/config", "/page/static/page.css", "/metrics", "/figures"):
            assert ask(path).status_code != 429, path
    assert ask("/v2/").status_code == 200
    assert ask("/v2/").status_code == 429


@limited(REQUESTS="1")
def test_a_site_is_one(ask: Ask) -> None:
    """Nobody gets more by using the many addresses of an IPv6 network."""
    assert ask("/v2/", peer="2001:db8:0:1::1").status_code == 200
    assert ask("/v2/", peer="2001:db8:0:1:ffff::2").status_code == 429
    assert ask("/v2/", peer="2001:db8:0:2::1").status_code == 200


@limited(PULLS="2")
def test_pulls(ask: Ask, hub: FakeSource) -> None:
    """GETs of manifests that were answered: no HEAD, no blob, nothing that failed."""
    hub.error = UpstreamUnavailable()
    assert [ask(MANIFEST).status_code for _ in range(3)] == [503] * 3
    hub.error = Cut()
    for _ in range(3):
        with pytest.raises(Cut):
            ask(MANIFEST)
    hub.error = None
    hub.answers(status=404)
    assert [ask(MANIFEST).status_code for _ in range(3)] == [404] * 3
    hub.answers(b"manifest")
    assert [ask(MANIFEST, "HEAD").status_code for _ in range(3)] == [200] * 3
    assert [ask(MANIFEST).status_code for _ in range(2)] == [200] * 2
    before = len(hub.calls)
    assert refused(ask(MANIFEST), "limit of pulls per day")
    assert len(hub.calls) == before
    assert ask(MANIFEST, "HEAD").status_code == 200
    assert ask(BLOB).status_code == 200
    assert ask(MANIFEST, peer=OTHER).status_code == 200


@limited(BYTES="10B")
def test_bytes(ask: Ask, hub: FakeSource) -> None:
    """Those of manifests and of layers; what has begun goes to its end."""
    hub.answers(b"12345", b"6789")
    assert ask(MANIFEST).data == b"123456789"
    hub.answers(b"12345", b"6789")
    assert ask(BLOB).data == b"123456789"
    assert refused(ask(BLOB), "limit of bytes per day")
    assert refused(ask(MANIFEST), "limit of bytes per day")
    assert ask(BLOB, "HEAD").status_code == 200
    assert len(hub.calls) == 3


@limited(DOWNLOADS="2")
def test_downloads(ask: Ask, hub: FakeSource) -> None:
    """Layers at once; a place is free when the server closes an answer, whole or not."""
    hub.answers(b"12345", b"6789")
    first, second = ask(BLOB, buffered=False), ask(BLOB, buffered=False)
    assert refused(ask(BLOB), "limit of concurrent downloads")
    assert ask(MANIFEST).status_code == 200
    assert ask(BLOB, "HEAD").status_code == 200
    assert ask(BLOB, peer=OTHER).status_code == 200
    first.close()
    third = ask(BLOB, buffered=False)
    assert third.status_code == 200
    assert refused(ask(BLOB), "limit of concurrent downloads")
    second.close()
    third.close()
    assert [ask(BLOB).status_code for _ in range(5)] == [200] * 5


@limited(DOWNLOADS="1")
def test_what_fails_keeps_no_place(ask: Ask, hub: FakeSource) -> None:
    """Neither errors of ours nor those that nobody has expected."""
    for error in (UpstreamUnavailable(), RuntimeError("unexpected")):
        hub.error = error
        assert [ask(BLOB).status_code // 100 for _ in range(3)] == [5] * 3
    hub.error = None
    assert ask(BLOB).status_code == 200


@limited(DOWNLOADS="1")
def test_what_is_cut_keeps_no_place(ask: Ask, hub: FakeSource) -> None:
    """A worker cuts greenlets by what is no error to Flask, which then makes no answer."""
    hub.error = Cut()
    for _ in range(3):
        with pytest.raises(Cut):
            ask(BLOB)
    hub.error = None
    assert ask(BLOB).status_code == 200


@limited(DOWNLOADS="1")
def test_what_has_no_body_keeps_no_place(ask: Ask, hub: FakeSource) -> None:
    """What a client has already, a part that it wants, and what is not there."""
    for status in (304, 206, 404, 416):
        hub.answers(status=status)
        assert [ask(BLOB).status_code for _ in range(3)] == [status] * 3


@limited(REQUESTS="1")
def test_health_is_free_by_any_method(ask: Ask) -> None:
    """However a balancer asks; also of who has had all requests."""
    assert ask("/v2/").status_code == 200
    assert ask("/v2/").status_code == 429
    for method in ("GET", "HEAD"):
        assert [ask("/health", method).status_code == 429 for _ in range(3)] == [False] * 3


@limited(REQUESTS="2")
def test_the_server_in_front_is_no_client(ask: Ask) -> None:
    """Each for whom it asks has a share; what a client writes before its own address is nothing."""
    assert ask("/v2/", peer=FRONT, forwarded=ONE).status_code == 200
    assert ask("/v2/", peer=FRONT, forwarded=f"{OTHER}, {ONE}").status_code == 200
    assert ask("/v2/", peer=FRONT, forwarded=f"{OTHER}, {ONE}").status_code == 429
    assert ask("/v2/", peer=FRONT, forwarded=f"::ffff:{ONE}").status_code == 429
    assert ask("/v2/", peer=FRONT, forwarded=OTHER).status_code == 200


@limited(REQUESTS="2")
def test_addresses_that_nobody_has_vouched_for(ask: Ask) -> None:
    """They are the connection's, and a new header for each request makes nobody new."""
    asked = [ask("/v2/", peer=OTHER, forwarded=f"198.51.100.{at}") for at in range(4)]
    assert [answer.status_code for answer in asked] == [200, 200, 429, 429]


@limited(REQUESTS="1")
def test_the_line_of_a_refusal(ask: Ask, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """It says who, and what refused; the counts have the latter too."""
    noted = []

    def note(response: TestResponse) -> TestResponse:
        noted.append(exchange.refused_by if (exchange := current.get()) else None)
        return response

    app.after_request(note)
    caplog.set_level("INFO", "app.routes.render")
    ask("/v2/")
    ask("/v2/")
    (line,) = caplog.records
    fields = vars(line)["fields"]
    assert (fields["rule"], fields["client"], fields["status"]) == ("limit-requests", ONE, 429)
    assert noted == ["", "limit-requests"]


def test_without_limits_nobody_is_looked_at(environment: pytest.MonkeyPatch) -> None:
    """It costs nothing where it is not used."""
    before = len(create_app(load()).before_request_funcs[None])
    environment.setenv("DOCXY_LIMIT_PULLS", "1")
    assert len(create_app(load()).before_request_funcs[None]) == before + 1


@limited(BYTES="10B", DOWNLOADS="1")
def test_who_asks_pays(ask: Ask, hub: FakeSource) -> None:
    """What is fetched in the name of a request is charged to its client, by whatever method."""
    for path, method in ((MANIFEST, "GET"), (MANIFEST, "HEAD"), (BLOB, "HEAD"), (BLOB, "GET")):
        ask(path, method)
    payers = [call.request.payer for call in hub.calls]
    assert [payer.identity for payer in payers if payer] == [f"address {ONE}"] * 4
    assert payers[-1] is not None
    fetch = payers[-1].open_account(DIGEST)
    fetch.charge(10)
    assert not fetch.try_acquire()
    assert refused(ask(BLOB), "limit of bytes per day")
    assert ask(BLOB, peer=OTHER).status_code == 200
