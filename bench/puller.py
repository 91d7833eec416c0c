"""The clients whose pulls are measured, each with an empty store before every pull."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from platform import machine
from typing import Final, Protocol

from tests import programs
from tests.clients.containerd import Containerd, containerd
from tests.clients.docker import Docker, docker
from tests.clients.podman import Podman
from tests.clients.process import hermetic, run
from tests.clients.skopeo import Skopeo
from tests.servers import ROOT

SKOPEO: Final = "skopeo"
DOCKER: Final = "docker"
PODMAN: Final = "podman"
CTR: Final = "ctr"
CRANE: Final = "crane"
RANGES: Final = "ranges"

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
PLATFORM: Final = f"linux/{_ARCHITECTURES.get(machine(), machine())}"
"""The platform of this machine, for which clients pull."""
UNPACKING: Final = frozenset({DOCKER, PODMAN, CTR})
"""Clients that unpack what they pull."""

_DAEMONS: Final = frozenset({DOCKER, CTR})
"""Clients whose daemons need root."""
_PROGRAMS: Final = {
    SKOPEO: ("skopeo",),
    DOCKER: ("dockerd", "docker", "containerd", "ctr"),
    PODMAN: ("podman",),
    CTR: ("containerd", "ctr"),
    CRANE: ("crane",),
    RANGES: (),
}
_VERSIONS: Final = {
    SKOPEO: programs.skopeo_version,
    DOCKER: programs.docker_version,
    PODMAN: programs.podman_version,
    CTR: programs.containerd_version,
}


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image, and the host from which it is pulled."""

    host: str
    ca: Path | None
    """The authority of the host's certificate; None: plain HTTP."""
    repository: str
    tag: str
    layer: str
    """The digest of its first layer."""
    layer_size: int

    @property
    def reference(self) -> str:
        """The name that clients are given."""
        return f"{self.host}/{self.repository}:{self.tag}"

    @property
    def url(self) -> str:
        """The base URL of the host."""
        return f"{'https' if self.ca else 'http'}://{self.host}"


class Puller(Protocol):
    """A client with a store."""

    def fetch(self, image: RemoteImage) -> float:
        """Pull an image, and return the seconds that it took."""

    def empty(self, image: RemoteImage) -> None:
        """Remove the image that was pulled, and all its content."""


def find_missing(names: Sequence[str]) -> list[str]:
    """Return the clients that this machine lacks, or that need rights which this user lacks."""
    return [name for name in names if not _can_run(name)]


def _can_run(name: str) -> bool:
    if not all(map(programs.path, _PROGRAMS[name])):
        return False
    if name in _DAEMONS:
        return os.geteuid() == 0
    return name != PODMAN or programs.may_be_root()


def read_versions(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of those clients that tell one."""
    return {name: ".".join(map(str, _VERSIONS[name]())) for name in names if name in _VERSIONS}


@contextmanager
def run_pullers(names: Sequence[str], folder: Path, ca: Path) -> Iterator[dict[str, Puller]]:
    """Run clients that trust this authority, with their homes in a folder."""
    with ExitStack() as stack:
        pullers = dict[str, Puller]()
        for name in names:
            home = folder / name
            home.mkdir()
            if name == SKOPEO:
                pullers[name] = _SkopeoPuller(home, ca)
            elif name == PODMAN:
                pullers[name] = _PodmanPuller(home, ca)
            elif name == DOCKER:
                pullers[name] = _DockerPuller(stack.enter_context(docker(ca=ca)))
            elif name == CTR:
                pullers[name] = _CtrPuller(stack.enter_context(containerd(ca=ca)))
            elif name == CRANE:
                pullers[name] = _CranePuller(home)
            else:
                pullers[name] = _RangesPuller(home)
        yield pullers


class _SkopeoPuller:
    """`skopeo copy` to a directory."""

    def __init__(self, home: Path, ca: Path) -> None:
        (home / "plain").mkdir()
        (home / "tls").mkdir()
        self._plain, self._tls = Skopeo(home / "plain"), Skopeo(home / "tls", ca=ca)
        self._home = home

    def fetch(self, image: RemoteImage) -> float:
        target = Path(tempfile.mkdtemp(dir=self._home, prefix="copy-"))
        skopeo = self._tls if image.ca else self._plain
        started = time.perf_counter()
        skopeo.copy(image.reference, target)
        return time.perf_counter() - started

    def empty(self, image: RemoteImage) -> None:  # noqa: ARG002 - the protocol passes it
        for copy in self._home.glob("copy-*"):
            shutil.rmtree(copy)


class _PodmanPuller:
    """`podman pull` into a storage of the vfs driver."""

    def __init__(self, home: Path, ca: Path) -> None:
        (home / "plain").mkdir()
        (home / "tls").mkdir()
        self._plain, self._tls = Podman(home / "plain"), Podman(home / "tls", ca=ca)

    def fetch(self, image: RemoteImage) -> float:
        started = time.perf_counter()
        self._podman(image).fetch(image.reference)
        return time.perf_counter() - started

    def empty(self, image: RemoteImage) -> None:
        self._podman(image).remove(image.reference)

    def _podman(self, image: RemoteImage) -> Podman:
        return self._tls if image.ca else self._plain


@dataclass(frozen=True, slots=True)
class _DockerPuller:
    """`docker pull` into dockerd's classic store."""

    daemon: Docker

    def fetch(self, image: RemoteImage) -> float:
        started = time.perf_counter()
        self.daemon.fetch(image.reference)
        return time.perf_counter() - started

    def empty(self, image: RemoteImage) -> None:  # noqa: ARG002 - the protocol passes it
        self.daemon.docker("image", "prune", "--all", "--force")


@dataclass(frozen=True, slots=True)
class _CtrPuller:
    """`ctr images pull`, with the native snapshotter."""

    daemon: Containerd

    def fetch(self, image: RemoteImage) -> float:
        daemon = replace(self.daemon, ca=image.ca)
        started = time.perf_counter()
        daemon.fetch(image.reference)
        return time.perf_counter() - started

    def empty(self, image: RemoteImage) -> None:  # noqa: ARG002 - the protocol passes it
        self.daemon.remove_all()


@dataclass(frozen=True, slots=True)
class _CranePuller:
    """`crane pull` to a file; on loopback it tries TLS first, and then plain HTTP."""

    home: Path

    def fetch(self, image: RemoteImage) -> float:
        target = self.home / "image.tar"
        started = time.perf_counter()
        run(
            ["crane", "pull", "--platform", PLATFORM, image.reference, target],
            env=hermetic(self.home, ca=image.ca),
        )
        return time.perf_counter() - started

    def empty(self, image: RemoteImage) -> None:  # noqa: ARG002 - the protocol passes it
        (self.home / "image.tar").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _RangesPuller:
    """bench/ranges.py in a process of its own, which discards what it fetches."""

    home: Path

    def fetch(self, image: RemoteImage) -> float:
        command = [
            sys.executable, "-m", "bench.ranges", image.url, str(image.ca or ""), image.repository,
            image.layer, str(image.layer_size),
        ]  # fmt: skip
        env = hermetic(self.home)
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True
        )
        return float(done.stdout)

    def empty(self, image: RemoteImage) -> None:
        """Do nothing, since nothing is kept."""
