"""What clients read besides images, by every address, and where a registry sends them on to."""

import base64
import json
from pathlib import Path

import pytest

from tests import programs
from tests.clients.docker import docker
from tests.clients.oras import Oras
from tests.clients.process import CommandFailed
from tests.clients.skopeo import Skopeo
from tests.integration.pulling import ours
from tests.integration.registry_table import (
    ALICE,
    CAROL,
    PRIVATE,
    REFUSED,
    Fresh,
    Served,
    known_at,
)

pytestmark = pytest.mark.integration

TAGS = ["1", "2", "3", "4", "5"]

ways = pytest.mark.parametrize(
    ("written", "name"),
    [
        pytest.param("HOST/owner/app", "docker.io", id="default"),
        pytest.param("HOST/ghcr.io/owner/app", "ghcr.io", id="prefix"),
        pytest.param("HOST/plain.test/owner/app", "plain.test", id="no-token"),
        pytest.param("NAMED/owner/app", "ghcr.io", id="host"),
    ],
)


def address(written: str, served: Served) -> str:
    return written.replace("HOST", served.host).replace("NAMED", served.named_host)


@pytest.fixture
def skopeo(tmp_path: Path) -> Skopeo:
    programs.require("skopeo")
    return Skopeo(tmp_path)


@ways
def test_tags_in_pages(written: str, name: str, skopeo: Skopeo, served: Served) -> None:
    """The link to the next page leads to the same registry, by the address that was asked."""
    hub = served.hubs[name]
    hub.front.page_size = 2
    try:
        assert skopeo.list_tags(address(written, served)) == TAGS
    finally:
        hub.front.page_size = None
    assert hub.count("registry", "GET", "^/v2/owner/app/tags/list$", 200) == 3
    served.assert_only(name)


@ways
def test_referrers(written: str, name: str, served: Served, tmp_path: Path) -> None:
    """A signature is found at the registry of the image that it signs."""
    programs.require("oras")
    hub = served.hubs[name]
    subject = hub.image("owner/app", "1").digest
    signatures = [image.digest for image in hub.front.referrers["owner/app", subject]]
    assert Oras(tmp_path).discover(f"{address(written, served)}:1") == signatures
    assert hub.count("registry", "GET", f"/referrers/{subject}", 200) > 0
    served.assert_only(name)


@ways
def test_by_digest(written: str, name: str, fresh: Fresh, served: Served) -> None:
    """An image pinned by its digest comes from its registry, and the digest is what was pinned."""
    image = served.hubs[name].image("owner/app", "1")
    client = fresh("podman", served.way())
    assert client.pull(f"{address(written, served)}@{image.digest}") == client.kept(image)
    served.assert_only(name)


@pytest.mark.parametrize("name", ["docker.io", "ghcr.io", "plain.test"])
def test_all_tags(name: str, served: Served) -> None:
    """`docker pull --all-tags` gets what the registry of the prefix has, and no more."""
    programs.require_dockerd()
    repository = f"{served.host}/{name}/owner/app"
    with docker() as daemon:
        daemon.docker("pull", "--quiet", "--all-tags", repository)
        image = served.hubs[name].image("owner/app", "1")
        assert {image.digest, ours(image).blobs[0].digest} < daemon.digests(f"{repository}:5")
    served.assert_only(name)


def test_a_login_for_a_path(skopeo: Skopeo, served: Served) -> None:
    """With `prefix_login`, who gives a password for one pull gives it to the one that is pulled.

    That need not be the one that the default registry knows.
    """
    creds = f"alice:{ALICE['ghcr.io']}"
    pulled = skopeo.copy_all(f"{served.host}/shared.test/{PRIVATE}", creds=creds)
    assert served.hubs["ghcr.io"].image("alice/private", "1").digest in pulled
    served.assert_only("shared.test")
    with pytest.raises(CommandFailed) as failure:
        skopeo.copy_all(f"{served.host}/ghcr.io/{PRIVATE}", creds=creds)
    assert REFUSED.search(failure.value.output)
    served.assert_only("ghcr.io")


def test_logins_for_paths(served: Served, tmp_path: Path) -> None:
    """Stored for the proxy's host with a path, a login is one for that registry's images alone."""
    programs.require("skopeo")
    logins = {served.host: "docker.io", f"{served.host}/shared.test": "ghcr.io"}
    auths = {
        where: {"auth": base64.b64encode(f"alice:{ALICE[name]}".encode()).decode()}
        for where, name in logins.items()
    }
    (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
    skopeo = Skopeo(tmp_path)
    for where, name in logins.items():
        pulled = skopeo.copy_all(f"{where}/{PRIVATE}")
        assert served.hubs[name].image("alice/private", "1").digest in pulled
        served.assert_only(name)
        served.forget()


@pytest.mark.parametrize("client_name", ["skopeo", "docker", "ctr"])
@pytest.mark.parametrize("name", ["quay.io", "plain.test", "managed.test"])
def test_sent_on_to_another_registry(
    client_name: str, name: str, served: Served, fresh: Fresh
) -> None:
    """Where one registry sends on to another (as lscr.io to ghcr.io), that is asked as nobody."""
    front, ghcr = served.hubs[name].front, served.hubs["ghcr.io"]
    client = fresh(client_name, served.way())
    client.log_in(*CAROL)
    front.redirect_manifests_to = front.redirect_blobs_to = ghcr.url
    try:
        image = ghcr.image("owner/app", "1")
        assert client.pull(f"{served.host}/{name}/owner/app:1") == client.kept(image)
    finally:
        front.redirect_manifests_to = front.redirect_blobs_to = None
    assert ghcr.count("registry", path="^/v2/owner/app/manifests/", status=200) > 0
    assert known_at(ghcr) == set()


def test_sent_on_by_host(served: Served, fresh: Fresh) -> None:
    """A login at one registry stays there when that sends on to another."""
    ghcr, quay = served.hubs["ghcr.io"], served.hubs["quay.io"]
    client = fresh("skopeo", served.way(served.named_host))
    client.log_in("alice", ALICE["ghcr.io"])
    ghcr.front.redirect_manifests_to = ghcr.front.redirect_blobs_to = quay.url
    try:
        image = quay.image("owner/app", "1")
        assert client.pull(f"{served.named_host}/owner/app:1") == client.kept(image)
        with pytest.raises(CommandFailed) as failure:
            client.pull(f"{served.named_host}/{PRIVATE}")
    finally:
        ghcr.front.redirect_manifests_to = ghcr.front.redirect_blobs_to = None
    assert REFUSED.search(failure.value.output)
    assert known_at(quay) == set()
    served.assert_only("ghcr.io", "quay.io")
