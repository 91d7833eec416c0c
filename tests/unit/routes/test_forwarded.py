"""How this proxy is called, and who asks, as far as the servers in front may be believed."""

import itertools
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.errors import HostInvalid
from app.routes.forwarded import ForwardedHeaders

TRUSTED = "127.0.0.1, ::1, 10.0.0.0/8, fd00::/8"


def environ(
    told: Mapping[str, str] | None = None,
    *,
    peer: str = "192.0.2.1",
    scheme: str = "http",
    host: str = "proxy.example",
) -> dict[str, Any]:
    """Return a WSGI environment; `told` are X-Forwarded headers: `{"proto": "https"}`."""
    forwarded = {f"HTTP_X_FORWARDED_{name.upper()}": text for name, text in (told or {}).items()}
    return {
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": scheme,
        "HTTP_HOST": host,
        "SERVER_NAME": "192.0.2.8",
        "SERVER_PORT": "8000",
        **forwarded,
    }


HOSTS = ["proxy.example", "proxy.example:8443", "192.0.2.9:5000", "[2001:db8::1]", "[::1]:5000"]
PEERS = {
    "10.1.2.3": True,
    "127.0.0.1": True,
    "::1": True,
    "fd00::7": True,
    "::ffff:10.1.2.3": True,
    "": True,
    "192.0.2.1": False,
    "2001:db8::2": False,
    "::ffff:192.0.2.1": False,
    "11.0.0.1": False,
    "not-an-address": False,
}
"""Who is asked by whether TRUSTED holds them; a Unix socket has no address."""


@pytest.mark.parametrize("public_url", [None, "https://public.example", "http://[::1]:1/docxy"])
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_base_url(scheme: str, peer: str, public_url: str | None) -> None:
    """DOCXY_PUBLIC_URL, or what a trusted server in front tells, or what the request says.

    scheme x host x port x IPv6 x what is told x who tells it.
    """
    forwarded = ForwardedHeaders(trusted=TRUSTED, public_url=public_url)
    for host, proto, told in itertools.product(HOSTS, [None, "http", "https"], [None, *HOSTS]):
        headers = {"proto": proto, "host": told}
        sent = {name: value for name, value in headers.items() if value}
        believed = sent if PEERS[peer] else {}
        seen = f"{believed.get('proto', scheme)}://{believed.get('host', host)}"
        asked = environ(sent, peer=peer, scheme=scheme, host=host)
        assert forwarded.build_base_url(asked) == (public_url or seen)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param({"proto": "https, http"}, "http://proxy.example", id="last proto counts"),
        pytest.param({"proto": "http,https"}, "https://proxy.example", id="spoofed proto"),
        pytest.param({"proto": "HTTPS"}, "https://proxy.example", id="case"),
        pytest.param({"proto": "javascript"}, "http://proxy.example", id="other scheme"),
        pytest.param({"proto": ""}, "http://proxy.example", id="empty proto"),
        pytest.param({"proto": "https,"}, "http://proxy.example", id="ends with a comma"),
        pytest.param({"host": "evil.example, real.example"}, "http://real.example", id="host"),
        pytest.param({"host": ""}, "http://proxy.example", id="empty host"),
        pytest.param({"host": "a.example:8443"}, "http://a.example:8443", id="port"),
        pytest.param({"port": "8443"}, "http://proxy.example", id="port alone is not used"),
        pytest.param({"prefix": "/docxy"}, "http://proxy.example", id="prefix is not used"),
        pytest.param({"server": "x.example"}, "http://proxy.example", id="server is not used"),
    ],
)
def test_what_a_trusted_server_tells(told: dict[str, str], expected: str) -> None:
    """Only the value that the nearest server wrote counts, and only if it makes sense."""
    forwarded = ForwardedHeaders(trusted=TRUSTED, public_url=None)
    assert forwarded.build_base_url(environ(told, peer="10.0.0.1")) == expected


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("a b", id="space"),
        pytest.param("a/b", id="slash"),
        pytest.param("a.example/evil?", id="path"),
        pytest.param("user@a.example", id="userinfo"),
        pytest.param('a"b', id="quote"),
        pytest.param("a>b", id="bracket"),
        pytest.param("a\r\nX: y", id="newline"),
        pytest.param("a.example\n", id="newline at the end"),
        pytest.param("a:port", id="port"),
        pytest.param("a:", id="empty port"),
        pytest.param("a:123456", id="long port"),
        pytest.param("a:65536", id="no port"),
        pytest.param("a" * 301, id="long"),
        pytest.param("[::1]:99999", id="no port behind IPv6"),
        pytest.param("[::::]", id="no IPv6"),
        pytest.param("[1.2.3.4]", id="IPv4 in brackets"),
        pytest.param("::1", id="IPv6 without brackets"),
        pytest.param("[::1", id="half a bracket"),
        pytest.param("[evil.example]", id="a name in brackets"),
        pytest.param("ä.example", id="not ASCII"),
        pytest.param("a\\b", id="backslash"),
        pytest.param("a,b", id="comma"),
    ],
)
def test_a_host_that_can_be_no_url(host: str) -> None:
    """It could turn the realm into something else: 400, in the Host or told by a server."""
    forwarded = ForwardedHeaders(trusted=TRUSTED, public_url=None)
    with pytest.raises(HostInvalid):
        forwarded.build_base_url(environ(host=host))
    with pytest.raises(HostInvalid):
        forwarded.get_host(environ(host=host))
    if "," not in host and host == host.strip():
        told = environ({"host": host}, peer="10.0.0.1")
        with pytest.raises(HostInvalid):
            forwarded.build_base_url(told)
        with pytest.raises(HostInvalid):
            forwarded.get_host(told)
        assert forwarded.get_host(environ({"host": host})) == "proxy.example"


def test_a_public_url_needs_no_host() -> None:
    """Where the operator says how it is called, nothing that a client sends is looked at."""
    forwarded = ForwardedHeaders(trusted="", public_url="https://public.example/docxy")
    assert forwarded.build_base_url(environ(host="a b")) == "https://public.example/docxy"


@given(st.text() | st.text(alphabet="ab.:[]/@?#\\%, \r\n1"))
def test_no_host_breaks_out(host: str) -> None:
    """Whatever the Host says, the URL has no path, query or userinfo of the client's making."""
    try:
        url = ForwardedHeaders(trusted="", public_url=None).build_base_url(environ(host=host))
    except HostInvalid:
        return
    assert not set(url.removeprefix("http://")) & set('/@?#\\% \r\n",;<>')
    parts = urlsplit(url)
    assert parts.port is None or parts.hostname


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("127.0.0.1", "http://127.0.0.1:8000", id="IPv4"),
        pytest.param("::1", "http://[::1]:8000", id="IPv6"),
    ],
)
def test_no_host(name: str, expected: str) -> None:
    """HTTP/1.0 clients need not send a Host: then it is the address that they connected to."""
    asked = {**environ(), "SERVER_NAME": name}
    del asked["HTTP_HOST"]
    forwarded = ForwardedHeaders(trusted="", public_url=None)
    assert forwarded.build_base_url(asked) == expected
    assert forwarded.get_host(asked) == expected.removeprefix("http://").removesuffix(":8000")


NAMES = {
    "proxy.example": "proxy.example",
    "Proxy.EXAMPLE:8443": "proxy.example",
    "192.0.2.9:5000": "192.0.2.9",
    "[2001:DB8::1]": "[2001:db8::1]",
    "[::1]:5000": "[::1]",
    "Proxy.example.": "proxy.example",
    "proxy.example.:8443": "proxy.example",
}
"""What a client may have asked, and the host in it."""


@pytest.mark.parametrize("public_url", [None, "https://public.example"])
@pytest.mark.parametrize("peer", PEERS)
def test_host(peer: str, public_url: str | None) -> None:
    """Host, or what a trusted server in front says it was: without a port, in lower case.

    A dot at its end says that it is whole (RFC 1034, section 3.1): it is the same host.
    It chooses a registry, which no public URL does.
    """
    forwarded = ForwardedHeaders(trusted=TRUSTED, public_url=public_url)
    for host, told in itertools.product(NAMES, [None, *NAMES]):
        asked = environ({"host": told} if told else {}, peer=peer, host=host)
        assert forwarded.get_host(asked) == NAMES[told if told and PEERS[peer] else host]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param("evil.example, real.example:8443", "real.example", id="the last counts"),
        pytest.param("evil.example,", "proxy.example", id="ends with a comma"),
        pytest.param("", "proxy.example", id="empty"),
    ],
)
def test_host_told_by_several(told: str, expected: str) -> None:
    """Only the nearest server's word chooses a registry."""
    forwarded = ForwardedHeaders(trusted=TRUSTED, public_url=None)
    assert forwarded.get_host(environ({"host": told}, peer="10.0.0.1")) == expected


@pytest.mark.parametrize(
    ("peer", "told", "trusted", "expected"),
    [
        pytest.param("192.0.2.1", "", TRUSTED, "192.0.2.1", id="direct"),
        pytest.param("192.0.2.1", "1.2.3.4", TRUSTED, "192.0.2.1", id="spoofed"),
        pytest.param("10.0.0.1", "1.2.3.4", TRUSTED, "1.2.3.4", id="one server"),
        pytest.param("10.0.0.1", "6.6.6.6, 1.2.3.4", TRUSTED, "1.2.3.4", id="spoofed before it"),
        pytest.param("10.0.0.1", "1.2.3.4, 10.9.9.9", TRUSTED, "1.2.3.4", id="two servers"),
        pytest.param(
            "10.0.0.1", "6.6.6.6,1.2.3.4,10.9.9.9,10.8.8.8", TRUSTED, "1.2.3.4", id="three, spoofed"
        ),
        pytest.param("10.0.0.1", "10.9.9.9", TRUSTED, "10.9.9.9", id="all trusted"),
        pytest.param("10.0.0.1", "garbage", TRUSTED, "10.0.0.1", id="garbage"),
        pytest.param("10.0.0.1", "1.2.3.4, garbage", TRUSTED, "10.0.0.1", id="garbage behind"),
        pytest.param("10.0.0.1", "garbage, 1.2.3.4", TRUSTED, "1.2.3.4", id="garbage before"),
        pytest.param("10.0.0.1", " , 1.2.3.4 ,", TRUSTED, "1.2.3.4", id="empty elements"),
        pytest.param("::1", "2001:db8::9", TRUSTED, "2001:db8::9", id="IPv6"),
        pytest.param("::ffff:10.0.0.1", "1.2.3.4", TRUSTED, "1.2.3.4", id="mapped"),
        pytest.param("", "1.2.3.4", TRUSTED, "1.2.3.4", id="Unix socket"),
        pytest.param("192.0.2.1", "1.2.3.4", "*", "1.2.3.4", id="everyone"),
        pytest.param("192.0.2.1", "6.6.6.6, 1.2.3.4", "*", "1.2.3.4", id="everyone, spoofed"),
        pytest.param("192.0.2.1", "1.2.3.4", "", "192.0.2.1", id="nobody"),
        pytest.param("10.0.0.1", "1.2.3.4:5678", TRUSTED, "1.2.3.4", id="with a port"),
        pytest.param("::1", "[2001:db8::9]:5678", TRUSTED, "2001:db8::9", id="IPv6 with a port"),
        pytest.param("::1", "[2001:db8::9]", TRUSTED, "2001:db8::9", id="IPv6 in brackets"),
        pytest.param("10.0.0.1", "[1.2.3.4", TRUSTED, "10.0.0.1", id="half a bracket"),
    ],
)
def test_client(peer: str, told: str, trusted: str, expected: str) -> None:
    """The client is the last one for whom no trusted server vouches."""
    forwarded = ForwardedHeaders(trusted=trusted, public_url=None)
    assert forwarded.get_client_address(environ({"for": told}, peer=peer)) == expected


OWN_HOSTS = {"ghcr.proxy.example", "quay.proxy.example"}


@pytest.mark.parametrize(
    ("public_url", "host", "expected"),
    [
        pytest.param("https://p.example", "p.example", "https://p.example", id="its own"),
        pytest.param("https://p.example", "x.example:81", "https://p.example", id="unknown"),
        pytest.param(
            "https://p.example", "ghcr.proxy.example", "https://ghcr.proxy.example", id="host"
        ),
        pytest.param(
            "https://p.example", "GHCR.Proxy.Example", "https://GHCR.Proxy.Example", id="case"
        ),
        pytest.param(
            "https://p.example", "ghcr.proxy.example:81", "https://ghcr.proxy.example:81", id="port"
        ),
        pytest.param(
            "https://p.example/x", "quay.proxy.example", "https://quay.proxy.example", id="path"
        ),
        pytest.param("http://p.example", "ghcr.proxy.example", "http://ghcr.proxy.example", id="h"),
        pytest.param(
            "https://p.example", "ghcr.proxy.example.evil.example", "https://p.example", id="longer"
        ),
        pytest.param(None, "ghcr.proxy.example", "http://ghcr.proxy.example", id="no public URL"),
    ],
)
def test_hosts_that_stand_for_one_registry(
    public_url: str | None, host: str, expected: str
) -> None:
    """They stay what they are, with the scheme by which the public URL says clients come."""
    forwarded = ForwardedHeaders(trusted=TRUSTED, public_url=public_url, hosts=OWN_HOSTS)
    assert forwarded.build_base_url(environ(host=host)) == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param("10.0.0.1", "https://ghcr.proxy.example", id="trusted"),
        pytest.param("192.0.2.1", "https://p.example", id="not trusted"),
    ],
)
def test_a_host_of_one_registry_that_is_told(peer: str, expected: str) -> None:
    """As everywhere, only a trusted server's word counts; the scheme is the public URL's."""
    forwarded = ForwardedHeaders(trusted=TRUSTED, public_url="https://p.example", hosts=OWN_HOSTS)
    told = {"host": "ghcr.proxy.example", "proto": "http"}
    assert forwarded.build_base_url(environ(told, peer=peer)) == expected
