"""The content of the upstream: one large blob, and the manifest and config of an image of it."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
REPOSITORY: Final = "library/bench"
TAG: Final = "latest"
MEDIA_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"

_LAYERS: Final = 16
_CONFIG: Final = json.dumps(
    {
        "created": "2024-05-06T07:08:09Z",
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
    }
).encode()


@dataclass(frozen=True, slots=True)
class Content:
    """The files that the upstream reads, and the paths that clients ask for."""

    blob: Path
    blob_size: int
    blob_digest: str
    manifest: Path
    manifest_size: int
    manifest_digest: str
    config: Path
    config_digest: str

    @classmethod
    def write(cls, folder: Path, blob_size: int) -> Self:
        """Write the files; the blob is all zeros and takes no space on the disk."""
        blob = folder / "blob"
        with blob.open("wb") as file:
            os.truncate(file.fileno(), blob_size)
        blob_digest = _compute_zeros_digest(blob_size)
        config = folder / "config"
        config.write_bytes(_CONFIG)
        config_digest = _compute_digest(_CONFIG)
        text = _build_manifest(blob_digest, blob_size, config_digest)
        manifest = folder / "manifest"
        manifest.write_bytes(text)
        return cls(
            blob,
            blob_size,
            blob_digest,
            manifest,
            len(text),
            _compute_digest(text),
            config,
            config_digest,
        )

    @property
    def blob_path(self) -> str:
        """The path of the blob."""
        return f"/v2/{REPOSITORY}/blobs/{self.blob_digest}"

    @property
    def config_path(self) -> str:
        """The path of the config."""
        return f"/v2/{REPOSITORY}/blobs/{self.config_digest}"

    @property
    def manifest_path(self) -> str:
        """The path of the manifest, by tag."""
        return f"/v2/{REPOSITORY}/manifests/{TAG}"

    @property
    def manifest_path_by_digest(self) -> str:
        """The path of the manifest, by digest."""
        return f"/v2/{REPOSITORY}/manifests/{self.manifest_digest}"


def _compute_digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _compute_zeros_digest(size: int) -> str:
    sha256 = hashlib.sha256()
    zeros = bytes(MIB)
    for _ in range(size // MIB):
        sha256.update(zeros)
    return f"sha256:{sha256.hexdigest()}"


def _build_manifest(digest: str, size: int, config_digest: str) -> bytes:
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": digest,
        "size": size,
    }
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": config_digest,
        "size": len(_CONFIG),
    }
    document = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE,
        "config": config,
        "layers": [layer] * _LAYERS,
    }
    return json.dumps(document, indent=2).encode()
