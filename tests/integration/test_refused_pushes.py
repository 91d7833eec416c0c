"""Whoever pushes to this proxy is shown why that is refused, and does not try again."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import requests

from tests import programs
from tests.clients.configuration import containers_environment
from tests.clients.oras import Oras
from tests.clients.podman import Podman
from tests.clients.process import CommandFailed, hermetic, run
from tests.clients.skopeo import Skopeo
from tests.hub.content import single
from tests.hub.hub import Hub
from tests.servers import Docxy, wait_until

pytestmark = pytest.mark.integration

REASON = "this proxy only serves pulls"
HERE, THERE = "library/refused", "library/pushed"


@pytest.fixture(scope="module")
def layout(busy_hub: Hub, proxy: Docxy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image to push, as skopeo's `dir:` has it."""
    programs.require("skopeo")
    busy_hub.push(HERE, single("refused"), ["1"])
    # Clients look first whether a repository has a layer: Docker Hub says 401 of an unknown one.
    busy_hub.push(THERE, single("pushed"), ["1"])
    home = tmp_path_factory.mktemp("skopeo")
    Skopeo(home).copy(f"{proxy.host}/{HERE}:1", home / "image")
    return home / "image"


def _skopeo(host: str, layout: Path, home: Path) -> None:
    command = ["skopeo", "copy", "--dest-tls-verify=false", f"dir:{layout}"]
    run([*command, f"docker://{host}/{THERE}:1"], env=containers_environment(home))


def _podman(host: str, _: Path, home: Path) -> None:
    podman = Podman(home)
    podman.pull(f"{host}/{HERE}:1")
    podman.push(f"{host}/{HERE}:1", f"{host}/{THERE}:1")


def _oras(host: str, layout: Path, home: Path) -> None:
    # oras 1.2 panics now and then where two blobs are refused at once.
    Oras(home).push_blob(f"{host}/{THERE}", layout / "version")


def _imagetools(host: str, _: Path, home: Path) -> None:
    environment = hermetic(home) | {"DOCKER_CONFIG": str(home)}
    command = ["docker", "buildx", "imagetools", "create", "--tag", f"{host}/{THERE}:1"]
    run([*command, f"{host}/{HERE}:1"], env=environment)


def _requests(host: str, *_: Path) -> None:
    """Do as python-dxf and others do, whose errors are those of requests."""
    try:
        requests.post(f"http://{host}/v2/{THERE}/blobs/uploads/", timeout=30).raise_for_status()
    except requests.HTTPError as error:
        raise CommandFailed(["requests"], 1, str(error)) from error


CLIENTS: Mapping[str, Callable[[str, Path, Path], None]] = {
    "skopeo": _skopeo, "podman": _podman, "oras": _oras, "imagetools": _imagetools,
    "requests": _requests,
}  # fmt: skip
PROGRAMS = {"podman": ["podman"], "oras": ["oras"], "imagetools": ["docker", "docker-buildx"]}
BLOBS = 6
"""Some clients push all blobs of an image at once; who tries again asks four times for each."""


@pytest.mark.parametrize("name", CLIENTS)
def test_what_clients_show(name: str, proxy: Docxy, layout: Path, tmp_path: Path) -> None:
    """The reason, be it from the body or from the status line, after one attempt at each blob."""
    programs.require(*PROGRAMS.get(name, ()))
    before = len(proxy.log)

    def posts() -> int:
        return proxy.log[before:].count(f"method=POST path=/v2/{THERE}/")

    with pytest.raises(CommandFailed) as refused:
        CLIENTS[name](proxy.host, layout, tmp_path)
    assert REASON in refused.value.output.lower()
    wait_until(lambda: posts() > 0, what="the line of a refused push")
    assert posts() <= BLOBS
