"""What many tests share: clean settings, the application with a fake source, its client, stubs.

`settings`, `app`, `client` and `upstream` are what a test of a route or of a handshake starts
from; `environment` and `source` are what the first two are made of.
"""

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import responses
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.config.load import load
from app.config.settings import Settings
from app.events import current
from app.factory import create_app
from app.log_lines import TextFormatter
from app.registries import DOCKER_HUB, DOCKER_HUB_ALIASES, Registries, Registry
from app.routes.context import Services
from app.routes.forwarded import ForwardedHeaders
from tests.disks import prefer_memory
from tests.scheduling import BySite
from tests.unit.fake_source import FakeSource

prefer_memory()

# How fast a machine is must not decide; and nothing is written beside the sources. `make soak` runs
# tests/unit with the other profile; a number of a test's own there multiplies the profile's.
hypothesis.settings.register_profile("docxy", deadline=None, database=None, max_examples=60)
hypothesis.settings.register_profile("soak", deadline=None, database=None, max_examples=400)
hypothesis.settings.load_profile("docxy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the contracts with libraries come first: an upgrade is to fail there."""
    items.sort(key=lambda item: item.path.parent.name != "contracts")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what hands files out to processes, where they are kept together."""
    return BySite(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def whole_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Let `caplog.text` have the fields of each line: what is secret must not be there either."""
    caplog.handler.setFormatter(TextFormatter())


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return a monkeypatch after taking away every variable that is a setting."""
    for name in tuple(os.environ):
        if name.upper().startswith("DOCXY_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("FORWARDED_ALLOW_IPS", "PORT", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def settings(environment: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a machine on which nothing is set."""
    del environment
    return load()


@pytest.fixture
def source() -> FakeSource:
    """Return the fake that stands for the default registry."""
    return FakeSource()


@pytest.fixture
def app(settings: Settings, source: FakeSource) -> Flask:
    """Return the application as create_app wires it, with `source` as its only registry."""
    # Each registry that nobody asks would load the system's authorities.
    application = create_app(settings.model_copy(update={"well_known": ()}))
    row = Registry(
        name=DOCKER_HUB,
        url="https://registry.example",
        aliases=DOCKER_HUB_ALIASES,
        library_prefix=True,
    )
    Services(
        registries=Registries([row]),
        sources={row.name: source},
        forwarded=ForwardedHeaders(trusted="10.0.0.0/8", public_url=None),
        write_timeout=60,
    ).install(application)
    return application


class WholeAnswers(FlaskClient):
    """Reads each answer to its end and closes it, as a server does, unless told otherwise."""

    def open(self, *args: Any, buffered: bool = True, **kwargs: Any) -> TestResponse:
        """Send a request."""
        return super().open(*args, buffered=buffered, **kwargs)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Return a client that speaks to `app` without a server."""
    return WholeAnswers(app, use_cookies=False)


@pytest.fixture
def upstream() -> Iterator[responses.RequestsMock]:
    """Return stubs for the network: asked in the order of their making, all of them."""
    with responses.RequestsMock(registry=responses.registries.OrderedRegistry) as stubs:
        yield stubs


@pytest.fixture(autouse=True)
def no_request() -> None:
    """Forget the request of an earlier test whose answer was never closed."""
    current.set(None)
