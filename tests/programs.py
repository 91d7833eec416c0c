"""The real programs that the tests use: which are here, and what follows where one is not."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_OLDEST_CONTAINERD_STORE = 24
_DEBIAN_12 = "12"
_NOT_IN_DEBIAN_12 = frozenset({"oras", "docker-buildx"})
_UNPACK_AS_ROOT = frozenset({"buildah", "podman"})
_PLUGINS = [
    Path("/usr/libexec/docker/cli-plugins"),
    Path("/usr/lib/docker/cli-plugins"),
    Path("/usr/local/lib/docker/cli-plugins"),
]


def path(name: str) -> str | None:
    """Return where a program is; servers live in sbin, which a user's own search path may lack."""
    folders = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    if name == "docker-buildx":
        folders = [str(folder) for folder in _PLUGINS]
    return shutil.which(name, path=os.pathsep.join(folders))


def require(*names: str) -> None:
    """Skip the test where a program is missing; fail it in CI, unless this Debian has none."""
    for name in names:
        if path(name):
            if name in _UNPACK_AS_ROOT and not may_be_root():
                pytest.skip(f"{name} needs root, or user namespaces")
            continue
        if name in _NOT_IN_DEBIAN_12 and _debian_release() == _DEBIAN_12:
            pytest.skip(f"Debian 12 has no {name}")
        reason = f"{name} is not installed; `make test` installs it where it may"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def require_root() -> None:
    """Skip the test without the rights that dockerd and containerd need."""
    if os.geteuid() != 0:
        pytest.skip("dockerd and containerd need root")


def require_dockerd(*, image_store: str = "classic", builder: str = "classic") -> None:
    """Skip or fail the test where this image store or builder of Docker cannot be had."""
    require("dockerd", "docker", "containerd", "ctr")
    require_root()
    if image_store == "containerd" and docker_version() < (_OLDEST_CONTAINERD_STORE,):
        pytest.skip("Docker has the containerd image store since version 24")
    # Before version 23 the docker command had BuildKit's client built in.
    if builder == "buildkit" and docker_version() >= (23,):
        require("docker-buildx")


def require_containerd() -> None:
    """Skip or fail the test where containerd cannot run."""
    require("containerd", "ctr")
    require_root()


@functools.cache
def docker_version() -> tuple[int, ...]:
    """Return dockerd's version, such as (26, 1, 5)."""
    return _version("dockerd", "--version")


@functools.cache
def containerd_version() -> tuple[int, ...]:
    """Return containerd's version, such as (1, 7, 24)."""
    return _version("containerd", "--version")


@functools.cache
def skopeo_version() -> tuple[int, ...]:
    """Return skopeo's version, such as (1, 18, 0)."""
    return _version("skopeo", "--version")


@functools.cache
def podman_version() -> tuple[int, ...]:
    """Return podman's version, such as (5, 4, 2)."""
    return _version("podman", "--version")


@functools.cache
def may_be_root() -> bool:
    """Tell whether this user is root, or may become it in a namespace (not so in a chroot)."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return (
        os.geteuid() == 0
        or not subprocess.run(command, capture_output=True, check=False).returncode
    )


def _version(name: str, argument: str) -> tuple[int, ...]:
    program = path(name) or name
    written = subprocess.run([program, argument], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(?:\.\d+)+", written)
    return tuple(map(int, found[0].split("."))) if found else ()


def _debian_release() -> str:
    with Path("/etc/os-release").open() as lines:
        fields = dict(line.rstrip().partition("=")[::2] for line in lines if "=" in line)
    return fields.get("VERSION_ID", "").strip('"') if fields.get("ID") == "debian" else ""
