"""What Flask is spared, and what it must find all the same."""

import pytest
from flask.testing import FlaskClient

DIGEST = "sha256:" + "5" * 64


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.test"])
def test_no_host_hides_a_view(client: FlaskClient, host: str) -> None:
    """An unknown host means the default registry, and so does one that is no name at all."""
    answer = client.get(f"/v2/library/alpine/manifests/{DIGEST}", headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/health", 200),
        ("POST", "/health", 405),
        ("GET", "/health/nothing", 404),
        ("GET", "/v2", 200),
    ],
)
def test_views_are_found(client: FlaskClient, method: str, path: str, status: int) -> None:
    """By their path as it was sent, and by their method."""
    assert client.open(path, method=method).status_code == status


def test_nobody_gets_a_session(client: FlaskClient) -> None:
    """Answers are the same for all who ask."""
    answer = client.get("/health", headers={"Cookie": "session=x"})
    assert "Set-Cookie" not in answer.headers
    assert "Cookie" not in answer.headers.get("Vary", "")
