"""What the value of a setting may be, and what is told about one that may not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from app.config.types import (
    BaseUrl,
    ClientNetworks,
    OwnHost,
    ProxyUrl,
    RegistryAlias,
    RegistryHost,
    Seconds,
    TrustedPeers,
)

NO_URL = "not a valid URL: check the port, and the brackets around an IPv6 address"


def read(kind: Any, value: object) -> Any:
    """Return a value as a setting of this kind has it."""
    return TypeAdapter(kind).validate_python(value)


def refused(kind: Any, value: object) -> str:
    """Return what is told about a value that is refused."""
    with pytest.raises(ValidationError) as caught:
        read(kind, value)
    (fault,) = caught.value.errors()
    return str(fault["msg"]).removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param("https://r.example", "https://r.example", id="as it is"),
        pytest.param("HTTPS://R.Example", "https://r.example", id="case"),
        pytest.param("https://r.example/", "https://r.example", id="slash"),
        pytest.param("https://r.example///", "https://r.example", id="slashes"),
        pytest.param("https://r.example:443", "https://r.example", id="https's port"),
        pytest.param("https://r.example:0443", "https://r.example", id="with a zero"),
        pytest.param("http://r.example:80/", "http://r.example", id="http's port"),
        pytest.param("http://r.example:443", "http://r.example:443", id="the other's port"),
        pytest.param("https://r.example:80", "https://r.example:80", id="the other's port, too"),
        pytest.param("https://r.example:5000/", "https://r.example:5000", id="port"),
        pytest.param("https://r.example:", "https://r.example", id="empty port"),
        pytest.param("https://r.example/A/b/", "https://r.example/A/b", id="path keeps its case"),
        pytest.param("https://r.example/v2/x", "https://r.example/v2/x", id="v2 inside"),
        pytest.param("https://r.example/xv2", "https://r.example/xv2", id="a name that ends so"),
        pytest.param("https://v2", "https://v2", id="a host called v2"),
        pytest.param("https://[2001:DB8::1]:443/", "https://[2001:db8::1]", id="IPv6"),
        pytest.param("http://[::1]:5000", "http://[::1]:5000", id="IPv6 and port"),
        pytest.param("http://127.0.0.1:5000", "http://127.0.0.1:5000", id="IPv4"),
    ],
)
def test_base_urls(written: str, meant: str) -> None:
    """One registry has one spelling; and that one stays as it is."""
    assert read(BaseUrl, written) == meant
    assert read(BaseUrl, meant) == meant


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param("https://s3cr3t:port", NO_URL, id="port"),
        pytest.param("https://s3cr3t:99999", NO_URL, id="port beyond"),
        pytest.param("https://s3cr3t:-1", NO_URL, id="negative port"),
        pytest.param("https://[s3cr3t", NO_URL, id="half a bracket"),
        pytest.param("https://[s3cr3t]", NO_URL, id="a name in brackets"),
        pytest.param("https://2001:db8::1", NO_URL, id="IPv6 without brackets"),
        pytest.param("https://user:s3cr3t/x@r.example", NO_URL, id="a slash in a password"),
        pytest.param("https://s3cr3t\u2100.example", NO_URL, id="a letter that hides a slash"),
        pytest.param("https://s3cr3t.example/ x y", None, id="space in the path"),
        pytest.param("https://s3cr3t example", None, id="space in the host"),
        pytest.param("https://s3cr3t.example ", None, id="space at the end"),
        pytest.param('https://s3cr3t".example', None, id="quote in the host"),
        pytest.param(
            "s3cr3t.example", "write a complete URL, like https://registry.example", id="no"
        ),
        pytest.param(
            "ftp://s3cr3t", "write a complete URL, like https://registry.example", id="ftp"
        ),
        pytest.param(
            "https:///s3cr3t", "write a complete URL, like https://registry.example", id="h"
        ),
        pytest.param(
            "https://u:s3cr3t@r", "the URL must not contain a user name or password", id="user"
        ),
        pytest.param(
            "https://@s3cr3t", "the URL must not contain a user name or password", id="at"
        ),
        pytest.param("https://r?s3cr3t", "the URL must not contain ? or #", id="query"),
        pytest.param("https://r#s3cr3t", "the URL must not contain ? or #", id="fragment"),
        pytest.param("https://s3cr3t/v2", "remove /v2 from the end", id="v2"),
        pytest.param("https://s3cr3t/v2/", "remove /v2 from the end", id="v2 and slash"),
        pytest.param("https://s3cr3t/a/v2//", "remove /v2 from the end", id="v2 below"),
    ],
)
def test_no_base_urls(written: str, told: str | None) -> None:
    """What is wrong is told, and never what was written."""
    message = refused(BaseUrl, written)
    assert told is None or message == told
    assert "s3cr3t" not in message
    assert written not in message


@given(st.text() | st.text(alphabet="ab1.:[]/@?#%").map("https://{}".format))
def test_base_urls_have_one_form(written: str) -> None:
    """Whatever is written is refused in our words, or means one URL."""
    try:
        meant = read(BaseUrl, written)
    except ValidationError as error:
        (fault,) = error.errors()
        assert fault["type"] == "value_error"
        return
    assert read(BaseUrl, meant) == meant
    assert meant.startswith(("http://", "https://"))
    assert not meant.endswith("/")
    assert "@" not in meant.split("/")[2]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param("docker.io", "docker.io", id="name"),
        pytest.param("R.Example", "r.example", id="case"),
        pytest.param("localhost:5000", "localhost:5000", id="port"),
        pytest.param("10.0.0.1:5000", "10.0.0.1:5000", id="address"),
        pytest.param("registry", "registry", id="one label"),
        pytest.param("r.example:443", "r.example", id="the default port"),
        pytest.param("r.example:4430", "r.example:4430", id="a port that begins so"),
        pytest.param("R.example:80", "r.example:80", id="http's port"),
    ],
)
@pytest.mark.parametrize("kind", [RegistryHost, RegistryAlias], ids=["name", "alias"])
def test_registry_hosts(kind: Any, written: str, meant: str) -> None:
    """A host name, perhaps with a port, as image references have it."""
    assert read(kind, written) == meant


NO_REGISTRY_HOSTS = [
    "",
    "https://r.example",
    "r.example/",
    "r.example/a",
    "r.example:",
    "r.example:port",
    ":5000",
    "r.example:1:2",
    "u@r.example",
    " r.example",
    "r.example\n",
    "r_x.example",
    "r\u00e4.example",
    "*",
]


@pytest.mark.parametrize("kind", [RegistryHost, RegistryAlias], ids=["name", "alias"])
def test_no_registry_hosts(kind: Any) -> None:
    """What no image reference can begin with would never be asked for."""
    for written in NO_REGISTRY_HOSTS:
        assert refused(kind, written) == "write the registry's host name, like docker.io"


@pytest.mark.parametrize("written", ["library", "LIBRARY", "library:443"])
def test_an_alias_that_hides_official_images(written: str) -> None:
    """`proxy.example/library/nginx` shall go on to be Docker Hub's."""
    told = refused(RegistryAlias, written)
    assert told == "library is the namespace of Docker Hub's official images"


@pytest.mark.parametrize("written", ["ghcr.proxy.example", "GHCR.Proxy.Example", "localhost"])
def test_own_hosts(written: str) -> None:
    """Names are compared in lower case."""
    assert read(OwnHost, written) == written.lower()


@pytest.mark.parametrize(
    "written",
    [
        "",
        "p.example:443",
        "p.example:8443",
        "https://p.example",
        "p.example/",
        "*.p.example",
        "a b",
    ],
)
def test_no_own_hosts(written: str) -> None:
    """A host is compared without its port, so one with a port would never be met."""
    assert refused(OwnHost, written).startswith("write a host name of this proxy without a port")


@pytest.mark.parametrize(
    "written",
    ["http://p:1", "https://p", "socks5://p:1", "SOCKS5H://u:p@[::1]:1", "p.example:3128", "p"],
)
def test_proxy_urls(written: str) -> None:
    """They stay as they were written, and secret."""
    secret = read(ProxyUrl, written)
    assert isinstance(secret, SecretStr)
    assert secret.get_secret_value() == written
    assert written not in repr(secret)


NO_PROXY_URLS = [
    "ftp://u:s3cr3t@p.example",
    "http://",
    "http://u:s3cr3t@",
    "http://u:s3cr3t@p:port",
    "http://u:s3cr3t@p:99999",
    "http://[s3cr3t",
    "http://u:s3cr3t/x@p.example",
    "u:s3cr3t@p:port",
    "://s3cr3t",
]


def test_no_proxy_urls() -> None:
    """No message tells a password."""
    for written in NO_PROXY_URLS:
        message = refused(ProxyUrl, written)
        assert "s3cr3t" not in message, written
        assert message.startswith(("not a valid URL: ", "write a URL like ")), written


@pytest.mark.parametrize("written", ["", "*", "10.0.0.1", "10.0.0.1/8, ::1,", "*, fd00::/8"])
def test_trusted_peers(written: str) -> None:
    """Addresses, networks and everyone; gunicorn reads the same text."""
    assert read(TrustedPeers, written) == written


@pytest.mark.parametrize("written", ["nginx", "10.0.0.1,nginx", "10.0.0.0/33", "10.0.0.1:80", "**"])
def test_no_trusted_peers(written: str) -> None:
    """A name is none: the entry is told."""
    entry = written.rpartition(",")[2]
    assert refused(TrustedPeers, written) == f"{entry} is not an address, a network or *"


@pytest.mark.parametrize("written", ["*", "10.0.0.1", "10.0.0.1/8, ::1,", "::ffff:10.0.0.0/104"])
def test_client_networks(written: str) -> None:
    """Addresses and networks."""
    assert read(ClientNetworks, written) == written


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param("", "write at least one address or network, like 10.0.0.0/8", id="nothing"),
        pytest.param(" , ", "write at least one address or network, like 10.0.0.0/8", id="commas"),
        pytest.param("lan", "lan is not an address, a network or *", id="a name"),
        pytest.param("::1,10.0.0.0/33", "10.0.0.0/33 is not an address, a network or *", id="33"),
    ],
)
def test_no_client_networks(written: str, told: str) -> None:
    """A list with nothing in it could mean everybody or nobody."""
    assert refused(ClientNetworks, written) == told


@pytest.mark.parametrize("written", ["0.1", "86400", 5])
def test_seconds(written: object) -> None:
    """Up to a day."""
    assert read(Seconds, written) == float(str(written))


@pytest.mark.parametrize("written", ["0", "-1", "86401", "inf", "nan", "5s", ""])
def test_no_seconds(written: str) -> None:
    """Nothing that would never end, or never begin."""
    assert refused(Seconds, written)
