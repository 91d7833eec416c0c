"""What lies in every new hub."""

import functools
from dataclasses import dataclass

from tests.hub.images import (
    DOCKER_KIND,
    OCI_KIND,
    Blob,
    Image,
    Kind,
    artifact,
    image,
    index,
    layer,
    noise,
)

PLATFORMS = ("linux/amd64", "linux/arm64")
SIGNATURE_TYPE = "application/vnd.example.signature.v1+json"
SBOM_TYPE = "application/spdx+json"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Push:
    """An image and where it goes."""

    name: str
    image: Image
    tags: tuple[str, ...] = ()
    private: bool = False


@functools.cache
def default_content() -> tuple[Push, ...]:
    """Return the images of a new hub; they are made once in a process."""
    alpine = multi_arch("alpine", OCI_KIND, data_size=2 * _MIB)
    many = image([layer({"/hello.txt": b"hello from many tags\n"})])
    signature = artifact(
        SIGNATURE_TYPE, b'{"signed":"alpine"}', "application/vnd.example.signature", alpine
    )
    sbom = artifact(SBOM_TYPE, b'{"spdxVersion":"SPDX-2.3"}', SBOM_TYPE, alpine)
    return (
        Push("library/alpine", alpine, ("3.19", "latest")),
        Push("library/alpine", many, tuple(f"v{number}" for number in range(1, 26))),
        Push("library/alpine", signature),
        Push("library/alpine", sbom),
        Push("library/nginx", multi_arch("nginx", DOCKER_KIND, data_size=_MIB // 2), ("latest",)),
        Push("owner/app", single("owner/app"), ("1",)),
        Push("alice/private", single("alice/private"), ("1",), private=True),
    )


def multi_arch(name: str, kind: Kind, data_size: int) -> Image:
    """Return an index of two platforms, three layers each, the first one shared."""
    shared = _greeting(name, kind)
    children = {
        platform: image(
            [
                shared,
                layer({f"/srv/{name}.bin": noise(data_size, f"{name} {platform}")}, kind),
                layer({"/etc/platform": f"{platform}\n".encode()}, kind),
            ],
            kind,
            platform,
        )
        for platform in PLATFORMS
    }
    return index(children, kind)


def single(name: str) -> Image:
    """Return a small image for linux/amd64."""
    return image([_greeting(name, OCI_KIND), layer({"/srv/data.bin": noise(100_000, name)})])


def _greeting(name: str, kind: Kind) -> Blob:
    files = {"/hello.txt": f"hello from {name}\n".encode(), "/etc/os-release": b"ID=hub\n"}
    return layer(files, kind)
