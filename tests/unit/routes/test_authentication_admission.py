"""Who may ask: decided for every address but /health, before any registry is asked."""

from collections.abc import Callable

import pytest
from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app.access.networks import NetworkPolicy
from app.config.load import load
from app.factory import create_app
from app.routes import authentication
from tests.unit.routes.conftest import Proxy

FRONT = "10.0.0.1"
"""A server in front that is trusted, as the tests' proxy has it."""

ALLOWED, DENIED, ELSEWHERE = "198.51.100.7", "198.51.100.66", "203.0.113.9"
DIGEST = f"sha256:{'0' * 64}"
VALUES = {
    "name": "owner/app",
    "reference": "1",
    "digest": DIGEST,
    "rest": "x",
    "filename": "page.css",
}
"""What stands for the variables of a route."""

Ask = Callable[..., TestResponse]


@pytest.fixture
def app(environment: pytest.MonkeyPatch) -> Flask:
    """Return an application that is for one network, less one address."""
    environment.setenv("DOCXY_ALLOW_NETWORKS", "198.51.100.0/24, 2001:db8::/32")
    environment.setenv("DOCXY_DENY_NETWORKS", DENIED)
    return create_app(load())


@pytest.fixture
def ask(proxy: Proxy) -> Ask:
    """Return what asks as a peer, for another one if a header says so."""

    def asked(path: str, peer: str, method: str = "GET", **headers: str) -> TestResponse:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        environ = {"REMOTE_ADDR": peer}
        return proxy.client.open(path, method=method, headers=fields, environ_overrides=environ)

    return asked


def path(rule: Rule) -> str:
    """Return a path that a route takes."""
    _, found = rule.build(VALUES, append_unknown=False) or ("", "")
    return found.removeprefix("|")


def test_every_route_is_decided(app: Flask, ask: Ask, proxy: Proxy) -> None:
    """No view is left out, whatever is added: only /health answers everybody."""
    answered = set()
    for rule in app.url_map.iter_rules():
        for method in rule.methods or ():
            answer = ask(path(rule), ELSEWHERE, method)
            if answer.status_code != 403:
                answered.add((rule.endpoint, method))
            elif method != "HEAD":
                assert "this proxy does not serve your network" in answer.text
    assert answered == {("health.health", "GET"), ("health.health", "HEAD")}
    assert proxy.asked == {}


@pytest.mark.parametrize("path", ["/nowhere", "/v2/a/b/c", "/healthy", "/v2/_catalog", "//v2/"])
def test_what_is_no_route_is_decided(ask: Ask, path: str) -> None:
    """Who may not ask learns nothing of what there is."""
    assert ask(path, ELSEWHERE).status_code == 403


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        pytest.param(ALLOWED, {}, 200, id="allowed"),
        pytest.param(f"::ffff:{ALLOWED}", {}, 200, id="allowed, mapped"),
        pytest.param("2001:db8::1", {}, 200, id="allowed, IPv6"),
        pytest.param(DENIED, {}, 403, id="denied"),
        pytest.param(f"::ffff:{DENIED}", {}, 403, id="denied, mapped"),
        pytest.param("::ffff:c633:6442", {}, 403, id="denied, mapped, in hexadecimal"),
        pytest.param(ELSEWHERE, {}, 403, id="from elsewhere"),
        pytest.param(ELSEWHERE, {"X_Forwarded_For": ALLOWED}, 403, id="pretends"),
        pytest.param(ALLOWED, {"X_Forwarded_For": ALLOWED}, 403, id="a front that is unknown"),
        pytest.param(ALLOWED, {"X_Real_IP": ELSEWHERE}, 403, id="one that tells otherwise"),
        pytest.param(ALLOWED, {"Forwarded": "for=192.0.2.1"}, 403, id="one of RFC 7239"),
        pytest.param(FRONT, {}, 403, id="the front itself"),
        pytest.param(FRONT, {"X_Forwarded_For": ALLOWED}, 200, id="behind the front"),
        pytest.param(FRONT, {"X_Forwarded_For": DENIED}, 403, id="denied behind it"),
        pytest.param(FRONT, {"X_Forwarded_For": ELSEWHERE}, 403, id="elsewhere behind it"),
        pytest.param(
            FRONT, {"X_Forwarded_For": f"{ALLOWED}, {ELSEWHERE}"}, 403, id="pretends behind it"
        ),
        pytest.param(
            FRONT, {"X_Forwarded_For": f"{ELSEWHERE}, {ALLOWED}"}, 200, id="the last one counts"
        ),
        pytest.param(
            FRONT, {"X_Forwarded_For": f"{ALLOWED}, 10.9.9.9"}, 200, id="behind two fronts"
        ),
        pytest.param(FRONT, {"X_Forwarded_For": "unknown"}, 403, id="a front that hides it"),
        pytest.param(FRONT, {"X_Forwarded_For": f"{ALLOWED}, x"}, 403, id="hides it behind one"),
        pytest.param("", {}, 403, id="a Unix socket"),
        pytest.param("", {"X_Forwarded_For": ALLOWED}, 200, id="a front by a Unix socket"),
    ],
)
def test_who_may_ask(ask: Ask, peer: str, headers: dict[str, str], status: int) -> None:
    """The client is who trusted servers say; one that cannot be known is refused."""
    assert ask("/v2/", peer, **headers).status_code == status


def test_what_is_said(ask: Ask) -> None:
    """OCI JSON to machines, a sentence to people, and what to mend where the address is hidden."""
    refused = ask("/v2/owner/app/manifests/1", ELSEWHERE)
    message = "this proxy does not serve your network"
    assert refused.json == {"errors": [{"code": "DENIED", "message": message, "detail": None}]}
    for path in ("/", "/config/docker", "/page/static/page.css"):
        page = ask(path, ELSEWHERE)
        assert (page.status_code, page.mimetype) == (403, "text/plain")
        assert page.text == f"{message}\n"
    hidden = ask("/v2/", ALLOWED, X_Forwarded_For=ELSEWHERE)
    assert "FORWARDED_ALLOW_IPS" in hidden.text


def test_what_is_left_to_views(ask: Ask, proxy: Proxy) -> None:
    """Balancers ask from anywhere, and who is let in is answered as ever."""
    assert ask("/health", DENIED).status_code == 200
    assert ask("/", ALLOWED).mimetype == "text/html"
    assert ask("/v2/owner/app/manifests/1", ALLOWED).status_code == 200
    assert [*proxy.asked] == ["docker.io"]


def test_without_lists_nobody_is_looked_at() -> None:
    """It costs nothing where it is not used."""
    app = Flask(__name__)
    authentication.register_network_policy(app, NetworkPolicy())
    assert app.before_request_funcs == {}
