"""Container images made by hand: small, valid, and the same bytes every time."""

import functools
import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OCI = "application/vnd.oci.image"
OCI_INDEX = f"{OCI}.index.v1+json"
OCI_MANIFEST = f"{OCI}.manifest.v1+json"
DOCKER = "application/vnd.docker"
DOCKER_LIST = f"{DOCKER}.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = f"{DOCKER}.distribution.manifest.v2+json"
_EPOCH = "1970-01-01T00:00:00Z"


def digest_of(data: bytes) -> str:
    """Return the sha256 digest as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The media types of one of the two families."""

    index: str
    manifest: str
    config: str
    layer: str


OCI_KIND = Kind(
    index=OCI_INDEX,
    manifest=OCI_MANIFEST,
    config=f"{OCI}.config.v1+json",
    layer=f"{OCI}.layer.v1.tar+gzip",
)
DOCKER_KIND = Kind(
    index=DOCKER_LIST,
    manifest=DOCKER_MANIFEST,
    config=f"{DOCKER}.container.image.v1+json",
    layer=f"{DOCKER}.image.rootfs.diff.tar.gzip",
)


@dataclass(frozen=True)
class Blob:
    """A config or a layer."""

    media_type: str
    data: bytes = field(repr=False)
    diff_id: str = ""
    """A layer's digest before it was compressed."""

    @functools.cached_property
    def digest(self) -> str:
        """The digest of the data."""
        return digest_of(self.data)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.data)

    def descriptor(self) -> dict[str, Any]:
        """Return how a manifest refers to this."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Image:
    """A manifest with its blobs, or an index with one such image for each platform."""

    media_type: str
    body: bytes = field(repr=False)
    config: Blob | None = None
    layers: tuple[Blob, ...] = ()
    platforms: Mapping[str, "Image"] = field(default_factory=dict)
    """By platform, as in linux/arm64; empty for a manifest."""

    @functools.cached_property
    def digest(self) -> str:
        """The digest of the manifest or index."""
        return digest_of(self.body)

    @property
    def size(self) -> int:
        """The number of bytes of the manifest or index."""
        return len(self.body)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """The config and the layers of a manifest."""
        return () if self.config is None else (self.config, *self.layers)

    @property
    def all_blobs(self) -> dict[str, Blob]:
        """The blobs of all platforms, by digest."""
        children = [blob for child in self.platforms.values() for blob in child.blobs]
        return {blob.digest: blob for blob in (*self.blobs, *children)}

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """The parsed body."""
        return dict(json.loads(self.body))

    def descriptor(self) -> dict[str, Any]:
        """Return how an index or a subject refers to this."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


def noise(size: int, seed: str) -> bytes:
    """Return bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)  # noqa: S311


def layer(files: Mapping[str, bytes], kind: Kind = OCI_KIND) -> Blob:
    """Return a layer with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    tar = buffer.getvalue()
    return Blob(kind.layer, gzip.compress(tar, 1, mtime=0), digest_of(tar))


def image(
    layers: Sequence[Blob],
    kind: Kind = OCI_KIND,
    platform: str = "linux/amd64",
    author: str | None = None,
) -> Image:
    """Return an image for one platform; those of different authors share their layers alone."""
    system, _, architecture = platform.partition("/")
    config = {
        "architecture": architecture,
        "os": system,
        "created": _EPOCH,
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in layers]},
        "history": [{"created": _EPOCH, "created_by": "tests/hub"} for _ in layers],
    }
    if author:
        config["author"] = author
    config_blob = Blob(kind.config, _dump(config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind.manifest,
        "config": config_blob.descriptor(),
        "layers": [blob.descriptor() for blob in layers],
    }
    return Image(kind.manifest, _dump(manifest), config_blob, tuple(layers))


def index(platforms: Mapping[str, Image], kind: Kind = OCI_KIND) -> Image:
    """Return an index (or manifest list) of images for several platforms."""
    manifests = []
    for platform, child in platforms.items():
        system, _, architecture = platform.partition("/")
        platform_fields = {"architecture": architecture, "os": system}
        manifests.append(child.descriptor() | {"platform": platform_fields})
    document = {"schemaVersion": 2, "mediaType": kind.index, "manifests": manifests}
    return Image(kind.index, _dump(document), platforms=dict(platforms))


def artifact(artifact_type: str, data: bytes, media_type: str, subject: Image) -> Image:
    """Return an artifact that refers to an image, as signatures and SBOMs do."""
    config = Blob("application/vnd.oci.empty.v1+json", b"{}")
    content = Blob(media_type, data)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": config.descriptor(),
        "layers": [content.descriptor()],
        "subject": subject.descriptor(),
        "annotations": {"org.opencontainers.image.created": _EPOCH},
    }
    return Image(OCI_MANIFEST, _dump(manifest), config, (content,))


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()
