"""The registries.conf of the README, as it stands there but for the name of the proxy."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import programs
from tests.clients.buildah import Buildah
from tests.clients.podman import Podman
from tests.clients.process import CommandFailed
from tests.clients.skopeo import Skopeo
from tests.hub.hub import Hub
from tests.integration.pulling import PRIVATE, Way, WayName, WayNamed, ours
from tests.servers import ROOT

pytestmark = pytest.mark.integration

Puller = Callable[[str], frozenset[str]]
LogIn = Callable[[str, str, str], None]


def skopeo(way: Way, home: Path) -> tuple[Puller, LogIn]:
    driver = Skopeo(home, ca=way.ca, mirrors={"docker.io": way.host})
    return driver.copy_all, driver.login


def podman(way: Way, home: Path) -> tuple[Puller, LogIn]:
    driver = Podman(home, ca=way.ca, mirrors={"docker.io": way.host})
    return driver.pull, driver.login


def buildah(way: Way, home: Path) -> tuple[Puller, LogIn]:
    driver = Buildah(home, ca=way.ca, mirrors={"docker.io": way.host})
    return driver.pull, driver.login


def registries_of_readme(way: Way) -> str:
    """Return the file's text for this way."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"registries\.conf\.d/proxy\.conf`:\n\n((?: {4}.*\n|\n)+)", text)
    assert block
    written = re.sub(r"(?m)^ {4}", "", block[1])
    assert written.count('"proxy.example"') == 1
    return written.replace("proxy.example", way.host)


@pytest.mark.parametrize("way", ["nginx", "caddy"])
@pytest.mark.parametrize("client", [skopeo, podman, buildah])
def test_registries_conf_of_the_readme(
    client: Callable[[Way, Path], tuple[Puller, LogIn]],
    way: WayName,
    way_named: WayNamed,
    hub: Hub,
    tmp_path: Path,
) -> None:
    """Public images come by Docker Hub's own names; private ones after a login at the proxy."""
    programs.require(client.__name__)
    there = way_named(way)
    pull, log_in = client(there, tmp_path)
    (tmp_path / "registries.conf").write_text(registries_of_readme(there))
    public, private = hub.image("library/nginx", "latest"), hub.image(*PRIVATE.split(":"))
    assert ours(public).digest in pull("docker.io/library/nginx:latest")
    log_in(there.host, "alice", "alicepw")
    assert ours(private).digest in pull(f"docker.io/{PRIVATE}")


def test_a_login_of_docker_hub_is_not_enough(way_named: WayNamed, hub: Hub, tmp_path: Path) -> None:
    """README: podman looks for the login of the mirror's own host; so does skopeo."""
    programs.require("skopeo")
    there = way_named("nginx")
    pull, _ = skopeo(there, tmp_path)
    (tmp_path / "registries.conf").write_text(registries_of_readme(there))
    (tmp_path / "auth.json").write_text(
        '{"auths": {"docker.io": {"auth": "YWxpY2U6YWxpY2Vwdw=="}}}'
    )
    with pytest.raises(CommandFailed, match=r"127\.0\.0\.1:9"):
        pull(f"docker.io/{PRIVATE}")
    assert hub.count("registry", path="/alice/private/manifests/", status=401) > 0
    assert all("Authorization" not in asked.headers for asked in hub.select("token"))
