"""GET /health: this process is up; only when asked is the registry looked at."""

from dataclasses import dataclass, field, replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.oci.errors import UpstreamTimeout
from app.routes import context
from app.source import CacheState
from app.version import VERSION
from tests.unit.fake_source import FakeSource
from tests.unit.routes.conftest import Proxy


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health(client: FlaskClient, source: FakeSource, method: str) -> None:
    """200 and the version; the registry is not asked, broken as it may be."""
    source.error = UpstreamTimeout()
    answer = client.open("/health", method=method)
    assert answer.status_code == 200
    assert source.calls == []
    if method == "GET":
        assert answer.get_json() == {"status": "ok", "version": VERSION}


@pytest.mark.parametrize("query", ["upstream", "upstream=1", "upstream="])
def test_upstream_answers(client: FlaskClient, source: FakeSource, query: str) -> None:
    """200 where the registry answers."""
    answer = client.get(f"/health?{query}")
    assert answer.status_code == 200
    assert answer.get_json()["upstream"] == "ok"
    assert [call.method for call in source.calls] == ["reach"]


def test_upstream_does_not_answer(client: FlaskClient, source: FakeSource) -> None:
    """503 where it does not, and why."""
    source.error = UpstreamTimeout("registry.example did not answer in time")
    answer = client.get("/health?upstream")
    assert answer.status_code == 503
    assert answer.get_json()["upstream"] == "registry.example did not answer in time"
    assert answer.get_json()["version"] == VERSION


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("upstream", "docker.io", id="the default"),
        pytest.param("upstream=true", "docker.io", id="the default, said so"),
        pytest.param("upstream=docker.io", "docker.io", id="the default by its name"),
        pytest.param("upstream=ghcr.io", "ghcr.io", id="another"),
        pytest.param("upstream=GitHub:443", "ghcr.io", id="another by its alias"),
        pytest.param("upstream=managed.example", "managed.example", id="a managed one"),
        pytest.param("upstream=own.example:5000", "own.example:5000", id="one with a port"),
    ],
)
def test_each_registry_can_be_asked_about(proxy: Proxy, query: str, expected: str) -> None:
    """By whatever a client may call it; whoever looks after the proxy may use any of its hosts."""
    for host in ["proxy.example", "own.proxy.example"]:
        for source in proxy.sources.values():
            source.calls.clear()
        answer = proxy.ask(f"{host}/health?{query}")
        assert answer.get_json()["upstream"] == "ok", host
        assert {name: call.method for name, call in proxy.asked.items()} == {expected: "reach"}, (
            host
        )


def test_one_of_several_does_not_answer(proxy: Proxy) -> None:
    """The others do."""
    proxy.sources["ghcr.io"].error = UpstreamTimeout("ghcr.example: did not answer in time")
    answer = proxy.ask("proxy.example/health?upstream=ghcr.io")
    assert answer.status_code == 503
    assert answer.get_json()["upstream"] == "ghcr.example: did not answer in time"
    assert proxy.ask("proxy.example/health?upstream").status_code == 200


@pytest.mark.parametrize("name", ["quay.io", "http://169.254.169.254/", "proxy.example", "2"])
def test_a_registry_that_is_not_served(proxy: Proxy, name: str) -> None:
    """Nothing is asked, and nobody is told that it is well."""
    answer = proxy.ask(f"proxy.example/health?upstream={name}")
    assert answer.status_code == 404
    assert answer.get_json()["errors"][0]["code"] == "NAME_UNKNOWN"
    assert proxy.asked == {}


@dataclass
class Kept:
    """A cache that says how it is."""

    said: CacheState = field(default_factory=CacheState)

    def measure_usage(self) -> tuple[int, int]:
        """Return that it is empty."""
        return 0, 0

    def read_state(self) -> CacheState:
        """Return how it is."""
        return self.said


@pytest.fixture
def kept(app: Flask) -> Kept:
    """Give the application a cache."""
    kept = Kept()
    with app.app_context():
        replace(context.get_services(), cache=kept).install(app)
    return kept


def test_without_a_cache(client: FlaskClient) -> None:
    """Nothing is wrong with one that is switched off."""
    answer = client.get("/health?cache")
    assert (answer.status_code, answer.get_json()["cache"]) == (200, "off")


def test_the_cache_keeps_nothing(client: FlaskClient, kept: Kept, source: FakeSource) -> None:
    """503 and why, in a sentence and in a word, until it keeps something; only if asked about."""
    assert client.get("/health?cache").get_json()["cache"] == "ok"
    kept.said = CacheState(fault="no_space", reason="the disk is full")
    answer = client.get("/health?cache")
    assert answer.status_code == 503
    assert answer.get_json() == {
        "status": "degraded",
        "version": VERSION,
        "cache": "the disk is full",
        "cache_error": "no_space",
    }
    assert client.get("/health").status_code == 200
    assert source.calls == []
    both = client.get("/health?upstream&cache")
    assert (both.status_code, both.get_json()["upstream"]) == (503, "ok")
    kept.said = CacheState()
    assert client.get("/health?upstream&cache").status_code == 200
    source.error = UpstreamTimeout("registry.example did not answer in time")
    answer = client.get("/health?upstream&cache")
    assert (answer.status_code, answer.get_json()["cache"]) == (503, "ok")
