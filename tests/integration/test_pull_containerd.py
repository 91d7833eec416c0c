"""What only containerd does: hosts.toml, as the README has it, and `ns`."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import programs
from tests.clients.containerd import Containerd, containerd
from tests.clients.process import CommandFailed
from tests.hub.hub import Hub
from tests.integration.pulling import Way, WayNamed
from tests.integration.raw import RawBy
from tests.servers import ROOT

pytestmark = pytest.mark.integration

DIALLED = re.compile(r"dial tcp (\S+): ")
DEAD = "127.0.0.1:9"


@pytest.fixture
def ctr(hub: Hub) -> Iterator[Containerd]:
    del hub
    programs.require_containerd()
    with containerd() as daemon:
        yield daemon


def hosts_of_readme(url: str, folder: Path) -> Path:
    """Write the hosts.toml of the README for this URL; return the directory of all hosts."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"hosts\.toml`:\n\n((?: {4}.*\n|\n)+)", text)
    assert block
    written = re.sub(r"(?m)^ {4}", "", block[1])
    assert written.count("https://proxy.example") == 2
    target = folder / "docker.io/hosts.toml"
    target.parent.mkdir(parents=True)
    target.write_text(written.replace("https://proxy.example", url))
    return folder


@pytest.fixture
def behind_nginx(way_named: WayNamed, hub: Hub) -> Iterator[tuple[Containerd, Way]]:
    del hub
    programs.require_containerd()
    way = way_named("nginx")
    with containerd(ca=way.ca) as daemon:
        yield daemon, way


def test_hosts_toml_of_the_readme(
    behind_nginx: tuple[Containerd, Way], hub: Hub, tmp_path: Path
) -> None:
    """The file works as it stands in the README, for nginx with TLS."""
    daemon, way = behind_nginx
    hosts = ["--hosts-dir", str(hosts_of_readme(way.url, tmp_path))]
    reference = "docker.io/library/nginx:latest"
    daemon.ctr("images", "pull", "--snapshotter", "native", *hosts, reference)
    assert hub.image("library/nginx", "latest").digest in daemon.digests(reference)


def test_hosts_toml_of_the_readme_when_the_proxy_fails(
    behind_nginx: tuple[Containerd, Way], hub: Hub, tmp_path: Path
) -> None:
    """README: with `server` set to the proxy, containerd does not go on to Docker Hub."""
    daemon, way = behind_nginx
    hosts = ["--hosts-dir", str(hosts_of_readme(way.url, tmp_path))]
    hub.fail(part="registry", path="/manifests/", status=500, times=None)
    reference = "docker.io/library/nginx:latest"
    with pytest.raises(CommandFailed) as failure:
        daemon.ctr("images", "pull", "--snapshotter", "native", *hosts, reference)
    assert DEAD not in failure.value.output
    assert "registry-1.docker.io" not in failure.value.output
    assert hub.count("registry", "HEAD", "/library/nginx/manifests/latest", 500) > 0


def test_a_mirror_that_fails(ctr: Containerd, plain: Way, hub: Hub) -> None:
    """With Docker Hub as `server`, containerd goes on there: here that is nowhere but port 9."""
    hub.fail(part="registry", path="/manifests/", status=500, times=None)
    with pytest.raises(CommandFailed) as failure:
        ctr.pull("docker.io/library/alpine:3.19", mirrors={"docker.io": plain.url})
    assert set(DIALLED.findall(failure.value.output)) == {DEAD}


def test_ns_of_another_registry(ctr: Containerd, plain: Way, hub: Hub) -> None:
    """`ns` says which registry is meant: one that is not served here is asked directly.

    So the images of another registry are never taken from Docker Hub.
    """
    with pytest.raises(CommandFailed, match=r"quay\.io.*127\.0\.0\.1:9"):
        ctr.pull("quay.io/library/alpine:3.19", mirrors={"quay.io": plain.url})
    assert hub.count("registry", path="/library/") == 0


@pytest.mark.parametrize("ns", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_ns_of_docker_hub(ns: str, raw_by: RawBy, hub: Hub) -> None:
    """Every name of Docker Hub is understood in `ns`, and none of them goes up."""
    raw = raw_by("nginx")
    raw.log_in("library/alpine")
    image = hub.image("library/alpine", "3.19")
    answer = raw.ask("GET", f"/v2/library/alpine/manifests/3.19?ns={ns}")
    assert answer.content == image.body
    assert answer.headers["Docker-Content-Digest"] == image.digest
    (asked,) = hub.select("registry", "GET", "/manifests/")
    assert asked.raw_query == ""


@pytest.mark.parametrize("ns", ["quay.io", "docker.io.example", "127.0.0.1:9"])
def test_ns_of_nobody(ns: str, raw_by: RawBy, hub: Hub) -> None:
    """An `ns` that is not served is refused here, and asked nowhere."""
    answer = raw_by("plain").ask("GET", f"/v2/library/alpine/manifests/3.19?ns={ns}")
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "NAME_UNKNOWN"
    assert hub.count() == 0
