"""registries.conf of skopeo, podman and buildah: one Docxy as the mirror of several registries."""

import pytest

from tests.clients.process import CommandFailed
from tests.integration.registry_table import (
    ALICE,
    CAROL,
    PRIVATE,
    Fresh,
    Served,
    known_at,
)

pytestmark = pytest.mark.integration

REGISTRIES = ("docker.io", "ghcr.io", "quay.io", "plain.test")
BY_PATH = {name: f"/{name}" for name in REGISTRIES}
"""`location = "proxy.example/ghcr.io"`, as docs/registries.md has it."""

readers = pytest.mark.parametrize("name", ["skopeo", "podman", "buildah"])


@readers
def test_mirrors_by_path(name: str, served: Served, fresh: Fresh) -> None:
    """Each image comes from its own registry under its own name."""
    client = fresh(name, served.way(mirrored=BY_PATH), "as mirror")
    for registry in REGISTRIES:
        hub = served.hubs[registry]
        image = hub.image("owner/app", "1")
        assert client.pull(f"{registry}/owner/app:1") == client.kept(image)
        assert hub.count("registry", "GET", "^/v2/owner/app/manifests/", 200) > 0
        assert known_at(hub) == set()
        served.assert_only(registry)
        served.forget()


@readers
def test_logged_in_at_a_mirror(name: str, served: Served, fresh: Fresh) -> None:
    """A login at the proxy opens private images of the default registry, and no other hears it."""
    client = fresh(name, served.way(mirrored=BY_PATH), "as mirror")
    client.log_in(*CAROL)
    image = served.hubs["docker.io"].image("alice/private", "1")
    assert client.pull(f"docker.io/{PRIVATE}") == client.kept(image)
    ghcr = served.hubs["ghcr.io"]
    assert client.pull("ghcr.io/owner/app:1") == client.kept(ghcr.image("owner/app", "1"))
    assert known_at(ghcr) == set()


# Podman and buildah try again for seconds.
@pytest.mark.parametrize("name", ["skopeo"])
def test_a_private_image_by_a_mirror(name: str, served: Served, fresh: Fresh) -> None:
    """The login at the proxy opens no private image of another registry, nor is it shown there."""
    client = fresh(name, served.way(mirrored=BY_PATH), "as mirror")
    client.log_in(*CAROL)
    served.forget()
    with pytest.raises(CommandFailed):
        client.pull(f"ghcr.io/{PRIVATE}")
    ghcr = served.hubs["ghcr.io"]
    assert ghcr.count("registry", "GET", "^/v2/alice/private/manifests/", 401) > 0
    assert known_at(ghcr) == set()
    served.assert_only("ghcr.io")


@readers
def test_mirror_by_host(name: str, served: Served, fresh: Fresh) -> None:
    """`location` may be the host that stands for a registry, with a login of its own."""
    client = fresh(name, served.way(served.named_host, {"ghcr.io": ""}), "as mirror")
    client.log_in("alice", ALICE["ghcr.io"])
    image = served.hubs["ghcr.io"].image("alice/private", "1")
    assert client.pull(f"ghcr.io/{PRIVATE}") == client.kept(image)
    served.assert_only("ghcr.io")


@readers
def test_host_and_path(name: str, served: Served, fresh: Fresh) -> None:
    """A path that names the registry of the host once more changes nothing."""
    client = fresh(name, served.way(served.named_host, {"ghcr.io": "/ghcr.io"}), "as mirror")
    image = served.hubs["ghcr.io"].image("a/b/c", "1")
    assert client.pull("ghcr.io/a/b/c:1") == client.kept(image)
    served.assert_only("ghcr.io")


@pytest.mark.parametrize("name", ["docker", "docker-containerd"])
def test_mirror_of_docker(name: str, served: Served, fresh: Fresh) -> None:
    """Docker has mirrors of Docker Hub alone, and that is what it gets, whatever else is served."""
    client = fresh(name, served.way(), "as mirror")
    hub = served.hubs["docker.io"]
    assert client.pull("owner/app:1") == client.kept(hub.image("owner/app", "1"))
    assert client.pull("nginx:latest") == client.kept(hub.image("library/nginx", "latest"))
    served.assert_only("docker.io")
