"""What the views use."""

import socket

import pytest
from flask import Flask

from app.oci.reference import RepositoryName
from app.routes import rooms
from app.routes.asking import asked as asked_for


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("/v2/?ns=docker.io", "docker.io", id="given"),
        pytest.param("/v2/?ns=", None, id="empty"),
        pytest.param("/v2/", None, id="none"),
        pytest.param("/v2/?ns=a&ns=b", "a", id="the first of two"),
    ],
)
def test_namespace(app: Flask, url: str, expected: str | None) -> None:
    """`ns` is the client's, from the query only."""
    with app.test_request_context(url):
        assert rooms.namespace() == expected


def test_asked(app: Flask) -> None:
    """A request to a source has the method, the headers and the client's connection."""
    ours, theirs = socket.socketpair()
    overrides = {"gunicorn.socket": ours}
    headers = [("Accept", "a"), ("Authorization", "Bearer x")]
    with (
        ours,
        theirs,
        app.test_request_context(
            "/v2/", method="HEAD", headers=headers, environ_overrides=overrides
        ),
    ):
        asked = asked_for(rooms.selected(), "n=1")
        assert (asked.method, asked.query, asked.authorization) == ("HEAD", "n=1", "Bearer x")
        assert ("Accept", "a") in asked.headers
        assert asked.client is not None
        assert not asked.client.gone()
        theirs.close()
        assert asked.client.gone()


def test_one_resolver(app: Flask) -> None:
    """With and without a repository, the same registry is meant, and it has a source."""
    with app.test_request_context("/v2/?ns=index.docker.io"):
        registry = rooms.selected().registry
        assert rooms.located(RepositoryName("a/b")).registry is registry
        assert rooms.source(registry) is rooms.rooms().sources["docker.io"]
