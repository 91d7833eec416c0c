"""The address of this proxy as clients write it."""

import pytest

from app.registries import HUB, Registries, Registry
from app.web.proxy import Proxy
from tests.unit.web.tables import ALONE, HOSTS, PLAIN, USUAL


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://proxy.example", "proxy.example"),
        ("http://proxy.example:8080", "proxy.example:8080"),
        ("http://localhost", "localhost"),
        ("http://[::1]", "[::1]"),
        ("https://proxy", "proxy:443"),
        ("http://proxy", "proxy:80"),
        ("http://proxy:5000", "proxy:5000"),
    ],
)
def test_authority(url: str, authority: str) -> None:
    """A host without a dot needs its port: Docker takes `proxy/nginx` for Docker Hub's."""
    proxy = Proxy(url=url, registries=Registries([HUB]))
    assert proxy.authority == authority
    assert proxy.build_name(HUB, "nginx") == f"{authority}/nginx"


def test_an_alias_without_a_dot() -> None:
    """A namespace of Docker Hub may be called so as well: then its images name their registry."""
    harbor = Registry(name="harbor.example", url="https://h", aliases=frozenset({"harbor"}))
    proxy = Proxy(url="https://proxy.example", registries=Registries([HUB, harbor]))
    assert proxy.build_name(HUB, "harbor/app") == "proxy.example/docker.io/harbor/app"
    assert proxy.build_name(HUB, "owner/app") == "proxy.example/owner/app"
    assert proxy.find_mirror_location(HUB) == "proxy.example/docker.io"


def test_own() -> None:
    """All its hosts are its own, whatever their case; another port is another server's."""
    for name in ("proxy.example", "ghcr.proxy.example", "Proxy.Example"):
        assert HOSTS.is_own(name)
    for name in ("ghcr.io", "proxy.example:5000", "docker.io", "localhost"):
        assert not HOSTS.is_own(name)
    assert PLAIN.is_own("proxy.example:8080")


def test_the_mirror_of_docker_hub() -> None:
    """It is a host that stands for Docker Hub, by default or alone."""
    assert USUAL.hub_mirror_url == "https://proxy.example"
    assert ALONE.hub_mirror_url is None
    hub = Registry(name="docker.io", url="https://h", hosts=frozenset({"hub.proxy.example"}))
    rows = [Registry(name="company.example", url="https://c"), hub]
    proxy = Proxy(url="https://proxy.example:8443", registries=Registries(rows))
    assert proxy.hub_mirror_url == "https://hub.proxy.example:8443"


def test_below_a_path() -> None:
    """No name of an image leads there; what takes a URL does, and so do hosts of registries."""
    proxy = Proxy(url="https://proxy.example/docxy", registries=HOSTS.registries)
    assert proxy.build_name(HUB, "nginx") is None
    assert proxy.find_mirror_location(HUB) is None
    assert proxy.hub_mirror_url == "https://proxy.example/docxy"
    ghcr = proxy.get_registry("ghcr.io")
    assert proxy.build_name(ghcr, "a/b") == "ghcr.proxy.example/a/b"
    assert proxy.url_of(ghcr) == "https://ghcr.proxy.example"
