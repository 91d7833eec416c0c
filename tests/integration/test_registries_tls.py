"""The addresses of several registries behind the servers that end TLS for Docxy."""

from collections.abc import Iterator

import pytest

from tests import proxies
from tests.integration.pulling import Way, WayName
from tests.integration.registry_table import ALICE, PRIVATE, Fresh, Served, known_at

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def front(request: pytest.FixtureRequest, passthrough: Served) -> Iterator[proxies.Front]:
    run = proxies.nginx if request.param == "nginx" else proxies.caddy
    with run(passthrough.host) as front:
        yield front


def way(front: proxies.Front, host: str) -> Way:
    name: WayName = "nginx" if front.name == "nginx" else "caddy"
    return Way(name, f"https://{host}", host, front.ca_path, lambda: front.log)


@pytest.mark.parametrize("name", ["skopeo", "podman"])
def test_prefix(name: str, front: proxies.Front, served: Served, fresh: Fresh) -> None:
    """By its other host, the front leads to the default registry, and by prefix to each."""
    host = front.host.replace("localhost", "127.0.0.1")
    client = fresh(name, way(front, host))
    client.log_in("alice", ALICE["docker.io"])
    mine = served.hubs["docker.io"].image("alice/private", "1")
    assert client.pull(f"{host}/{PRIVATE}") == client.kept(mine)
    quay = served.hubs["quay.io"]
    assert client.pull(f"{host}/quay.io/owner/app:1") == client.kept(quay.image("owner/app", "1"))
    assert known_at(quay) == set()
    served.assert_only("docker.io", "quay.io")


@pytest.mark.parametrize("name", ["skopeo", "podman", "docker"])
def test_host(name: str, front: proxies.Front, served: Served, fresh: Fresh) -> None:
    """The host that the client asked the front for selects the registry, and its login."""
    client = fresh(name, way(front, front.host))
    client.log_in("alice", ALICE["ghcr.io"])
    image = served.hubs["ghcr.io"].image("alice/private", "1")
    assert client.pull(f"{front.host}/{PRIVATE}") == client.kept(image)
    served.assert_only("ghcr.io")
