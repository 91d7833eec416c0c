"""What tests of routes share: a proxy of several registries, each of them a fake."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.registries import DOCKER_HUB, DOCKER_HUB_ALIASES, Registries, Registry
from app.routes.context import Services
from app.routes.forwarded import ForwardedHeaders
from tests.unit.fake_source import Call, FakeSource

ROWS = (
    Registry(
        name=DOCKER_HUB,
        url="https://hub.example",
        aliases=DOCKER_HUB_ALIASES,
        library_prefix=True,
    ),
    Registry(name="ghcr.io", url="https://ghcr.example", aliases=frozenset({"github"})),
    Registry(
        name="own.example:5000",
        url="https://own.example:5000",
        aliases=frozenset({"own"}),
        hosts=frozenset({"own.proxy.example"}),
    ),
    Registry(name="trusted.example", url="https://trusted.example", prefix_login=True),
    Registry(name="managed.example", url="https://managed.example", managed=True),
    Registry(name="public.ecr.aws", url="https://ecr.example"),
)


@dataclass(frozen=True)
class Proxy:
    """A proxy at `proxy.example`, and what reached its registries."""

    client: FlaskClient
    sources: dict[str, FakeSource]

    def ask(
        self, url: str, method: str = "GET", *, authorization: str = "", form: str | None = None
    ) -> TestResponse:
        """Ask for a URL without its scheme, as a server hands the request on."""
        host, _, path = url.partition("/")
        # Several lines of one name come as one, with commas between them.
        environ = {"HTTP_AUTHORIZATION": authorization} if authorization else {}
        return self.client.open(
            f"/{path}",
            base_url=f"http://{host}",
            method=method,
            environ_overrides=environ,
            data=form,
            content_type=None if form is None else "application/x-www-form-urlencoded",
        )

    @property
    def asked(self) -> dict[str, Call]:
        """Return the last question of every registry that was asked one."""
        return {name: source.calls[-1] for name, source in self.sources.items() if source.calls}


@pytest.fixture
def serving(app: Flask, client: FlaskClient) -> Callable[..., Proxy]:
    """Return what makes a proxy of ROWS, with the first or `default` for its default."""

    def serve(default: str | None = None, public_url: str | None = None) -> Proxy:
        sources = {row.name: FakeSource() for row in ROWS}
        registries = Registries(ROWS, default)
        Services(
            registries=registries,
            sources=sources,
            forwarded=ForwardedHeaders(
                trusted="10.0.0.0/8", public_url=public_url, hosts=registries.hosts
            ),
            write_timeout=60,
        ).install(app)
        return Proxy(client, sources)

    return serve


@pytest.fixture
def proxy(serving: Callable[..., Proxy]) -> Proxy:
    """Return a proxy of ROWS."""
    return serving()
