"""/config/...: the files, by the address that was asked."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.config.settings import Settings
from app.factory import create_app
from app.routes.context import Services
from app.routes.forwarded import ForwardedHeaders
from app.web import clients
from tests.unit.web.tables import GHCR_HOST, HOSTS


@pytest.fixture
def asked(app: Flask, client: FlaskClient) -> FlaskClient:
    """Return a client of a proxy whose table has a host for ghcr.io."""
    Services(
        registries=HOSTS.registries,
        sources={},
        forwarded=ForwardedHeaders(trusted="10.0.0.0/8", public_url=None, hosts={GHCR_HOST}),
        write_timeout=60,
    ).install(app)
    return client


@pytest.mark.parametrize("name", clients.CLIENTS)
def test_files(asked: FlaskClient, name: str) -> None:
    """Each is plain text, with the address that was asked."""
    answer = asked.get(f"/config/{name}", base_url="https://proxy.example")
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.text == clients.build_file(name, HOSTS)
    assert answer.headers["Cache-Control"] == "no-cache"
    assert asked.head(f"/config/{name}").status_code == 200


def test_the_address_that_was_asked(asked: FlaskClient) -> None:
    """Also behind a server in front, and not what others than that say."""
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "front.example:8443"}
    by = {"REMOTE_ADDR": "10.0.0.1"}
    answer = asked.get("/config/docker", headers=told, environ_overrides=by)
    assert '"https://front.example:8443"' in answer.text
    answer = asked.get("/config/docker", headers=told, base_url="http://proxy.example")
    assert '"http://proxy.example"' in answer.text
    answer = asked.get("/config/podman", base_url=f"https://{GHCR_HOST}")
    assert answer.text.count("[[registry]]") == 1
    answer = asked.get("/config/docker", headers={"Host": 'proxy"example'})
    assert (answer.status_code, "proxy" in answer.text) == (400, False)


@pytest.mark.parametrize("name", ["Docker", "windows", "docker/x", "..%2f"])
def test_no_such_file(asked: FlaskClient, name: str) -> None:
    """Whoever asks for another one is told which there are."""
    answer = asked.get(f"/config/{name}", base_url="https://proxy.example")
    assert answer.status_code == 404
    if "/" not in name and "%" not in name:
        listed = asked.get("/config", base_url="https://proxy.example").text
        assert listed in answer.text
        assert all(f"https://proxy.example/config/{one} " in listed for one in clients.CLIENTS)


@pytest.mark.parametrize(
    "path", ["/config", "/config/docker", "/page/tags?image=nginx", "/v1/search?q=x", "/v1/_ping"]
)
def test_off_with_the_page(settings: Settings, path: str) -> None:
    """Nothing of it is left where the page is off."""
    app = create_app(settings.model_copy(update={"well_known": (), "page": False}))
    answer = app.test_client().get(path)
    assert (answer.status_code, answer.get_json()["errors"][0]["code"]) == (404, "UNSUPPORTED")
