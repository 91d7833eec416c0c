import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import Docxy, docxy
from tests.wire.client import Answer, Client
from tests.wire.names import resolving
from tests.wire.outbound import HttpProxy, SocksProxy
from tests.wire.upstream import Upstream, always, playing, response
from tests.wire.wires import BLOB, MANIFEST, REPEATED, Certificates, location, upstream_settings

SETTING = "DOCXY_ALLOW_PRIVATE_UPSTREAMS"
NAMES = {
    "registry.test": ["127.0.0.1"],
    "four.near.test": ["10.0.0.1", "127.0.0.1"],
    "six.near.test": ["::1"],
    "mapped.near.test": ["::ffff:127.0.0.1"],
    "carried.near.test": ["64:ff9b::7f00:1", "2002:7f00:1::"],
    "fake.near.test": ["198.18.0.1"],
}
SPELLINGS = [
    "127.0.0.1",
    "2130706433",
    "0177.0.0.1",
    "0x7f.1",
    "localhost",
    "LocalHost.",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "%31%32%37.0.0.1",
]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment in which the names above resolve."""
    return resolving(tmp_path_factory.mktemp("names"), NAMES)


def without_the_switch(upstream: Upstream, home: Path, **more: str) -> dict[str, str]:
    """Return the settings of a proxy for this upstream, but for the switch."""
    settings = upstream_settings(upstream, home, **more)
    del settings[SETTING]
    return settings


def get(proxy: Docxy, path: str, method: str = "GET") -> Answer:
    """Return what a client is answered."""
    with Client(proxy.host) as client:
        return client.get(path, method=method)


def refused(answer: Answer, host: str) -> None:
    """See that an answer is the refusal of a host, and names the setting."""
    assert (answer.status, answer.complete) == (502, True)
    assert answer.head.value("Content-Type") == "application/json"
    assert answer.head.values("Retry-After") == []
    (error,) = json.loads(answer.body)["errors"]
    assert error["code"] == "UNAVAILABLE"
    if "%" in host:  # an address for some parsers, and a name for others
        assert error["message"].endswith("redirects to a URL that this proxy does not follow")
    else:
        begin = f"{host}: its address is not public; {SETTING} allows that"
        assert error["message"].startswith(begin)


def test_a_registry_on_loopback_is_refused(home: Path, names: dict[str, str]) -> None:
    """By its name: 502 for everything that would ask it, and no connection."""
    with Upstream(name="registry.test") as registry, playing(registry):
        settings = without_the_switch(registry, home, **names)
        with docxy(workers=1, **settings) as proxy:
            for path in (MANIFEST, BLOB, "/v2/", "/auth/token?service=registry.test"):
                refused(get(proxy, path), "registry.test")
            assert get(proxy, BLOB, "HEAD").status == 502
            assert get(proxy, "/health").status == 200
            health = get(proxy, "/health?upstream")
            assert health.status == 503
            assert SETTING in health.body.decode()
            assert registry.connections == []
            assert "Upstream address is not public." in proxy.log
            assert 'error="AddressForbidden: registry.test is 127.0.0.1"' in proxy.log
            assert "Traceback" not in proxy.log


@pytest.mark.parametrize("worker", ["gevent", "gthread"])
def test_a_registry_on_loopback_with_the_switch_on(
    home: Path, names: dict[str, str], worker: str
) -> None:
    """It is reached, and so is where it redirects to."""
    arguments = ["--worker-class", "gthread"] if worker == "gthread" else []
    with (
        Upstream(name="registry.test") as registry,
        Upstream() as cdn,
        playing(registry),
        playing(cdn),
    ):
        cdn.play(always(response(b"layer")))
        registry.play(always(location(f"{cdn.url}/layer")))
        settings = upstream_settings(registry, home, **names)
        with docxy(*arguments, workers=1, **settings) as proxy:
            assert get(proxy, BLOB).body == b"layer"


@dataclass(frozen=True)
class Outbound:
    """A guarded proxy that reaches its registry through another, and some names directly."""

    proxy: Docxy
    registry: Upstream
    way: HttpProxy | SocksProxy


@contextlib.contextmanager
def behind(scheme: str, certificates: Certificates, home: Path, **more: str) -> Iterator[Outbound]:
    """Run a guarded proxy that must reach its registry through another one."""
    with (
        HttpProxy() if scheme == "http" else SocksProxy() as way,
        Upstream(certificates.context, name="registry.test") as registry,
        playing(registry),
    ):
        settings = without_the_switch(
            registry,
            home,
            DOCXY_CA_BUNDLE=str(certificates.ca_path),
            ALL_PROXY=f"{scheme}://127.0.0.1:{way.port}",
            NO_PROXY=".near.test",
            **REPEATED,
            **more,
        )
        with docxy(workers=1, **settings) as proxy:
            yield Outbound(proxy, registry, way)


@pytest.fixture(scope="module", params=["http", "socks5h"])
def outbound(
    request: pytest.FixtureRequest, certificates: Certificates, home: Path, names: dict[str, str]
) -> Iterator[Outbound]:
    with behind(request.param, certificates, home, **names) as made:
        yield made


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_redirects_to_this_machine_are_refused(
    outbound: Outbound, certificates: Certificates, scheme: str
) -> None:
    """In every spelling through an outbound proxy, and by whatever name without it."""
    registry, way = outbound.registry, outbound.way
    context = certificates.context if scheme == "https" else None
    with Upstream(context) as near, playing(near):
        for host in (*SPELLINGS, *(name for name in NAMES if "near" in name)):
            target = f"{scheme}://{host}:{near.port}/latest?signature=s3cr3t"
            registry.play(always(location(target)))
            asked = len(way.passages)
            refused(get(outbound.proxy, BLOB), host.strip("[]").lower())
            assert near.connections == [], host
            beside = [one for one in way.targets[asked:] if "registry.test" not in one]
            assert beside == [], host
    assert "s3cr3t" not in outbound.proxy.log


def test_redirects_to_names_are_for_the_outbound_proxy(outbound: Outbound) -> None:
    """What they lead to is its business: nothing is resolved here."""
    with Upstream(name="cdn.test") as cdn, playing(cdn):
        cdn.play(always(response(b"layer")))
        outbound.registry.play(always(location(f"{cdn.url}/layer")))
        assert get(outbound.proxy, BLOB).body == b"layer"
        assert "cdn.test" in outbound.way.targets[-1]


def test_a_socks_proxy_that_is_given_addresses(
    certificates: Certificates, home: Path, names: dict[str, str]
) -> None:
    """socks5: names are resolved here, and so they are looked at here."""
    with behind("socks5", certificates, home, **names) as outbound:
        refused(get(outbound.proxy, MANIFEST), "registry.test")
        assert outbound.way.passages == []
        assert outbound.registry.connections == []
