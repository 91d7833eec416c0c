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
def default_content(seed: str = "") -> tuple[Push, ...]:
    """Return the images of a new hub, made once in a process.

    Another seed gives the same repositories and tags other images, of which no blob but the
    artifacts' empty config is in another hub.
    """
    alpine = multi_arch("alpine", OCI_KIND, data_size=2 * _MIB, seed=seed)
    many = image([layer({"/hello.txt": f"hello from {seed or 'many tags'}\n".encode()})])
    signed = f'{{"signed":"alpine{seed}"}}'.encode()
    signature = artifact(SIGNATURE_TYPE, signed, "application/vnd.example.signature", alpine)
    spdx = f'{{"spdxVersion":"SPDX-2.3"}}{seed}'.encode()
    sbom = artifact(SBOM_TYPE, spdx, SBOM_TYPE, alpine)
    nginx = multi_arch("nginx", DOCKER_KIND, data_size=_MIB // 2, seed=seed)
    return (
        Push("library/alpine", alpine, ("3.19", "latest")),
        Push("library/alpine", many, tuple(f"v{number}" for number in range(1, 26))),
        Push("library/alpine", signature),
        Push("library/alpine", sbom),
        Push("library/nginx", nginx, ("latest",)),
        Push("owner/app", single("owner/app", seed), ("1",)),
        Push("alice/private", single("alice/private", seed), ("1",), private=True),
    )


def multi_arch(name: str, kind: Kind, data_size: int, seed: str = "") -> Image:
    """Return an index of two platforms, three layers each, the first one shared."""
    shared = _greeting(name, kind, seed)
    children = {
        platform: image(
            [
                shared,
                layer({f"/srv/{name}.bin": noise(data_size, f"{seed}{name} {platform}")}, kind),
                layer({"/etc/platform": f"{platform}\n{seed}".encode()}, kind),
            ],
            kind,
            platform,
        )
        for platform in PLATFORMS
    }
    return index(children, kind)


def single(name: str, seed: str = "") -> Image:
    """Return a small image for linux/amd64."""
    data = layer({"/srv/data.bin": noise(100_000, f"{seed}{name}")})
    return image([_greeting(name, OCI_KIND, seed), data])


def _greeting(name: str, kind: Kind, seed: str) -> Blob:
    greeting = f"hello from {name}\n{seed}".encode()
    return layer({"/hello.txt": greeting, "/etc/os-release": b"ID=hub\n"}, kind)
