import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import Docxy, docxy
from tests.wire.client import Client
from tests.wire.outbound import HttpProxy, Passage, SocksProxy
from tests.wire.upstream import Connection, Upstream, always, head, playing, response, silent
from tests.wire.wires import BLOB, MANIFEST, REPEATED, Certificates, location, upstream_settings

SECRET = "proxy-password"  # noqa: S105 - of a proxy of the test's own


@dataclass(frozen=True)
class Outbound:
    """A proxy that reaches a TLS registry and a plain CDN, by names only others can resolve."""

    proxy: Docxy
    registry: Upstream
    cdn: Upstream
    for_https: HttpProxy
    for_http: HttpProxy


@contextlib.contextmanager
def registry_and_cdn(certificates: Certificates) -> Iterator[tuple[Upstream, Upstream]]:
    """Run a registry and a CDN that it redirects to."""
    with (
        Upstream(certificates.context, name="registry.test") as registry,
        Upstream(name="cdn.test") as cdn,
        playing(registry),
        playing(cdn),
    ):
        cdn.play(always(response(b"layer")))
        registry.play(always(location(f"{cdn.url}/layer?signature=1")))
        yield registry, cdn


@pytest.fixture(scope="module")
def outbound(certificates: Certificates, home: Path) -> Iterator[Outbound]:
    with (
        registry_and_cdn(certificates) as (registry, cdn),
        HttpProxy() as for_https,
        HttpProxy() as for_http,
    ):
        settings = upstream_settings(
            registry,
            home,
            DOCXY_CA_BUNDLE=str(certificates.ca_path),
            HTTPS_PROXY=f"http://user:{SECRET}@127.0.0.1:{for_https.port}",
            HTTP_PROXY=for_http.url,
            NO_PROXY="other.test, 127.0.0.0/8, .internal.test",
            **REPEATED,
        )
        with docxy(workers=1, **settings) as proxy:
            yield Outbound(proxy, registry, cdn, for_https, for_http)


def pulled(proxy: Docxy, path: str = BLOB) -> bytes:
    """Return what a client pulls."""
    with Client(proxy.host) as client:
        answer = client.get(path, "Authorization: Bearer mine")
    assert (answer.status, answer.complete) == (200, True), answer
    return answer.body


def leaves_nothing_behind(proxy: Docxy, registry: Upstream) -> None:
    """See that a client that leaves frees the registry's connection, as without a proxy."""

    def silent_in_mid_body(connection: Connection) -> None:
        connection.head()
        connection.send(head("Content-Length: 100"), b"some")
        connection.until_left()

    for script in (silent_in_mid_body, silent):
        registry.play(script)
        with Client(proxy.host) as client:
            client.ask(BLOB)
            if script is silent_in_mid_body:
                client.head()
                assert client.exactly(4) == b"some"
            connection = registry.connection()
            client.close()
            assert connection.left.wait(1.5)


def test_http_proxies_are_used_for_requests_and_redirects(outbound: Outbound) -> None:
    """HTTPS_PROXY by CONNECT, HTTP_PROXY by whole URLs, each with its credentials."""
    registry, cdn = outbound.registry, outbound.cdn
    registry.play(always(location(f"{cdn.url}/layer?signature=1")))
    assert pulled(outbound.proxy) == b"layer"
    assert pulled(outbound.proxy) == b"layer"
    assert outbound.for_https.passages[-1] == Passage(
        f"registry.test:{registry.port}", f"user:{SECRET}"
    )
    assert f"{cdn.url}/layer?signature=1" in outbound.for_http.targets
    assert len(registry.asked) == 2
    assert all(asked.values("Proxy-Authorization") == [] for asked in registry.asked)
    assert all(asked.values("Authorization") == [] for asked in cdn.asked)
    assert SECRET not in outbound.proxy.log


def test_a_client_that_leaves_frees_what_it_had_through_a_proxy(outbound: Outbound) -> None:
    """Through CONNECT as without."""
    leaves_nothing_behind(outbound.proxy, outbound.registry)


def test_no_proxy_is_applied_at_redirects(outbound: Outbound) -> None:
    """From the registry behind the proxy to a neighbour, and by it to the CDN behind the other."""
    with Upstream() as near, Upstream(name="x.internal.test") as unresolved, playing(near):
        near.play(always(response(b"near")))
        outbound.registry.play(always(location(f"{near.url}/layer")))
        assert pulled(outbound.proxy) == b"near"
        near.play(always(location(f"{outbound.cdn.url}/by-near")))
        assert pulled(outbound.proxy) == b"layer"
        assert outbound.cdn.asked[-1].target.endswith("/by-near")
        near.play(always(location(f"{unresolved.url}/layer")))
        with Client(outbound.proxy.host) as client:
            assert client.get(BLOB).status == 503
        assert not [target for target in outbound.for_http.targets if str(near.port) in target]
        assert not [target for target in outbound.for_http.targets if "internal" in target]


def test_a_socks_proxy_resolves_the_names(certificates: Certificates, home: Path) -> None:
    """socks5h: no name is looked up here, at redirects neither."""
    with registry_and_cdn(certificates) as (registry, cdn), SocksProxy() as socks:
        url = f"socks5h://user:{SECRET}@127.0.0.1:{socks.port}"
        settings = upstream_settings(
            registry,
            home,
            DOCXY_CA_BUNDLE=str(certificates.ca_path),
            ALL_PROXY=url,
            **REPEATED,
        )
        with docxy(workers=1, **settings) as proxy:
            assert pulled(proxy) == b"layer"
            assert socks.passages == [
                Passage(f"registry.test:{registry.port}", f"user:{SECRET}"),
                Passage(f"cdn.test:{cdn.port}", f"user:{SECRET}"),
            ]
            leaves_nothing_behind(proxy, registry)
            assert SECRET not in proxy.log


def test_a_dead_proxy_is_a_503_and_no_secret_in_the_log(home: Path) -> None:
    """Nothing goes round it."""
    with Upstream() as registry, playing(registry), HttpProxy() as gone:
        port = gone.port
    with Upstream() as registry, playing(registry):
        url = f"http://user:{SECRET}@127.0.0.1:{port}"
        settings = upstream_settings(registry, home, HTTP_PROXY=url, HTTPS_PROXY=url)
        with docxy(workers=1, **settings) as proxy:
            with Client(proxy.host) as client:
                assert client.get(f"{MANIFEST}?ns=docker.io").status == 503
            assert registry.connections == []
            assert SECRET not in proxy.log
            assert "Traceback" not in proxy.log
