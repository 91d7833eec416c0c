"""The address guard: what a Session connects to, and what it asks an outbound proxy for."""

import contextlib
import itertools
import logging
import socket
import ssl
from collections.abc import Iterator

import pytest
import trustme

from app.oci.errors import (
    OutboundProxyFails,
    RegistryError,
    UpstreamForbidden,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from app.upstream.http import redirects
from app.upstream.http.body import discard
from app.upstream.http.connect import Connector
from app.upstream.http.deadlines import NO_LIMIT
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from tests.lines import line_of
from tests.unit.network import PUBLIC, PUBLIC_6, Network
from tests.unit.upstream.server import PATIENCE, Script, Server, answering, request, serving
from tests.wire.outbound import HttpProxy, SocksProxy

NAME = "registry.example"
OTHER = "cdn.example"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

SPELLINGS = [
    "127.0.0.1",
    "2130706433",
    "0177.0.0.1",
    "0x7f000001",
    "127.1",
    "0",
    "10.0.0.1",
    "169.254.169.254",
    "198.18.0.1",
    "224.0.0.1",
    "localhost",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1%251]",
    "[fd00::1]",
]
"""Hosts that the system's resolver takes for special addresses."""


def session(
    proxy: str | None = None,
    *,
    no_proxy: str = "",
    allow_private: bool = False,
    ca_bundle: str | None = None,
) -> Session:
    """Return a Session, guarded unless it is said otherwise."""
    return Session(
        ca_bundles=[ca_bundle] if ca_bundle else [],
        proxies=OutboundProxies(https=proxy, http=proxy, no_proxy=no_proxy),
        connect_timeout=PATIENCE,
        read_timeout=PATIENCE,
        connector=Connector(allow_private, prefer_ipv4=False),
    )


def status(own: Session, url: str) -> int:
    """Return the status with which a URL is answered."""
    response = own.send("GET", url, [])
    discard(response)
    return response.status_code


def forbidden(own: Session, url: str, method: str = "GET") -> str:
    """Return what is told about a URL that is refused."""
    with pytest.raises(UpstreamForbidden) as caught:
        own.send(method, url, [])
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_special_hosts_are_refused(network: Network, scheme: str) -> None:
    """In every spelling: nothing is connected to."""
    own = session()
    for host in SPELLINGS:
        with pytest.raises(RegistryError) as caught:  # musl and others read fewer spellings
            own.send("GET", f"{scheme}://{host}:5000/", [])
        assert isinstance(caught.value, UpstreamForbidden), host
        assert network.connected == [], host


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_names_of_special_addresses_are_refused(
    network: Network, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """The client is told the host and the setting, the log the address too, and no query."""
    network.resolves(NAME, ["10.0.0.7"])
    told = forbidden(session(), f"http://user:pw@{NAME}/v2/?signature=s3cr3t", method)
    assert told == (
        f"{NAME}: its address is not public; DOCXY_ALLOW_PRIVATE_UPSTREAMS allows that "
        "(allow_private for one registry)"
    )
    assert network.connected == []
    assert network.asked == [NAME]
    (line,) = (line_of(record) for record in caplog.records if record.name.startswith("app"))
    assert line == (
        f"WARNING Upstream address is not public. url=http://{NAME}/v2/ "
        f'error="AddressForbidden: {NAME} is 10.0.0.7"'
    )


def test_public_addresses_are_connected_to(network: Network) -> None:
    """By name or by address."""
    with serving(answering(OK)) as server:
        network.resolves(NAME, ["127.0.0.1", PUBLIC])
        network.routed(PUBLIC, server.port)
        network.routed(PUBLIC_6, server.port)
        assert status(session(), f"http://{NAME}/") == 200
        assert status(session(), f"http://{PUBLIC}/") == 200
        assert status(session(), f"http://[{PUBLIC_6}]/") == 200
        assert network.connected == [PUBLIC, PUBLIC, PUBLIC_6]


def test_tls_is_with_the_name(network: Network) -> None:
    """The certificate is the name's, though the connection is to an address."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    with serving(answering(OK), context) as server:
        network.resolves(NAME, [PUBLIC])
        network.routed(PUBLIC, server.port)
        assert (
            status(session(ca_bundle=authority.cert_pem.bytes().decode()), f"https://{NAME}/")
            == 200
        )


def test_a_name_that_changes_its_mind(network: Network) -> None:
    """Each new connection is looked at; a kept one is to what was looked at."""

    def script(peer: socket.socket, server: Server) -> None:
        del server
        while request(peer):
            peer.sendall(OK)

    with serving(script) as server:
        network.resolves(NAME, [PUBLIC], *[["127.0.0.1"]] * 2)
        network.routed(PUBLIC, server.port)
        own = session()
        url = f"http://{NAME}:{server.port}/"
        assert [status(own, url), status(own, url)] == [200, 200]
        server.peers[0].shutdown(socket.SHUT_RDWR)
        with pytest.raises((UpstreamForbidden, UpstreamUnavailable)):
            own.send("GET", url, [])  # on a busy machine the end comes a moment later
        forbidden(own, url)
        assert network.connected == [PUBLIC]


def redirecting(location: str) -> Script:
    """Return a script that redirects there."""
    head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    return answering(head.encode())


@pytest.mark.parametrize("host", [*SPELLINGS, OTHER, "a.localhost"])
def test_redirects_to_special_addresses_are_refused(network: Network, host: str) -> None:
    """Where a registry leads to, the guard looks too."""
    network.resolves(OTHER, ["::ffff:10.0.0.7"])
    network.resolves("a.localhost", ["127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        target = f"http://{host}:{listener.getsockname()[1]}/latest/meta-data/"
        with serving(redirecting(target)) as server:
            network.resolves(NAME, [PUBLIC])
            network.routed(PUBLIC, server.port)
            with pytest.raises(UpstreamForbidden):
                redirects.Redirects(session()).fetch("GET", f"http://{NAME}/", [], NO_LIMIT)
        assert network.connected == [PUBLIC]
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_redirects_to_public_addresses_are_followed(network: Network) -> None:
    """As ever."""
    with (
        serving(answering(OK)) as cdn,
        serving(redirecting(f"http://{OTHER}:{cdn.port}/")) as server,
    ):
        network.resolves(NAME, [PUBLIC])
        network.routed(PUBLIC, server.port)
        network.resolves(OTHER, [PUBLIC_6])
        network.routed(PUBLIC_6, cdn.port)
        response = redirects.Redirects(session()).fetch("GET", f"http://{NAME}/", [], NO_LIMIT)
        discard(response)
        assert (response.status_code, network.connected) == (200, [PUBLIC, PUBLIC_6])


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        pytest.param(ConnectionRefusedError(), UpstreamUnreachable, id="refused"),
        pytest.param(TimeoutError(), UpstreamTimeout, id="timeout"),
    ],
)
@pytest.mark.parametrize("allow_private", [True, False], ids=["open", "guarded"])
def test_other_failures_are_what_they_were(
    network: Network, failure: OSError, expected: type[RegistryError], *, allow_private: bool
) -> None:
    """The guard has nothing to do with them."""
    network.resolves(NAME, [PUBLIC])
    network.routed(PUBLIC, failure)
    with pytest.raises(RegistryError) as caught:
        session(allow_private=allow_private).send("GET", f"http://{NAME}/", [])
    assert type(caught.value) is expected


@pytest.mark.parametrize("proxy", [None, "socks5://127.0.0.1:9"])
def test_a_name_that_is_none(network: Network, proxy: str | None) -> None:
    """It cannot be reached, which is no matter of the guard's."""
    network.resolves(NAME, socket.gaierror(socket.EAI_NONAME, "no such name"))
    with pytest.raises(RegistryError) as caught:
        session(proxy).send("GET", f"http://{NAME}/", [])
    assert type(caught.value) is UpstreamUnreachable


def test_with_the_switch_on_everything_is_reached(network: Network) -> None:
    """Special addresses by number, by localhost and by name."""
    network.resolves(NAME, ["127.0.0.1"])
    with serving(answering(OK)) as server:
        for host in ("127.0.0.1", "localhost", NAME):
            assert status(session(allow_private=True), f"http://{host}:{server.port}/") == 200


@contextlib.contextmanager
def outbound(kind: str) -> Iterator[tuple[str, HttpProxy | SocksProxy]]:
    """Run a proxy on loopback; return its URL and itself."""
    with HttpProxy() if kind == "http" else SocksProxy() as proxy:
        yield f"{kind}://127.0.0.1:{proxy.port}", proxy


KINDS = ["http", "socks5", "socks5h"]
PROXIED = [
    *SPELLINGS,
    "127.0.0.1.",
    "%31%32%37.0.0.1",
    "\uff11\uff12\uff17.0.0.1",
    "LOCALHOST.",
    "a.localhost",
    "010.0.0.1",
    "256.0.0.1",
    "[::ffff:0:127.0.0.1]",
    "127.0.0.1\\.registry.example",
    "127.0.0.1\\@registry.example",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_is_not_asked_for_special_hosts(kind: str) -> None:
    """It is nearer to them than we are: what can be told without resolving is refused."""
    with outbound(kind) as (url, proxy):
        own = session(url)
        for scheme, host in itertools.product(("http", "https"), PROXIED):
            told = forbidden(own, f"{scheme}://{host}:5000/")
            assert "DOCXY_ALLOW_PRIVATE_UPSTREAMS" in told, (scheme, host)
            assert proxy.passages == [], (scheme, host)


@pytest.mark.parametrize("kind", ["http", "socks5h"])
def test_a_proxy_resolves_names(network: Network, kind: str) -> None:
    """Nothing is resolved here; and the proxy itself may be anywhere."""
    network.resolves(NAME, ["127.0.0.1"])
    with serving(answering(OK)) as server, outbound(kind) as (url, proxy):
        assert status(session(url), f"http://{NAME}:{server.port}/") == 200
        (target,) = proxy.targets
        assert NAME in target
        assert NAME not in network.asked


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_is_asked_for_public_addresses(kind: str) -> None:
    """They are what they are."""
    with serving(answering(OK)) as server, outbound(kind) as (url, proxy):
        assert status(session(url), f"http://{PUBLIC}:{server.port}/") == 200
        (target,) = proxy.targets
        assert PUBLIC in target


def test_a_proxy_that_is_given_addresses(network: Network) -> None:
    """`socks5://` has names resolved here: the proxy is given the first that is public."""
    network.resolves(NAME, ["127.0.0.1", "::1", PUBLIC, PUBLIC_6], ["127.0.0.1"])
    with serving(answering(OK)) as server, outbound("socks5") as (url, proxy):
        assert status(session(url), f"http://{NAME}:{server.port}/") == 200
        assert proxy.targets == [f"{PUBLIC}:{server.port}"]
        assert network.asked.count(NAME) == 1


def test_tls_through_a_proxy_that_is_given_addresses(network: Network) -> None:
    """The certificate is the name's there too."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    network.resolves(NAME, [PUBLIC_6])
    with serving(answering(OK), context) as server, outbound("socks5") as (url, proxy):
        own = session(url, ca_bundle=authority.cert_pem.bytes().decode())
        assert status(own, f"https://{NAME}:{server.port}/") == 200
        assert proxy.targets == [f"{PUBLIC_6}:{server.port}"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_is_not_given_special_addresses(network: Network, scheme: str) -> None:
    """What is resolved here is looked at here."""
    network.resolves(NAME, ["10.0.0.7", "fd00::7"])
    with outbound("socks5") as (url, proxy):
        assert forbidden(session(url), f"{scheme}://{NAME}:5000/").startswith(f"{NAME}: ")
        assert proxy.passages == []


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_switch_on_a_proxy_is_asked_for_everything(network: Network, kind: str) -> None:
    """By number and by name."""
    network.resolves(NAME, ["127.0.0.1"])
    with serving(answering(OK)) as server, outbound(kind) as (url, proxy):
        for host in ("127.0.0.1", NAME):
            target = f"http://{host}:{server.port}/"
            assert status(session(url, allow_private=True), target) == 200
        assert len(proxy.passages) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_redirect_through_a_proxy(kind: str, network: Network) -> None:
    """From a name that the proxy resolves to an address that nobody may be asked for."""
    network.resolves(NAME, [PUBLIC])
    with outbound(kind) as (url, proxy):
        for host in ("127.0.0.1", "2130706433", "localhost", "[::ffff:7f00:1]"):
            with serving(redirecting(f"http://{host}:{proxy.port}/")) as server:
                first = f"http://{NAME}:{server.port}/"
                network.resolves(NAME, [PUBLIC])
                with pytest.raises(UpstreamForbidden, match=r"DOCXY_ALLOW_PRIVATE_UPSTREAMS"):
                    redirects.Redirects(session(url)).fetch("GET", first, [], NO_LIMIT)
        assert len(proxy.passages) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_what_needs_no_proxy_is_guarded(network: Network, kind: str) -> None:
    """NO_PROXY makes a connection direct: it is resolved and looked at here."""
    network.resolves(NAME, ["10.0.0.7"])
    with outbound(kind) as (url, proxy):
        own = session(url, no_proxy=f"{NAME},127.0.0.0/8")
        forbidden(own, f"http://{NAME}:5000/")
        forbidden(own, "http://127.0.0.1:5000/")
        assert proxy.passages == []
        assert network.connected == []


def test_a_proxy_on_a_special_address_may_fail_as_any(network: Network) -> None:
    """The operator named it: the guard says nothing about it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UpstreamUnavailable) as caught:
        session(f"http://127.0.0.1:{port}").send("GET", f"https://{NAME}/", [])
    assert type(caught.value) is OutboundProxyFails
    assert network.connected == ["127.0.0.1"]


def test_hosts_are_looked_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal is no accident of the first request."""
    caplog.set_level(logging.WARNING)
    own = session("http://127.0.0.1:9")
    assert forbidden(own, "http://0x7f.1:5000/") == forbidden(own, "http://0x7f.1:5000/")
    assert caplog.text.count("AddressForbidden: 0x7f.1 is 127.0.0.1") == 2


def test_a_guarded_session(network: Network) -> None:
    """The same for public addresses only; a session that is guarded already is that itself."""
    with serving(answering(OK)) as server:
        network.resolves(NAME, ["127.0.0.1"], ["127.0.0.1"])
        url = f"http://{NAME}:{server.port}/"
        own = session(allow_private=True)
        assert status(own, url) == 200
        with pytest.raises(UpstreamForbidden):
            own.public_only.send("GET", url, [])
    assert own.public_only is own.public_only
    assert own.public_only.public_only is own.public_only
