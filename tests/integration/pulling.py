"""The container clients as tests of pulls see them, and the table of who is tried on what way."""

import contextlib
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from _pytest.mark import ParameterSet

from tests import programs
from tests.clients.buildah import Buildah
from tests.clients.containerd import containerd
from tests.clients.docker import ImageStore, docker
from tests.clients.oras import Oras
from tests.clients.podman import Podman
from tests.clients.skopeo import Skopeo
from tests.hub.images import Image

WayName = Literal["plain", "nginx", "caddy"]
Use = Literal["by name", "as mirror"]

PRIVATE = "alice/private:2"
"""An index of two platforms with three layers each, which alice may read and bob may not."""

DOCKER_HUB = "https://index.docker.io/v1/"
"""Under this name Docker stores the login of Docker Hub."""

TABLE: Mapping[str, Mapping[Use, tuple[WayName, ...]]] = {
    "skopeo": {"by name": ("plain", "nginx", "caddy"), "as mirror": ("plain", "nginx", "caddy")},
    "podman": {"by name": ("plain", "nginx", "caddy"), "as mirror": ("plain", "nginx", "caddy")},
    "buildah": {"by name": ("plain", "nginx"), "as mirror": ("plain", "nginx")},
    "docker": {"by name": ("plain", "nginx"), "as mirror": ("plain", "nginx")},
    # It speaks plain HTTP to a mirror on loopback, also where that is written https://.
    "docker-containerd": {"by name": ("plain", "nginx"), "as mirror": ("plain",)},
    "ctr": {"by name": ("plain", "nginx"), "as mirror": ("plain", "nginx")},
    "oras": {"by name": ("plain", "nginx"), "as mirror": ()},
}


@dataclass(frozen=True)
class Cost:
    """What a cold pull of `library/alpine` asks of Docker Hub, and a client may not ask more."""

    pulls: int
    heads: int
    blobs: int


COSTS: Mapping[str, Cost] = {
    "skopeo": Cost(pulls=3, heads=0, blobs=7),
    "podman": Cost(pulls=2, heads=0, blobs=4),
    "buildah": Cost(pulls=2, heads=0, blobs=4),
    "docker": Cost(pulls=2, heads=1, blobs=4),
    "docker-containerd": Cost(pulls=2, heads=1, blobs=4),
    "ctr": Cost(pulls=2, heads=1, blobs=4),
    "oras": Cost(pulls=3, heads=0, blobs=7),
}


def rows(use: Use, *, but: tuple[str, ...] = (), only: WayName | None = None) -> list[ParameterSet]:
    """Return the lines of the table for one use: a client and a way to Docxy."""
    return [
        pytest.param(name, way, id=f"{name}-{way}")
        for name, uses in TABLE.items()
        for way in uses[use]
        if name not in but and only in {None, way}
    ]


def each_client(use: Use, *, first: int, but: tuple[str, ...] = ()) -> list[ParameterSet]:
    """Return each client once, on its ways in turn, which begin with the one of this number."""
    found = []
    for at, (name, uses) in enumerate(TABLE.items(), first):
        if uses[use] and name not in but:
            way = uses[use][at % len(uses[use])]
            found.append(pytest.param(name, way, id=f"{name}-{way}"))
    return found


@dataclass(frozen=True)
class Way:
    """One of the ways on which clients reach Docxy."""

    name: WayName
    url: str
    host: str
    """host:port, as a container client writes it."""
    ca: Path | None
    """What a client must trust; None for plain HTTP."""
    log: Callable[[], str]
    """What Docxy and the server in front of it have written."""
    mirrored: Mapping[str, str] = field(default_factory=lambda: {"docker.io": ""})
    """The registries whose mirror it is, and the path below `host` that stands for each."""


@dataclass(frozen=True)
class Client:
    """A client that has pulled nothing yet and knows nobody."""

    pull: Callable[[str], frozenset[str]]
    """Pull and return the digests of what is there now, computed from its bytes or looked up."""
    log_in: Callable[[str, str], None]
    """Log in with a name and a password, as this client does it for a proxy it is to use so."""
    kept: Callable[[Image], frozenset[str]]
    """The digests that a pull of this image must return."""
    log: Callable[[], str]
    """What its daemon has written, if it has one."""


Start = Callable[[str, WayName, Use], tuple[Client, Way]]
WayNamed = Callable[[WayName], Way]


@contextlib.contextmanager
def client(name: str, way: Way, use: Use, home: Path) -> Iterator[Client]:
    """Start a client that knows Docxy by its name, or as the mirror of Docker Hub.

    Daemons are the test's own, since a dockerd keeps manifests even of images that it removed:
    its next pull is not a cold one. They are there within half a second.
    """
    with _KINDS[name](way, use, home) as started:
        yield started


OURS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]
"""What clients pull on this machine."""


def ours(image: Image) -> Image:
    """Return the part of an image that is for this machine."""
    return image.platforms[OURS] if image.platforms else image


def whole(image: Image) -> frozenset[str]:
    """Return the digests of all that belongs to an image, for all platforms."""
    manifests = [image, *image.platforms.values()]
    return frozenset([*(manifest.digest for manifest in manifests), *image.all_blobs])


def _blobs(image: Image) -> list[str]:
    return [blob.digest for blob in ours(image).blobs]


def _unpacked(image: Image) -> list[str]:
    return [layer.diff_id for layer in ours(image).layers]


def _mirrors(way: Way, use: Use) -> dict[str, str]:
    mirrored = way.mirrored if use == "as mirror" else {}
    return {registry: f"{way.host}{path}" for registry, path in mirrored.items()}


def _nothing() -> str:
    return ""


@contextlib.contextmanager
def _skopeo(way: Way, use: Use, home: Path) -> Iterator[Client]:
    programs.require("skopeo")
    skopeo = Skopeo(home, ca=way.ca, mirrors=_mirrors(way, use))

    def log_in(username: str, password: str) -> None:
        skopeo.login(way.host, username, password)

    yield Client(skopeo.copy_all, log_in, whole, _nothing)


@contextlib.contextmanager
def _podman(way: Way, use: Use, home: Path) -> Iterator[Client]:
    programs.require("podman")
    podman = Podman(home, ca=way.ca, mirrors=_mirrors(way, use))

    def log_in(username: str, password: str) -> None:
        podman.login(way.host, username, password)

    def kept(image: Image) -> frozenset[str]:
        config = _blobs(image)[0]
        return frozenset([image.digest, ours(image).digest, config, *_unpacked(image)])

    yield Client(podman.pull, log_in, kept, _nothing)


@contextlib.contextmanager
def _buildah(way: Way, use: Use, home: Path) -> Iterator[Client]:
    programs.require("buildah")
    buildah = Buildah(home, ca=way.ca, mirrors=_mirrors(way, use))

    def log_in(username: str, password: str) -> None:
        buildah.login(way.host, username, password)

    def kept(image: Image) -> frozenset[str]:
        return frozenset([ours(image).digest, *_blobs(image), *_unpacked(image)])

    yield Client(buildah.pull, log_in, kept, _nothing)


@contextlib.contextmanager
def _oras(way: Way, use: Use, home: Path) -> Iterator[Client]:
    programs.require("oras")
    assert use == "by name"
    oras = Oras(home, ca=way.ca)

    def log_in(username: str, password: str) -> None:
        oras.login(way.host, username, password)

    yield Client(oras.copy, log_in, whole, _nothing)


@contextlib.contextmanager
def _ctr(way: Way, use: Use, home: Path) -> Iterator[Client]:
    del home
    programs.require_containerd()
    if use == "by name" and way.ca and programs.containerd_version() < (1, 7):
        pytest.skip(
            "before version 1.7 containerd speaks plain HTTP to loopback, whatever is there"
        )
    mirrors = {"docker.io": way.url} if use == "as mirror" else None
    users: list[str] = []

    def log_in(username: str, password: str) -> None:
        users.append(f"{username}:{password}")

    def kept(image: Image) -> frozenset[str]:
        return frozenset([image.digest, ours(image).digest, *_blobs(image)])

    with containerd(ca=way.ca) as daemon:

        def pull(reference: str) -> frozenset[str]:
            return daemon.pull(reference, user=users[-1] if users else None, mirrors=mirrors)

        yield Client(pull, log_in, kept, lambda: daemon.server.log)


@contextlib.contextmanager
def _docker(way: Way, use: Use, image_store: ImageStore) -> Iterator[Client]:
    programs.require_dockerd(image_store=image_store)
    mirrors = [way.url] if use == "as mirror" else []
    with docker(image_store=image_store, mirrors=mirrors, ca=way.ca) as daemon:

        def log_in(username: str, password: str) -> None:
            if use == "as mirror":
                daemon.store_login(DOCKER_HUB, username, password)
            else:
                daemon.login(way.host, username, password)

        def kept(image: Image) -> frozenset[str]:
            config = _blobs(image)[:1] if image_store == "classic" else []
            return frozenset([image.digest, *config, *_unpacked(image)])

        yield Client(daemon.pull, log_in, kept, lambda: daemon.server.log)


@contextlib.contextmanager
def _docker_classic(way: Way, use: Use, home: Path) -> Iterator[Client]:
    del home
    with _docker(way, use, "classic") as started:
        yield started


@contextlib.contextmanager
def _docker_containerd(way: Way, use: Use, home: Path) -> Iterator[Client]:
    del home
    with _docker(way, use, "containerd") as started:
        yield started


_KINDS: Mapping[str, Callable[[Way, Use, Path], contextlib.AbstractContextManager[Client]]] = {
    "skopeo": _skopeo,
    "podman": _podman,
    "buildah": _buildah,
    "docker": _docker_classic,
    "docker-containerd": _docker_containerd,
    "ctr": _ctr,
    "oras": _oras,
}
