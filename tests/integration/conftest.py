"""One hub and one Docxy for all tests of pulls in a process, and the three ways to that Docxy."""

import contextlib
import sys
from collections.abc import Iterator

import pytest
import requests

from tests import programs, proxies
from tests.hub.content import multi_arch
from tests.hub.hub import Hub
from tests.hub.images import OCI_KIND
from tests.integration.caching import cached, cached_docxy, kept_hub  # noqa: F401 - fixtures
from tests.integration.pulling import PRIVATE, Client, Start, Use, Way, WayName, WayNamed, client
from tests.integration.raw import Raw, RawBy
from tests.integration.registry_fixtures import (  # noqa: F401 - fixtures
    basic_default,
    fresh,
    hubs,
    managed,
    passthrough,
    plain_default,
    served,
    watched,
)
from tests.integration.secrecy import Secrets
from tests.integration.survival import bad_day, sturdy_hub, surviving, survivor  # noqa: F401 - fixtures
from tests.servers import Docxy, docxy


@pytest.fixture(scope="session")
def busy_hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        name, _, tag = PRIVATE.partition(":")
        hub.push(name, multi_arch("private", OCI_KIND, data_size=300_000), [tag])
        yield hub


@pytest.fixture(scope="session")
def proxy(busy_hub: Hub) -> Iterator[Docxy]:
    """Docxy as it is run, telling more than usual, so that more can leak."""
    with docxy(workers=2, **busy_hub.settings, DOCXY_LOG_LEVEL="debug") as proxy:
        yield proxy


@pytest.fixture(scope="session")
def secrets(proxy: Docxy) -> Iterator[Secrets]:
    secrets = Secrets(proxy)
    yield secrets
    assert secrets.look_for([]) == []


@pytest.fixture
def hub(busy_hub: Hub, proxy: Docxy, secrets: Secrets) -> Iterator[Hub]:
    """Empty the hub's memory, and see after the test to what must hold whatever was asked."""
    busy_hub.reset()
    before = len(proxy.log)
    yield busy_hub
    # Shown when the test has failed.
    sys.stdout.write(f"--- Docxy's log\n{proxy.log[before:]}")
    records = busy_hub.requests
    busy_hub.reset()
    assert secrets.look_for(records) == []
    for record in records:
        assert record.part != "cdn" or not {"Authorization", "Cookie"} & {*record.headers.keys()}
        assert "ns" not in record.query
        assert record.path.count("/library/") <= 1


@pytest.fixture(scope="session")
def way_named(proxy: Docxy) -> Iterator[WayNamed]:
    """Return a way to Docxy; nginx and Caddy start when they are first asked for."""
    ways: dict[WayName, Way] = {
        "plain": Way("plain", proxy.url, proxy.host, None, lambda: proxy.log)
    }
    with contextlib.ExitStack() as stack:

        def named(name: WayName) -> Way:
            if name not in ways:
                run = proxies.nginx if name == "nginx" else proxies.caddy
                front = stack.enter_context(run(proxy.host))
                ways[name] = _way(name, front, proxy)
            return ways[name]

        yield named


def _way(name: WayName, front: proxies.Front, proxy: Docxy) -> Way:
    return Way(name, front.url, front.host, front.ca_path, lambda: front.log + proxy.log)


@pytest.fixture
def plain(way_named: WayNamed) -> Way:
    return way_named("plain")


@pytest.fixture
def start(
    way_named: WayNamed, hub: Hub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Start]:
    """Return what starts a client of the table; it and its daemon end with the test."""
    del hub
    with contextlib.ExitStack() as stack:

        def started(name: str, way_name: WayName, use: Use) -> tuple[Client, Way]:
            way = way_named(way_name)
            home = tmp_path_factory.mktemp(name)
            return stack.enter_context(client(name, way, use, home)), way

        yield started


@pytest.fixture
def raw_by(way_named: WayNamed, hub: Hub) -> Iterator[RawBy]:
    """Return what makes a raw client for one way."""
    del hub
    with requests.Session() as session:
        session.trust_env = False

        def raw(way_name: WayName) -> Raw:
            way = way_named(way_name)
            return Raw(session, way.url, way.ca)

        yield raw
