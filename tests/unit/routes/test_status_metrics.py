"""GET /metrics and /figures: for whom the setting names, and for nobody who hides."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.access.networks import Networks
from app.config.settings import LOCAL_NETWORKS
from app.events import Budget, current
from app.oci.reference import Operation
from app.routes.context import Services
from app.source import Reply, Request
from tests.unit.fake_source import FakeSource
from tests.unit.routes.conftest import Proxy

FRONT = "10.0.0.1"
"""A server in front that is trusted, as the tests' proxy has it."""


@dataclass
class Fixed:
    """Figures that are always the same."""

    def format_exposition(self) -> bytes:
        """Return a text."""
        return b"docxy_pulls_spent_total 1.0\n"

    def build_summary(self) -> dict[str, Any]:
        """Return some figures."""
        return {"downloads": []}


@pytest.fixture
def room(app: Flask, proxy: Proxy) -> Services:
    """Return what the views use, with figures for local networks."""
    del proxy
    rooms: Services = app.extensions["docxy"]
    return replace(rooms, figures=Fixed(), figures_networks=Networks(LOCAL_NETWORKS))


@pytest.mark.parametrize(
    ("networks", "peer", "forwarded", "status"),
    [
        pytest.param(LOCAL_NETWORKS, "127.0.0.1", "", 200, id="this machine"),
        pytest.param(LOCAL_NETWORKS, "::ffff:192.168.1.2", "", 200, id="private, mapped"),
        pytest.param(LOCAL_NETWORKS, "fd00::7", "", 200, id="private, IPv6"),
        pytest.param(LOCAL_NETWORKS, "", "", 200, id="a Unix socket"),
        pytest.param(LOCAL_NETWORKS, "203.0.113.9", "", 403, id="from elsewhere"),
        pytest.param(LOCAL_NETWORKS, FRONT, "172.16.3.4", 200, id="private behind a front"),
        pytest.param(LOCAL_NETWORKS, FRONT, "203.0.113.9", 403, id="from elsewhere behind it"),
        pytest.param(LOCAL_NETWORKS, FRONT, "10.0.0.9, 203.0.113.9", 403, id="pretends"),
        pytest.param(LOCAL_NETWORKS, "192.168.1.1", "8.8.8.8", 403, id="behind a strange front"),
        pytest.param(LOCAL_NETWORKS, "192.168.1.1", "127.0.0.1", 403, id="pretends behind it"),
        pytest.param(LOCAL_NETWORKS, FRONT, "203.0.113.9:555", 403, id="with a port"),
        pytest.param(LOCAL_NETWORKS, FRONT, "unknown", 403, id="a front that hides it"),
        pytest.param(LOCAL_NETWORKS, FRONT, "10.0.0.9, unknown", 403, id="pretends behind that"),
        pytest.param("198.51.100.0/24", "127.0.0.1", "", 403, id="not listed"),
        pytest.param("198.51.100.0/24", "198.51.100.7", "", 200, id="listed"),
        pytest.param("*", "203.0.113.9", "8.8.8.8", 200, id="all"),
        pytest.param("", "127.0.0.1", "", 403, id="nobody"),
    ],
)
def test_who_sees_figures(  # noqa: PLR0913 - fixtures and a table
    *,
    app: Flask,
    room: Services,
    client: FlaskClient,
    networks: str,
    peer: str,
    forwarded: str,
    status: int,
) -> None:
    """Who comes through a server that is not trusted could be anybody."""
    for path in ["/metrics", "/figures"]:
        replace(room, figures_networks=Networks(networks)).install(app)
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        answer = client.get(path, headers=headers, environ_overrides={"REMOTE_ADDR": peer})
        assert answer.status_code == status, path
        if status == 200:
            assert answer.headers["Cache-Control"] == "no-store", path


@pytest.mark.parametrize("name", ["Forwarded", "X-Real-IP"])
def test_a_front_that_tells_in_another_way(
    app: Flask, room: Services, client: FlaskClient, name: str
) -> None:
    """It is not read, and so whoever comes through it is hidden."""
    room.install(app)
    here = {"REMOTE_ADDR": FRONT}
    assert client.get("/metrics", environ_overrides=here).status_code == 200
    told = {name: "for=203.0.113.9"}
    assert client.get("/metrics", headers=told, environ_overrides=here).status_code == 403
    told["X-Forwarded-For"] = "172.16.3.4"
    assert client.get("/metrics", headers=told, environ_overrides=here).status_code == 200


def test_what_is_not_counted_is_not_told(app: Flask, room: Services, client: FlaskClient) -> None:
    """Where it is switched off there is no such path."""
    replace(room, figures=None).install(app)
    assert [client.get(path).status_code for path in ("/metrics", "/figures")] == [404, 404]


@pytest.mark.parametrize(("remaining", "told"), [(10, False), (9, True), (0, True)])
def test_few_pulls(proxy: Proxy, remaining: int, *, told: bool) -> None:
    """Clients hear of it with the answer that told of it."""
    source = proxy.sources["docker.io"]
    budget = Budget(identity="account-1", limit=100, remaining=remaining, window=21600)

    class Telling(FakeSource):
        def answer(self, operation: Operation, request: Request) -> Reply:
            exchange = current.get()
            assert exchange is not None
            exchange.budget = budget
            return source.answer(operation, request)

    proxy.sources["docker.io"] = Telling()
    answer = proxy.ask("proxy.example/v2/library/nginx/manifests/latest")
    warning = f'299 - "docker.io has {remaining} of 100 pulls left for this client"'
    assert answer.headers.get("Warning") == (warning if told else None)
