"""What a client asks, as a source takes it."""

import socket
import time

import pytest
from flask import Flask

from app.oci.errors import Unauthorized
from app.routes.addressing import resolve_registry
from app.routes.context import RequestContext, begin, get_context
from app.routes.credentials import build_source_request
from app.source import Request
from tests.unit.routes.conftest import Proxy


def asked(query: str = "") -> tuple[RequestContext, Request]:
    """Return the context of the current request, and what a source would be asked."""
    begin()
    context = get_context()
    return context, build_source_request(context, resolve_registry(context), query)


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
        _, request = asked("n=1")
        assert (request.method, request.query, request.authorization) == ("HEAD", "n=1", "Bearer x")
        assert ("Accept", "a") in request.headers
        assert request.client is not None
        assert not request.client.is_gone()
        theirs.close()
        assert request.client.is_gone()


@pytest.mark.usefixtures("proxy")
def test_credentials_are_the_registrys(app: Flask) -> None:
    """The tag of a token is between the client and this proxy."""
    headers = {"Authorization": "Bearer ghcr.io~x", "X-Other": "y"}
    with app.test_request_context("/v2/?ns=ghcr.io", headers=headers):
        _, request = asked()
    assert request.authorization == "Bearer x"
    assert ("X-Other", "y") in request.headers


@pytest.mark.usefixtures("proxy")
def test_a_foreign_token_asks_nothing(app: Flask) -> None:
    """There is no request to hand to a source."""
    headers = {"Authorization": "Bearer ghcr.io~x"}
    with app.test_request_context("/v2/", headers=headers), pytest.raises(Unauthorized) as caught:
        asked()
    assert caught.value.extra_headers.keys() == {"WWW-Authenticate"}


def test_the_time_of_asking_is_kept(app: Flask) -> None:
    """The access line tells how long the source took."""
    with app.test_request_context("/v2/"):
        before = time.monotonic()
        context, _ = asked()
        assert context.called_at is not None
        assert before <= context.called_at <= time.monotonic()


@pytest.mark.parametrize(
    ("url", "query"),
    [
        pytest.param("proxy.example/v2/a/b/tags/list?n=2&ns=ghcr.io&last=x", "n=2&last=x", id="ns"),
        pytest.param("proxy.example/v2/a/b/tags/list?ns=ghcr.io", "", id="ns alone"),
        pytest.param("proxy.example/v2/a/b/tags/list?ns=ghcr.io&ns=docker.io", "", id="twice"),
        pytest.param("proxy.example/v2/ghcr.io/a/b/tags/list?n=2", "n=2", id="prefix"),
        pytest.param(
            f"proxy.example/v2/a/b/referrers/sha256:{'0' * 64}?ns=ghcr.io&artifactType=a%2Fb",
            "artifactType=a%2Fb",
            id="referrers",
        ),
        pytest.param("proxy.example/v2/a/b/manifests/x?ns=ghcr.io&a=b", "", id="manifest"),
        pytest.param(f"proxy.example/v2/a/b/blobs/sha256:{'0' * 64}?ns=ghcr.io&a=b", "", id="blob"),
        pytest.param("proxy.example/v2/?ns=ghcr.io&a=b", "", id="ping"),
    ],
)
def test_ns_is_never_passed_up(proxy: Proxy, url: str, query: str) -> None:
    """It is between the client and this proxy; the rest passes where answers depend on it."""
    proxy.ask(url)
    assert {name: call.request.query for name, call in proxy.asked.items()} == {"ghcr.io": query}
