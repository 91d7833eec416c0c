"""Which outbound proxy a URL is fetched through."""

import pytest

from app.upstream.http.urls import OutboundProxies

PROXY = "http://proxy.example:3128"


def direct(no_proxy: str, url: str) -> bool:
    """Tell whether a URL is fetched without the proxy."""
    return not OutboundProxies(https=PROXY, http=PROXY, no_proxy=no_proxy)(url)


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        pytest.param("r.example", "https://r.example/v2/", id="host"),
        pytest.param("r.example", "https://R.Example/v2/", id="case of the URL"),
        pytest.param("R.EXAMPLE", "https://r.example/v2/", id="case of the entry"),
        pytest.param("example", "https://r.example/v2/", id="domain"),
        pytest.param(".example", "https://r.example/v2/", id="domain with a dot"),
        pytest.param(".r.example", "https://r.example/v2/", id="the domain itself"),
        pytest.param("*.example", "https://r.example/v2/", id="domain with a star"),
        pytest.param("r.example", "https://a.b.r.example/", id="far below"),
        pytest.param("*", "https://r.example/", id="all"),
        pytest.param("a,*", "https://[::1]/", id="all, at the end"),
        pytest.param("a.example, r.example ,b.example", "https://r.example/", id="spaces"),
        pytest.param("r.example:443", "https://r.example/", id="the scheme's port"),
        pytest.param("r.example:80", "http://r.example/", id="http's port"),
        pytest.param("r.example:5000", "http://r.example:5000/", id="port"),
        pytest.param(".example:5000", "http://r.example:5000/", id="domain and port"),
        pytest.param("*:5000", "http://r.example:5000/", id="all with a port"),
        pytest.param("127.0.0.1", "http://127.0.0.1:5000/", id="address"),
        pytest.param("10.0.0.0/8", "https://10.255.0.1/", id="network"),
        pytest.param("10.1.2.3/8", "https://10.255.0.1/", id="network with host bits"),
        pytest.param("10.0.0.1:5000", "http://10.0.0.1:5000/", id="address and port"),
        pytest.param("::1", "http://[::1]:5000/", id="IPv6"),
        pytest.param("[::1]", "http://[::1]:5000/", id="IPv6 in brackets"),
        pytest.param("[::1]:5000", "http://[::1]:5000/", id="IPv6 and port"),
        pytest.param("2001:DB8::/32", "https://[2001:db8:1::5]/", id="IPv6 network"),
        pytest.param("2001:db8:0:0::1", "https://[2001:db8::1]/", id="IPv6 written otherwise"),
        pytest.param("localhost", "http://localhost:5000/", id="localhost"),
    ],
)
def test_without_the_proxy(no_proxy: str, url: str) -> None:
    """NO_PROXY as curl and Go read it: names with all below, addresses, networks, ports."""
    assert direct(no_proxy, url)


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        pytest.param("", "https://r.example/", id="empty"),
        pytest.param(" , ,", "https://r.example/", id="nothing but commas"),
        pytest.param("r.example", "https://other.example/", id="another host"),
        pytest.param("r.example", "https://notr.example/", id="end of a name"),
        pytest.param(".example", "https://r.example.evil/", id="inside of a name"),
        pytest.param("r.example:5000", "https://r.example/", id="another port"),
        pytest.param("r.example:443", "http://r.example/", id="the other scheme's port"),
        pytest.param("10.0.0.0/8", "https://11.0.0.1/", id="another network"),
        pytest.param("10.0.0.0/8", "https://r10.example/", id="a name and a network"),
        pytest.param("10.0.0.1", "https://10.0.0.10/", id="longer address"),
        pytest.param("10.0.0.1:5000", "http://10.0.0.1:5001/", id="address, another port"),
        pytest.param("::1", "https://[::2]/", id="another IPv6"),
        pytest.param("10.0.0.0/99", "https://10.0.0.1/", id="not a network"),
        pytest.param("1", "https://10.0.0.1/", id="end of an address"),
    ],
)
def test_through_the_proxy(no_proxy: str, url: str) -> None:
    """Everything else is fetched through it."""
    assert not direct(no_proxy, url)


@pytest.mark.parametrize(
    ("https", "http", "url", "expected"),
    [
        pytest.param("http://a:1", None, "https://r/", {"https": "http://a:1"}, id="https"),
        pytest.param("http://a:1", None, "http://r/", {}, id="https only"),
        pytest.param(None, "http://b:2", "http://r/", {"http": "http://b:2"}, id="http"),
        pytest.param("a:1", None, "https://r/", {"https": "http://a:1"}, id="no scheme"),
        pytest.param("socks5h://a:1", None, "https://r/", {"https": "socks5h://a:1"}, id="socks"),
        pytest.param("http://u:p@a:1", None, "https://r/", {"https": "http://u:p@a:1"}, id="user"),
        pytest.param(None, None, "https://r/", {}, id="none"),
    ],
)
def test_schemes(https: str | None, http: str | None, url: str, expected: dict[str, str]) -> None:
    """Each scheme has its own proxy."""
    assert OutboundProxies(https=https, http=http, no_proxy="")(url) == expected


def test_each_redirect_is_looked_at() -> None:
    """A registry inside and a CDN outside are reached differently."""
    proxies = OutboundProxies(https=PROXY, http=None, no_proxy="registry.internal")
    assert proxies("https://registry.internal/v2/") == {}
    assert proxies("https://cdn.example/blob") == {"https": PROXY}
    assert proxies("https://registry.internal/v2/") == {}
