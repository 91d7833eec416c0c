"""GET /health: this process is up; only when asked is the registry looked at."""

import pytest
from flask.testing import FlaskClient

from app.oci.errors import UpstreamTimeout
from app.version import VERSION
from tests.unit.fake_source import FakeSource


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
