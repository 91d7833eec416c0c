"""What servers on the way may keep, where not all clients get the same answers."""

import base64
from pathlib import Path

import pytest
from flask import Flask

from app.config.load import load
from app.factory import create_app
from app.source import HandedOver
from tests.unit.routes.conftest import Proxy

SECRET = "a secret of some length"  # noqa: S105 - of these tests only
BASIC = f"Basic {base64.b64encode(f'alice:{SECRET}'.encode()).decode()}"
USERS = {"DOCXY_SHARED_SECRET": SECRET, "DOCXY_TOKEN_KEY": "k" * 32, "DOCXY_CREDENTIALS": "managed"}
RULE = '[[rules]]\naction = "deny"\nrepository = "team/**"\n'
PUBLIC, PRIVATE = "public, max-age=3600, immutable", "private, no-store"
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture
def app(request: pytest.FixtureRequest, environment: pytest.MonkeyPatch, tmp_path: Path) -> Flask:
    """Return an application of variables and of what stands in the file."""
    variables, written = request.param
    path = tmp_path / "docxy.toml"
    path.write_text(written)
    for name, value in {"DOCXY_CONFIG": str(path), **variables}.items():
        environment.setenv(name, value)
    return create_app(load())


@pytest.mark.parametrize(
    ("app", "said"),
    [
        pytest.param(({}, ""), PUBLIC, id="for everybody"),
        pytest.param(({}, RULE), PUBLIC, id="rules that are the same for all"),
        pytest.param(({}, f'{RULE}networks = ["10.0.0.0/8"]\n'), PRIVATE, id="rules by network"),
        pytest.param(({"DOCXY_ALLOW_NETWORKS": "127.0.0.0/8"}, ""), PRIVATE, id="allowed networks"),
        pytest.param(({"DOCXY_DENY_NETWORKS": "192.0.2.0/24"}, ""), PRIVATE, id="denied networks"),
        pytest.param((USERS, ""), PRIVATE, id="users"),
    ],
    indirect=["app"],
)
def test_what_is_for_some_clients_is_kept_by_none(proxy: Proxy, said: str) -> None:
    """Whoever is in front would give it to all, whatever the registry or the cache says of it."""
    fields = [("Cache-Control", PUBLIC), ("Expires", "Thu, 01 Jan 2099 00:00:00 GMT")]
    for source in proxy.sources.values():
        source.answers(b"x", headers=fields)
    for path in (
        "nginx/manifests/1", f"nginx/manifests/{DIGEST}", f"nginx/blobs/{DIGEST}",
        "nginx/tags/list", f"ghcr.io/a/b/referrers/{DIGEST}",
    ):  # fmt: skip
        for method in ("GET", "HEAD"):
            answer = proxy.ask(f"proxy.example/v2/{path}", method, authorization=BASIC)
            assert answer.status_code == 200
            assert answer.headers.getlist("Cache-Control") == [said]
            assert ("Expires" in answer.headers) is (said == PUBLIC)


@pytest.mark.parametrize(
    ("app", "said"),
    [(({}, ""), PUBLIC), (({"DOCXY_DENY_NETWORKS": "192.0.2.0/24"}, ""), PRIVATE)],
    indirect=["app"],
)
def test_what_nginx_sends(proxy: Proxy, said: str) -> None:
    """It gives the header back under its own name, once."""
    fields = [("Cache-Control", PUBLIC)]
    proxy.sources["docker.io"].answers(body=HandedOver("/kept/x"), headers=fields)
    answer = proxy.ask(f"proxy.example/v2/nginx/blobs/{DIGEST}")
    assert answer.headers.getlist("X-Accel-Cache-Control") == [said]
    assert "Cache-Control" not in answer.headers
