"""GET /v1/search: Docker Hub's index, and nothing of the client's but what it looks for."""

import logging
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.registries import Registries
from app.routes.context import Services
from app.source import Reply, Request, build_reply
from tests.unit.routes.conftest import ROWS


class FakeIndex:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.reply = build_reply(200, [("Content-Type", "application/json")], b'{"results": []}')

    def search(self, request: Request) -> Reply:
        """Answer."""
        self.asked.append(request)
        return self.reply


@pytest.fixture
def index(app: Flask) -> FakeIndex:
    """Return the index of a proxy with a host for another registry."""
    index = FakeIndex()
    rooms: Services = app.extensions["docxy"]
    registries = Registries(ROWS)
    replace(rooms, registries=registries, index=index).install(app)
    return index


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("q=nginx&n=10", "q=nginx&n=10&page=1"),
        ("q=a+b%26c&page=3", "q=a+b%26c&n=25&page=3"),
        (f"q=x&n=1000&page={'9' * 5000}", "q=x&n=100&page=1000"),
        ("q=x&n=00&page=0", "q=x&n=1&page=1"),
        ("q=x&n=-1&page=%D9%A3", "q=x&n=25&page=1"),
        ("q=x&ns=ghcr.io&host=other.example&url=https://other.example", "q=x&n=25&page=1"),
        ("", "q=&n=25&page=1"),
        (f"q={'x' * 300}", f"q={'x' * 256}&n=25&page=1"),
    ],
)
def test_search(client: FlaskClient, index: FakeIndex, query: str, asked: str) -> None:
    """What is passed is written anew, and no login is."""
    answer = client.get(
        f"/v1/search?{query}",
        headers={"Authorization": "Basic c2VjcmV0", "Cookie": "a=b", "X-Docker-Token": "true"},
    )
    assert (answer.status_code, answer.get_json()) == (200, {"results": []})
    (request,) = index.asked
    assert request.query == asked
    assert request.headers == [("Via", "1.1 docxy")]


def test_the_line_has_the_registry(
    client: FlaskClient, index: FakeIndex, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts as one for Docker Hub."""
    caplog.set_level(logging.INFO, "app.access")
    client.get("/v1/search?q=x")
    assert len(index.asked) == 1
    (line,) = (record for record in caplog.records if record.name == "app.access")
    assert line.__dict__["fields"]["registry"] == "docker.io"


def test_docker_asks_first(client: FlaskClient, index: FakeIndex) -> None:
    """Docker pings, and is told that logins are not for the search."""
    answer = client.get("/v1/_ping")
    assert answer.status_code == 200
    assert answer.headers["X-Docker-Registry-Standalone"] == "false"
    assert index.asked == []


@pytest.mark.parametrize("path", ["/v1/search?q=x", "/v1/_ping"])
def test_only_docker_hub_is_searched(client: FlaskClient, index: FakeIndex, path: str) -> None:
    """The host of another registry has no search."""
    assert client.get(path, base_url="http://own.proxy.example").status_code == 404
    assert index.asked == []


def test_another_default_registry(app: Flask, client: FlaskClient, index: FakeIndex) -> None:
    """There is no index where the default registry is another one."""
    rooms: Services = app.extensions["docxy"]
    replace(rooms, registries=Registries(ROWS, "ghcr.io")).install(app)
    assert client.get("/v1/search?q=x").status_code == 404
    replace(rooms, index=None).install(app)
    assert client.get("/v1/search?q=x").status_code == 404
    assert index.asked == []


def test_a_loop(client: FlaskClient, index: FakeIndex) -> None:
    """An index that is this proxy itself is found out."""
    answer = client.get("/v1/search?q=x", headers={"Via": ", ".join(["1.1 docxy"] * 4)})
    assert answer.status_code == 508
    assert index.asked == []
