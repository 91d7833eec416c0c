"""Manifests that a registry keeps elsewhere, as registry.k8s.io does, read through Docxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import programs
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX, Image
from tests.integration.asking import ACCEPT
from tests.servers import Docxy, docxy
from tests.tables import write_config

pytestmark = pytest.mark.integration

REPOSITORY = "/v2/library/alpine"


@pytest.fixture(scope="module")
def door() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub(login="none") as hub:
        hub.front.redirect_manifests_to = hub.front.redirect_blobs_to = hub.region_url
        yield hub


@pytest.fixture(scope="module")
def passing(door: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docxy]:
    row = door.row("k8s.test", library_prefix=True)
    path: Path = write_config(tmp_path_factory.mktemp("moved") / "docxy.toml", [row])
    with docxy(DOCXY_CONFIG=str(path)) as proxy:
        yield proxy


@pytest.fixture(params=[False, True], ids=["HEAD allowed", "GET only"])
def hub(door: Hub, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Return the registry, whose region takes HEAD or, in another test, does not."""
    monkeypatch.setattr(door.region, "refuse_head", request.param)
    door.reset()
    return door


@pytest.fixture
def image(hub: Hub) -> Image:
    return hub.image("library/alpine", "latest")


def ask(proxy: Docxy, method: str, target: str, **headers: str) -> requests.Response:
    fields = {**ACCEPT, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return requests.request(method, f"{proxy.url}{target}", headers=fields, timeout=20)


@pytest.mark.parametrize("name", [REPOSITORY, "/v2/alpine", "/v2/k8s.test/alpine"])
@pytest.mark.parametrize("reference", ["latest", "digest"])
def test_head(passing: Docxy, hub: Hub, image: Image, name: str, reference: str) -> None:
    """Length, type and digest are told, and neither the registry nor its region gives a body."""
    where = image.digest if reference == "digest" else reference
    answer = ask(passing, "HEAD", f"{name}/manifests/{where}", Authorization="Bearer docxy.none")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(image.size)
    assert answer.headers["Content-Type"] == OCI_INDEX
    assert answer.headers["Docker-Content-Digest"] == image.digest
    assert "Content-Range" not in answer.headers
    assert {record.method for record in hub.select("registry")} == {"HEAD"}
    assert hub.pulls == 0
    assert sum(record.sent or 0 for record in hub.select("region", status=206)) <= 1
    assert hub.count("region", status=200) == (0 if hub.region.refuse_head else 1)
    assert all("Authorization" not in record.headers for record in hub.requests)


def test_a_whole_pull(passing: Docxy, hub: Hub, image: Image) -> None:
    """HEAD, the manifest, its children and their blobs: all of it is there, byte for byte."""
    tag = ask(passing, "HEAD", f"{REPOSITORY}/manifests/latest")
    digest = tag.headers["Docker-Content-Digest"]
    assert ask(passing, "GET", f"{REPOSITORY}/manifests/{digest}").content == image.body
    for child in image.platforms.values():
        for method, body in (("HEAD", b""), ("GET", child.body)):
            answer = ask(passing, method, f"{REPOSITORY}/manifests/{child.digest}")
            assert (answer.status_code, answer.content) == (200, body)
            assert answer.headers["Content-Length"] == str(child.size)
        for blob in child.blobs:
            target = f"{REPOSITORY}/blobs/{blob.digest}"
            told = ask(passing, "HEAD", target).headers["Content-Length"]
            assert told == str(len(blob.data))
            assert ask(passing, "GET", target).content == blob.data
    assert hub.count("token") == 0


def test_parts_and_conditions(passing: Docxy, hub: Hub, image: Image) -> None:
    """They travel to the region with GET; a HEAD that has to become a GET stays a HEAD's answer."""
    blob = image.platforms["linux/amd64"].blobs[0]
    target = f"{REPOSITORY}/blobs/{blob.digest}"
    answer = ask(passing, "GET", target, Range="bytes=5-9")
    assert (answer.status_code, answer.content) == (206, blob.data[5:10])
    answer = ask(passing, "HEAD", target, Range="bytes=5-9")
    assert (answer.status_code in {200, 206}, answer.content) == (True, b"")
    manifest = f"{REPOSITORY}/manifests/latest"
    known = {"If_None_Match": f'"{image.digest}"'}
    assert ask(passing, "GET", manifest, **known).status_code == 304
    assert hub.pulls == 0


@pytest.mark.parametrize("reference", ["nothing", f"sha256:{'0' * 64}"])
def test_what_is_not_there(passing: Docxy, hub: Hub, reference: str) -> None:
    """It is 404 to GET; to HEAD it is no success either, and no one is asked for a token."""
    target = f"{REPOSITORY}/manifests/{reference}"
    answer = ask(passing, "GET", target)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
    answer = ask(passing, "HEAD", target)
    assert answer.status_code == 404
    assert "WWW-Authenticate" not in answer.headers
    assert hub.count("token") == 0
