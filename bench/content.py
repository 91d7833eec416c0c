"""What the upstream serves: one large blob and one small manifest."""

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


@dataclass(frozen=True, slots=True)
class Content:
    """The files that the upstream reads, and the paths that clients ask for."""

    blob: Path
    blob_size: int
    blob_digest: str
    manifest: Path
    manifest_size: int
    manifest_digest: str

    @classmethod
    def write(cls, folder: Path, blob_size: int) -> Self:
        """Write both files; the blob is all zeros and takes no place on the disk."""
        blob = folder / "blob"
        with blob.open("wb") as file:
            os.truncate(file.fileno(), blob_size)
        blob_digest = _digest_of_zeros(blob_size)
        text = _manifest(blob_digest, blob_size)
        manifest = folder / "manifest"
        manifest.write_bytes(text)
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        return cls(blob, blob_size, blob_digest, manifest, len(text), digest)

    @property
    def blob_path(self) -> str:
        """The path of the blob."""
        return f"/v2/{REPOSITORY}/blobs/{self.blob_digest}"

    @property
    def manifest_path(self) -> str:
        """The path of the manifest, by tag."""
        return f"/v2/{REPOSITORY}/manifests/{TAG}"

    @property
    def manifest_path_by_digest(self) -> str:
        """The path of the manifest, by digest."""
        return f"/v2/{REPOSITORY}/manifests/{self.manifest_digest}"


def _digest_of_zeros(size: int) -> str:
    sha256 = hashlib.sha256()
    piece = bytes(MIB)
    for _ in range(size // MIB):
        sha256.update(piece)
    return f"sha256:{sha256.hexdigest()}"


def _manifest(digest: str, size: int) -> bytes:
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": digest,
        "size": size,
    }
    config = layer | {"mediaType": "application/vnd.oci.image.config.v1+json"}
    document = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE,
        "config": config,
        "layers": [layer] * _LAYERS,
    }
    return json.dumps(document, indent=2).encode()
