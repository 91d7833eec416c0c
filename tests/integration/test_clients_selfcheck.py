"""The client drivers work, seen at a plain registry: what fails later through Docxy is Docxy's."""

import contextlib
import gzip
import hashlib
import http.client
import io
import json
import platform
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.clients.buildah import Buildah
from tests.clients.containerd import Containerd, containerd
from tests.clients.docker import Builder, Docker, docker
from tests.clients.oras import Oras
from tests.clients.podman import Podman
from tests.clients.process import CommandFailed
from tests.clients.skopeo import Skopeo
from tests.servers import clean_environment, free_port, running, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.rig]

Document = dict[str, Any]

NAME = "library/tiny"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass
class Image:
    """A registry that holds one image, and the digests of that image."""

    host: str
    index: str
    manifest: str
    config: str
    layers: list[str]
    diff_ids: list[str]
    other_platform: list[str]

    @property
    def direct(self) -> str:
        """Name the image as a client does that knows no mirror."""
        return f"{self.host}/{NAME}:latest"

    @property
    def copied(self) -> set[str]:
        """All that a client of every platform keeps."""
        return {self.index, self.manifest, self.config, *self.layers, *self.other_platform}


class Registry:
    """A plain registry, filled by HTTP."""

    def __init__(self, host: str) -> None:
        self.host = host

    def ask(self, method: str, path: str, body: bytes = b"", media_type: str = "text/plain") -> int:
        """Send a request and return the status."""
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=30)) as connection:
            connection.request(method, path, body, {"Content-Type": media_type})
            answer = connection.getresponse()
            answer.read()
            self.location = answer.getheader("Location") or ""
            return answer.status

    def ready(self) -> bool:
        """Tell whether it answers."""
        with contextlib.suppress(OSError):
            return self.ask("GET", "/v2/") == 200
        return False

    def push_blob(self, content: bytes) -> str:
        """Push a blob and return its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert self.ask("POST", f"/v2/{NAME}/blobs/uploads/") == 202
        path = self.location.partition(self.host)[2]
        assert self.ask("PUT", f"{path}&digest={digest}", content) == 201
        return digest

    def push_manifest(self, manifest: Document, reference: str | None = None) -> tuple[str, int]:
        """Push a manifest and return its digest and size."""
        content = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        path = f"/v2/{NAME}/manifests/{reference or digest}"
        assert self.ask("PUT", path, content, manifest["mediaType"]) == 201
        return digest, len(content)

    def push_image(self, architecture: str) -> tuple[Document, Document, Document]:
        """Push an image of two layers; return its descriptor, manifest and config."""
        layers, diff_ids = [], []
        for number in range(2):
            plain = tar(f"{architecture}-{number}", f"layer {number} of {architecture}".encode())
            packed = gzip.compress(plain, mtime=0)
            diff_ids.append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
            digest = self.push_blob(packed)
            layers.append({"mediaType": LAYER, "digest": digest, "size": len(packed)})
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/none"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        content = json.dumps(config).encode()
        described = {"mediaType": CONFIG, "digest": self.push_blob(content), "size": len(content)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described,
            "layers": layers,
        }
        digest, size = self.push_manifest(manifest)
        descriptor = {
            "mediaType": MANIFEST,
            "digest": digest,
            "size": size,
            "platform": {"os": "linux", "architecture": architecture},
        }
        return descriptor, manifest, config


def tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def fill(registry: Registry) -> Image:
    ours = ARCHITECTURES[platform.machine()]
    descriptor, manifest, config = registry.push_image(ours)
    other, other_manifest, _ = registry.push_image("s390x")
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor, other]}
    return Image(
        host=registry.host,
        index=registry.push_manifest(index, "latest")[0],
        manifest=descriptor["digest"],
        config=manifest["config"]["digest"],
        layers=[layer["digest"] for layer in manifest["layers"]],
        diff_ids=config["rootfs"]["diff_ids"],
        other_platform=[
            other["digest"],
            other_manifest["config"]["digest"],
            *(layer["digest"] for layer in other_manifest["layers"]),
        ],
    )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    programs.require("docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    host = f"127.0.0.1:{free_port()}"
    (folder / "config.yml").write_text(
        json.dumps(
            {
                "version": 0.1,
                "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
                "http": {"addr": host},
            }
        )
    )
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with running(command, env=clean_environment()):
        registry = Registry(host)
        wait_until(registry.ready, what="docker-registry")
        yield fill(registry)


@pytest.fixture(scope="module", params=["classic", "containerd"])
def dockerd(request: pytest.FixtureRequest, image: Image) -> Iterator[Docker]:
    programs.require_dockerd(image_store=request.param)
    with docker(image_store=request.param, mirrors=[f"http://{image.host}"]) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def content() -> Iterator[Containerd]:
    programs.require_containerd()
    with containerd() as daemon:
        yield daemon


def test_skopeo(image: Image, tmp_path: Path) -> None:
    """Skopeo copies all platforms byte for byte, directly and from a mirror."""
    programs.require("skopeo")
    skopeo = Skopeo(tmp_path / "direct")
    assert skopeo.copy_all(image.direct) == image.copied
    assert skopeo.list_tags(f"{image.host}/{NAME}") == ["latest"]
    mirrored = Skopeo(tmp_path / "mirrored", mirrors={"docker.io": image.host})
    assert mirrored.copy_all("docker.io/library/tiny:latest") == image.copied
    assert mirrored.inspect("docker.io/library/tiny:latest")["Layers"] == image.layers


def test_podman(image: Image, tmp_path: Path) -> None:
    """Podman pulls directly and from a mirror."""
    programs.require("podman")
    known = {image.index, image.manifest, image.config, *image.diff_ids}
    podman = Podman(tmp_path / "direct")
    assert podman.pull(image.direct) == known
    podman.remove(image.direct)
    mirrored = Podman(tmp_path / "mirrored", mirrors={"docker.io": image.host})
    assert mirrored.pull("docker.io/library/tiny:latest") == known


def test_buildah(image: Image, tmp_path: Path) -> None:
    """Buildah pulls directly and from a mirror, and builds from what it pulls."""
    programs.require("buildah")
    known = {image.manifest, image.config, *image.layers, *image.diff_ids}
    buildah = Buildah(tmp_path / "direct")
    assert buildah.pull(image.direct) == known
    buildah.remove_all()
    mirrored = Buildah(tmp_path / "mirrored", mirrors={"docker.io": image.host})
    assert mirrored.pull("docker.io/library/tiny:latest") == known
    assert mirrored.from_image("docker.io/library/tiny:latest").startswith("tiny-working")
    mirrored.remove_all()


def test_docker(image: Image, dockerd: Docker) -> None:
    """Dockerd pulls directly and from a mirror, with either image store."""
    for reference in [image.direct, "tiny:latest"]:
        digests = dockerd.pull(reference)
        assert {image.index, *image.diff_ids} <= digests <= image.copied | set(image.diff_ids)
        dockerd.remove_all()
        assert dockerd.images() == []


@pytest.mark.parametrize("builder", ["classic", "buildkit"])
def test_docker_build(image: Image, dockerd: Docker, builder: Builder) -> None:
    """Both builders pull the base of a build from a mirror."""
    programs.require_dockerd(builder=builder)
    dockerfile = "FROM tiny\nLABEL built=yes\nCOPY file /file\n"
    digests = dockerd.build(dockerfile, "built", builder=builder, files={"file": b"content"})
    assert set(image.diff_ids) < digests
    dockerd.remove_all()


def test_containerd(image: Image, content: Containerd) -> None:
    """Ctr pulls directly and by way of a hosts.toml file."""
    known = {image.index, image.manifest, image.config, *image.layers}
    assert content.pull(image.direct) == known
    content.remove_all()
    mirrors = {"docker.io": f"http://{image.host}"}
    assert content.pull("docker.io/library/tiny:latest", mirrors=mirrors) == known


def test_oras(image: Image, tmp_path: Path) -> None:
    """ORAS copies all platforms byte for byte."""
    programs.require("oras")
    oras = Oras(tmp_path)
    assert oras.copy(image.direct) == image.copied
    assert oras.discover(image.direct) == []


def test_a_failure_tells_what_the_client_wrote(tmp_path: Path) -> None:
    """A client's own words are in the exception, and nothing goes to Docker Hub."""
    programs.require("skopeo")
    with pytest.raises(CommandFailed, match=r"proxyconnect tcp: dial tcp 127\.0\.0\.1:9"):
        Skopeo(tmp_path).inspect("docker.io/library/tiny:latest")
