"""What the views read of a request, and what is released when it ends."""

from typing import NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from app.access.networks import ClientIdentity
from app.oci.errors import MethodUnsupported
from app.oci.reference import Kind, Operation, RepositoryName, Tag
from app.oci.scope import Action
from app.routes.addressing import resolve, resolve_registry
from app.routes.context import begin, get_context
from tests.unit.fake_source import FakeSource
from tests.unit.routes.conftest import Proxy

NAME = RepositoryName("a/b")
TAGS = Operation.tags(NAME)


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
        begin()
        assert get_context().ns == expected


def test_one_resolver(app: Flask) -> None:
    """With and without a repository, the same registry is meant, and it has a source."""
    with app.test_request_context("/v2/?ns=index.docker.io"):
        begin()
        context = get_context()
        registry = resolve_registry(context).registry
        assert resolve(context, TAGS)[0].registry is registry
        assert context.services.get_source(registry) is context.services.sources["docker.io"]


@pytest.mark.parametrize(
    ("url", "host", "expected"),
    [
        pytest.param("/v2/", "proxy.example", "docker.io", id="default"),
        pytest.param("/v2/?ns=ghcr.io", "proxy.example", "ghcr.io", id="ns"),
        pytest.param("/v2/", "own.proxy.example", "own.example:5000", id="host"),
        pytest.param("/v2/", "OWN.proxy.example:8443", "own.example:5000", id="port"),
        pytest.param("/v2/?ns=docker.io", "own.proxy.example", "docker.io", id="both"),
    ],
)
def test_several(app: Flask, proxy: Proxy, url: str, host: str, expected: str) -> None:
    """`ns` and the host count for what has a repository and for what has none."""
    with app.test_request_context(url, base_url=f"http://{host}"):
        begin()
        context = get_context()
        assert resolve_registry(context).registry.name == expected
        address, _ = resolve(context, TAGS)
        assert address.registry.name == expected
        assert context.services.get_source(address.registry) is proxy.sources[expected]


@pytest.mark.parametrize(
    ("told", "peer", "expected"),
    [
        pytest.param("own.proxy.example", "10.0.0.1", "own.example:5000", id="trusted"),
        pytest.param("own.proxy.example", "192.0.2.1", "docker.io", id="not trusted"),
        pytest.param("x, own.proxy.example", "10.0.0.1", "own.example:5000", id="the last"),
    ],
)
@pytest.mark.usefixtures("proxy")
def test_the_host_that_a_server_in_front_tells(
    app: Flask, told: str, peer: str, expected: str
) -> None:
    """It chooses a registry only where the server is trusted."""
    with app.test_request_context(
        "/v2/",
        base_url="http://proxy.example",
        headers={"X-Forwarded-Host": told},
        environ_overrides={"REMOTE_ADDR": peer},
    ):
        begin()
        assert resolve_registry(get_context()).registry.name == expected


@pytest.mark.parametrize(
    ("path", "method", "operation"),
    [
        pytest.param("/v2/", "GET", Operation.ping(), id="ping"),
        pytest.param("/v2/a/b/tags/list", "GET", TAGS, id="tags"),
        pytest.param(
            "/v2/a/b/manifests/1", "HEAD", Operation.manifest(NAME, Tag("1")), id="manifest"
        ),
        pytest.param("/v2/a/b/manifests/1", "PUT", None, id="push"),
        pytest.param("/health", "GET", None, id="elsewhere"),
    ],
)
def test_what_a_request_asks_of_a_registry(
    app: Flask, path: str, method: str, operation: Operation | None
) -> None:
    """It is in the client's naming; nothing but a pull is an operation yet."""
    with app.test_request_context(path, method=method):
        begin()
        assert get_context().operation == operation


@pytest.mark.parametrize("action", [Action.PUSH, Action.DELETE])
def test_nothing_but_pulls_is_resolved(app: Flask, action: Action) -> None:
    """Without rules too: they say nothing about pushes."""
    with app.test_request_context("/v2/a/b/manifests/1"):
        begin()
        with pytest.raises(MethodUnsupported):
            resolve(get_context(), Operation(Kind.MANIFEST, NAME, Tag("1"), action))


def test_what_is_released(app: Flask, client: FlaskClient, source: FakeSource) -> None:
    """Once, the last first, when the body has ended and not before; also where there is none."""
    done = list[str]()

    @app.before_request
    def take() -> None:
        for name in ("first", "last"):
            get_context().at_end.callback(done.append, name)

    source.answers(b"bo", b"dy")
    answer = client.get("/v2/library/nginx/manifests/1", buffered=False)
    assert done == []
    answer.close()
    assert done == ["last", "first"]
    source.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        client.get("/v2/library/nginx/manifests/1")
    assert done == ["last", "first"] * 2


def test_a_head_that_the_server_refuses(app: Flask, source: FakeSource) -> None:
    """Servers then close nothing, so the request releases what it holds itself, and once."""
    done = list[str]()

    @app.before_request
    def take() -> None:
        get_context().at_end.callback(done.append, "released")

    def refuse(*_: object) -> NoReturn:
        raise LookupError

    source.answers(b"body")
    environ = EnvironBuilder("/v2/library/nginx/manifests/1").get_environ()
    with pytest.raises(LookupError):
        app.wsgi_app(environ, refuse)
    assert done == ["released"]
    assert source.closed == 1


def test_a_client_that_logs_in(app: Flask) -> None:
    """The address is read once, and the user is known as soon as it is noted."""
    with app.test_request_context("/v2/", environ_overrides={"REMOTE_ADDR": "192.0.2.1"}):
        begin()
        context = get_context()
        assert context.client == ClientIdentity("192.0.2.1", is_known=True, user="")
        context.user = "alice"
        assert context.client == ClientIdentity("192.0.2.1", is_known=True, user="alice")
