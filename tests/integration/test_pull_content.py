"""What comes is what lies in the registry: bytes, tags, and what refers to an image."""

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import programs
from tests.clients.oras import Oras
from tests.clients.skopeo import Skopeo
from tests.hub.content import SBOM_TYPE, SIGNATURE_TYPE, multi_arch
from tests.hub.hub import Hub
from tests.hub.images import (
    OCI_INDEX,
    OCI_KIND,
    OCI_MANIFEST,
    Blob,
    Image,
    artifact,
    digest_of,
    index,
    noise,
)
from tests.integration.pulling import WayName, WayNamed, ours, whole
from tests.integration.raw import RawBy

pytestmark = pytest.mark.integration

WAYS: list[WayName] = ["plain", "nginx", "caddy"]
TAGS = sorted(["3.19", "latest", *(f"v{number}" for number in range(1, 26))])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["library/alpine:3.19", "library/nginx:latest"])
def test_skopeo_keeps_the_bytes(
    name: str, way: WayName, way_named: WayNamed, hub: Hub, tmp_path: Path
) -> None:
    """A copy of all platforms has the bytes of every manifest and blob, of both image formats."""
    programs.require("skopeo")
    there = way_named(way)
    copy = tmp_path / "copy"
    Skopeo(tmp_path / "home", ca=there.ca).copy_all(f"{there.host}/{name}", copy)
    image = hub.image(*name.split(":"))
    expected = {digest: blob.data for digest, blob in image.all_blobs.items()}
    expected |= {child.digest: child.body for child in image.platforms.values()}
    expected[image.digest] = image.body
    files = [file for file in copy.iterdir() if file.name != "version"]
    assert {digest_of(file.read_bytes()): file.read_bytes() for file in files} == expected


@pytest.mark.parametrize("way", WAYS)
def test_skopeo_inspect(way: WayName, way_named: WayNamed, hub: Hub, tmp_path: Path) -> None:
    """An inspection tells the digest of the index and the layers."""
    programs.require("skopeo")
    there = way_named(way)
    described = Skopeo(tmp_path, ca=there.ca).inspect(f"{there.host}/alpine:3.19")
    image = hub.image("library/alpine", "3.19")
    assert described["Digest"] == image.digest
    assert described["Layers"] == [layer.digest for layer in ours(image).layers]


@pytest.fixture(params=["path", "whole-url"])
def paging(request: pytest.FixtureRequest, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Let the hub list ten tags at a time, and write either kind of Link."""
    monkeypatch.setattr(hub.front, "page_size", 10)
    monkeypatch.setattr(hub.front, "absolute_links", request.param == "whole-url")
    return hub


@pytest.mark.parametrize("name", ["library/alpine", "alpine"])
@pytest.mark.parametrize("way", WAYS)
def test_every_tag(
    way: WayName, name: str, way_named: WayNamed, paging: Hub, tmp_path: Path
) -> None:
    """Skopeo follows the pages to the end, whatever the registry writes into its Link."""
    programs.require("skopeo")
    there = way_named(way)
    assert Skopeo(tmp_path, ca=there.ca).list_tags(f"{there.host}/{name}") == TAGS
    pages = paging.select("registry", "GET", "^/v2/library/alpine/tags/list$", 200)
    assert [page.query.get("last") for page in pages] == [None, [TAGS[9]], [TAGS[19]]]


@pytest.mark.parametrize("ns", ["", "&ns=docker.io"], ids=["by-name", "as-mirror"])
def test_a_page_leads_back_through_docxy(ns: str, raw_by: RawBy, paging: Hub) -> None:
    """The Link of a page names what the client named, `ns` too, so its token is good for it."""
    raw = raw_by("nginx")
    raw.log_in("alpine")
    path, seen = f"/v2/alpine/tags/list?n=7{ns}", list[str]()
    while path:
        answer = raw.ask("GET", path)
        assert answer.status_code == 200
        page = answer.json()["tags"]
        assert 0 < len(page) <= 7
        seen += page
        link = answer.headers.get("Link", "")
        found = re.fullmatch(r'<(/v2/alpine/tags/list\?.*)>; rel="next"', link)
        path = found[1] if found else ""
        assert ns in path or not path
    assert seen == TAGS
    assert paging.count("registry", path="/library/alpine/tags/list") == 4


@pytest.mark.parametrize("way", ["plain", "nginx"])
def test_oras_finds_referrers(way: WayName, way_named: WayNamed, hub: Hub, tmp_path: Path) -> None:
    """ORAS discovers the signature and the SBOM of an image, and copies them whole."""
    programs.require("oras")
    there = way_named(way)
    oras = Oras(tmp_path / "home", ca=there.ca)
    subject = hub.image("library/alpine", "3.19").digest
    referrers = hub.front.referrers["library/alpine", subject]
    assert len(referrers) == 2
    found = oras.discover(f"{there.host}/library/alpine:3.19")
    assert sorted(found) == sorted(referrer.digest for referrer in referrers)
    assert hub.count("registry", "GET", f"/library/alpine/referrers/{subject}", 200) == 1
    for referrer in referrers:
        copied = oras.copy(f"{there.host}/library/alpine@{referrer.digest}")
        assert copied >= whole(referrer)


def test_oras_finds_referrers_by_tag(way_named: WayNamed, hub: Hub, tmp_path: Path) -> None:
    """Where the registry lists none: its 404 says nothing of the repository, and ORAS goes on."""
    programs.require("oras")
    there = way_named("plain")
    subject = hub.push("owner/signed", multi_arch("signed", OCI_KIND, 1000), ["1"])
    signature = artifact(SIGNATURE_TYPE, b"{}", "application/json", subject)
    hub.push("owner/signed", index({"unknown/unknown": signature}), [tag_for(subject.digest)])
    hub.push("owner/signed", index({}), [tag_for(signature.digest)])
    hub.front.lists_referrers = False
    try:
        found = Oras(tmp_path / "home", ca=there.ca).discover(f"{there.host}/owner/signed:1")
    finally:
        hub.front.lists_referrers = True
    assert found == [signature.digest]


def tag_for(digest: str) -> str:
    """Return the tag that stands for the list of referrers of a digest."""
    return digest.replace(":", "-")


@pytest.mark.parametrize("way", ["plain", "nginx"])
def test_oras_pulls_files(way: WayName, way_named: WayNamed, hub: Hub, tmp_path: Path) -> None:
    """ORAS pulls the file of an artifact, byte for byte."""
    programs.require("oras")
    there = way_named(way)
    data = noise(300_000, "artifact")
    hub.push("owner/files", file_artifact("sbom.json", data), ["1"])
    (file,) = Oras(tmp_path / "home", ca=there.ca).pull(
        f"{there.host}/owner/files:1", tmp_path / "f"
    )
    assert file.name == "sbom.json"
    assert file.read_bytes() == data


def file_artifact(name: str, data: bytes) -> Image:
    """Return an artifact that ORAS unpacks into a file of this name."""
    config, content = Blob("application/vnd.oci.empty.v1+json", b"{}"), Blob(SBOM_TYPE, data)
    title = {"annotations": {"org.opencontainers.image.title": name}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": SBOM_TYPE,
        "config": config.descriptor(),
        "layers": [content.descriptor() | title],
    }
    return Image(OCI_MANIFEST, json.dumps(manifest).encode(), config, (content,))


@pytest.mark.parametrize("way", ["plain", "nginx"])
def test_referrers_are_filtered(way: WayName, raw_by: RawBy, hub: Hub) -> None:
    """A filter goes up and its acknowledgement comes down; without one, there is none."""
    raw = raw_by(way)
    raw.log_in("library/alpine")
    subject = hub.image("library/alpine", "3.19").digest
    path = f"/v2/alpine/referrers/{subject}"
    for query, types in [
        ("", {SBOM_TYPE, SIGNATURE_TYPE}),
        (f"?artifactType={quote(SBOM_TYPE, safe='')}", {SBOM_TYPE}),
        ("?artifactType=none", set[str]()),
    ]:
        answer = raw.ask("GET", path + query)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == OCI_INDEX
        document = json.loads(answer.content)
        assert {one["artifactType"] for one in document["manifests"]} == types
        assert answer.headers.get("OCI-Filters-Applied") == ("artifactType" if query else None)
