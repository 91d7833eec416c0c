"""hosts.toml of containerd: `ns`, `_default`, and a path that names the registry once more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import programs
from tests.clients.containerd import Containerd, containerd
from tests.clients.process import CommandFailed
from tests.hub.images import Image
from tests.integration.pulling import ours
from tests.integration.registry_table import ALICE, CAROL, PRIVATE, REFUSED, Served, known_at

pytestmark = pytest.mark.integration

REGISTRIES = ("docker.io", "ghcr.io", "quay.io", "plain.test")
DEAD = "127.0.0.1:9"


@pytest.fixture
def ctr() -> Iterator[Containerd]:
    programs.require_containerd()
    with containerd() as daemon:
        yield daemon


def kept(image: Image) -> frozenset[str]:
    """Return the digests of what ctr stores of an image."""
    mine = ours(image)
    return frozenset([image.digest, mine.digest, *(blob.digest for blob in mine.blobs)])


def pull(
    ctr: Containerd, hosts: Path, reference: str, *, user: tuple[str, str] | None = None
) -> frozenset[str]:
    """Pull by a directory of hosts.toml files."""
    login = ["--user", ":".join(user)] if user else []
    options = ["--snapshotter", "native", "--hosts-dir", str(hosts), *login]
    ctr.ctr("images", "pull", *options, reference)
    return ctr.digests(reference)


def hosts_toml(folder: Path, registry: str, url: str, *more: str) -> Path:
    """Write the hosts.toml of a registry; return the folder of all registries."""
    lines = [f'[host."{url}"]', 'capabilities = ["pull", "resolve"]', *more]
    (folder / registry).mkdir()
    (folder / registry / "hosts.toml").write_text("\n".join(lines))
    return folder


@pytest.fixture(params=["each", "_default", "path"])
def hosts(request: pytest.FixtureRequest, served: Served, tmp_path: Path) -> Path:
    """Write hosts.toml for each registry, for all at once, or with the registry in the path.

    The last is what a rewrite rule of k3s and a mirror of BuildKit's with a path come to.
    """
    url = f"http://{served.host}"
    match request.param:
        case "_default":
            return hosts_toml(tmp_path, "_default", url)
        case "each":
            for registry in REGISTRIES:
                hosts_toml(tmp_path, registry, url)
        case "path":
            for registry in REGISTRIES:
                hosts_toml(tmp_path, registry, f"{url}/v2/{registry}", "override_path = true")
    return tmp_path


def test_ns(hosts: Path, ctr: Containerd, served: Served) -> None:
    """Each image comes from its own registry, and no other one is asked for anything."""
    for registry in REGISTRIES:
        hub = served.hubs[registry]
        pulled = pull(ctr, hosts, f"{registry}/owner/app:1")
        assert pulled == kept(hub.image("owner/app", "1"))
        assert hub.count("registry", "HEAD", "^/v2/owner/app/manifests/1$", 200) > 0
        assert known_at(hub) == set()
        served.assert_only(registry)
        served.forget()


def test_private_by_ns(hosts: Path, ctr: Containerd, served: Served) -> None:
    """A login that containerd has for a registry goes to that one, and opens private images."""
    for registry in ("docker.io", "ghcr.io", "quay.io"):
        hub = served.hubs[registry]
        user = "alice", ALICE[registry]
        assert pull(ctr, hosts, f"{registry}/{PRIVATE}", user=user) == kept(
            hub.image("alice/private", "1")
        )
        assert "alice" in known_at(hub)
        served.assert_only(registry)
        served.forget()


def test_private_for_strangers(hosts: Path, ctr: Containerd, served: Served) -> None:
    """Without a login a private image is refused, and containerd goes on to a dead proxy."""
    with pytest.raises(CommandFailed) as failure:
        pull(ctr, hosts, f"ghcr.io/{PRIVATE}")
    assert REFUSED.search(failure.value.output) or DEAD in failure.value.output
    assert served.hubs["ghcr.io"].count("registry", "HEAD", "/alice/private/", 401) > 0
    served.assert_only("ghcr.io")


def test_ns_before_the_host(ctr: Containerd, served: Served, tmp_path: Path) -> None:
    """`ns` decides, also at a host that stands for another registry, and so does whose login."""
    hosts = hosts_toml(tmp_path, "_default", f"http://{served.named_host}")
    for registry in ("docker.io", "quay.io"):
        user = "alice", ALICE[registry]
        pulled = pull(ctr, hosts, f"{registry}/{PRIVATE}", user=user)
        assert pulled == kept(served.hubs[registry].image("alice/private", "1"))
        served.assert_only(registry)
        served.forget()


@pytest.mark.parametrize("hosts", ["_default"], indirect=True)
def test_basic_by_ns(hosts: Path, ctr: Containerd, served: Served) -> None:
    """A registry that takes Basic credentials only gets them as they are."""
    user = "alice", ALICE["basic.test"]
    pulled = pull(ctr, hosts, f"basic.test/{PRIVATE}", user=user)
    assert pulled == kept(served.hubs["basic.test"].image("alice/private", "1"))
    assert served.hubs["basic.test"].count("token") == 0
    served.assert_only("basic.test")


@pytest.mark.parametrize("hosts", ["_default"], indirect=True)
def test_ns_with_a_port(hosts: Path, ctr: Containerd, served: Served) -> None:
    """A port belongs to a registry's name, unless it is the one that https has anyway."""
    user = "alice", ALICE["quay.io"]
    pulled = pull(ctr, hosts, f"ported.test:5000/{PRIVATE}", user=user)
    assert pulled == kept(served.hubs["quay.io"].image("alice/private", "1"))
    served.assert_only("quay.io")
    pulled = pull(ctr, hosts, "ghcr.io:443/owner/app:1")
    assert pulled == kept(served.hubs["ghcr.io"].image("owner/app", "1"))
    served.assert_only("quay.io", "ghcr.io")


@pytest.mark.parametrize("hosts", ["_default"], indirect=True)
def test_ns_of_nobody(hosts: Path, ctr: Containerd, served: Served) -> None:
    """A registry that is not served is asked for nowhere, and no login goes anywhere."""
    with pytest.raises(CommandFailed, match=r"not\.served|127\.0\.0\.1:9"):
        pull(ctr, hosts, "not.served/owner/app:1", user=CAROL)
    served.assert_only()
