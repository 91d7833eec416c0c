"""`flask cache ...` as an operator runs it: a process of its own, beside a Docxy or without one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import programs
from tests.clients.skopeo import Skopeo
from tests.hub.hub import Hub
from tests.hub.images import Image
from tests.integration.pulling import whole
from tests.servers import ROOT, clean_environment, docxy, wait_until
from tests.tables import write_config

pytestmark = pytest.mark.integration

Cache = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def shared_hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(shared_hub: Hub) -> Iterator[Hub]:
    shared_hub.reset()
    yield shared_hub
    shared_hub.reset()


@pytest.fixture
def settings(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a Docxy with an empty cache."""
    (tmp_path / "cache").mkdir()
    return hub.settings | {"DOCXY_CACHE_DIR": str(tmp_path / "cache")}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flask", "--app", "wsgi", "cache", *arguments]


def run(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def cache(settings: dict[str, str]) -> Cache:
    """Return what runs a command of the cache."""
    return lambda *arguments: run(settings, *arguments)


def asked(hub: Hub) -> dict[str, int]:
    """Return what the registry was asked for, by method and kind."""
    return {
        f"{method} {kind}": hub.count("registry", method, f"/{kind}/")
        for method in ("GET", "HEAD")
        for kind in ("manifests", "blobs")
    }


NOTHING = {"GET manifests": 0, "HEAD manifests": 0, "GET blobs": 0, "HEAD blobs": 0}


def content(settings: dict[str, str], image: Image) -> list[Path]:
    """Return the files of an image, of all its platforms."""
    digests = [image.digest, *(one.digest for one in image.platforms.values()), *image.all_blobs]
    names = [digest.partition(":")[2] for digest in digests]
    folder = Path(settings["DOCXY_CACHE_DIR"]) / "content" / "docker.io" / "sha256"
    return [folder / name[:2] / name for name in names]


def test_without_a_cache(hub: Hub) -> None:
    """One line says what is missing, and no log lines come before it."""
    ended = run(hub.settings, "statistics")
    assert ended.returncode == 1
    assert ended.stderr == (
        "Error: there is no cache: DOCXY_CACHE_DIR is not set (see docs/cache.md)\n"
    )


def test_wrong_settings(hub: Hub, tmp_path: Path) -> None:
    """They are told as at a start of Docxy."""
    cache = {"DOCXY_CACHE_DIR": str(tmp_path), "DOCXY_CACHE_DIRR": "x"}
    ended = run(hub.settings | cache, "statistics")
    assert ended.returncode == 1
    assert "DOCXY_CACHE_DIRR: there is no such setting" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_user(cache: Cache, settings: dict[str, str]) -> None:
    """It is refused before it leaves anything that the workers could not read."""
    directory = Path(settings["DOCXY_CACHE_DIR"])
    os.chown(directory, 10001, 10001)
    ended = cache("statistics")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"Error: {directory} belongs to user 10001")
    assert list(directory.iterdir()) == []


def test_what_was_warmed_costs_a_client_no_pull(
    cache: Cache, hub: Hub, settings: dict[str, str], tmp_path: Path
) -> None:
    """Warmed before Docxy starts: a client that comes then pulls nothing from the registry."""
    programs.require("skopeo")
    ended = cache("warm", "alpine:3.19", "--platform", "all")
    assert (ended.returncode, ended.stderr.count("Traceback")) == (0, 0)
    assert ended.stdout.splitlines()[0] == "1 of 1 image warm."
    assert ended.stdout.splitlines()[1].startswith("3 pulls spent, ")
    image = hub.image("library/alpine", "3.19")
    spent = asked(hub)
    assert spent["GET manifests"] == 3
    assert spent["GET blobs"] == len(image.all_blobs)
    assert all(path.exists() for path in content(settings, image))
    hub.forget()
    with docxy(**settings) as proxy:
        Skopeo(tmp_path / "home").copy_all(f"{proxy.host}/alpine:3.19", tmp_path / "copy")
    assert asked(hub)["GET manifests"] == asked(hub)["GET blobs"] == 0


def test_what_was_warmed_is_there_without_its_registry(
    cache: Cache, hub: Hub, settings: dict[str, str], tmp_path: Path
) -> None:
    """A client that starts from nothing completes its pull, of a Docxy that starts so too."""
    programs.require("skopeo")
    assert cache("warm", "alpine", "--platform", "all").returncode == 0
    with hub.away("registry"), hub.away("token"), hub.away("cdn"), docxy(**settings) as proxy:
        copied = Skopeo(tmp_path / "home").copy_all(
            f"{proxy.host}/alpine:latest", tmp_path / "copy"
        )
    assert copied == whole(hub.image("library/alpine", "latest"))


def test_beside_a_client(cache: Cache, hub: Hub, settings: dict[str, str], tmp_path: Path) -> None:
    """What both want at the same time is fetched once."""
    programs.require("skopeo")
    image = hub.image("library/alpine", "3.19")
    with docxy(**settings) as proxy, ThreadPoolExecutor() as threads:
        client = Skopeo(tmp_path / "home")
        copy = threads.submit(client.copy_all, f"{proxy.host}/alpine:3.19", tmp_path / "copy")
        assert cache("warm", "alpine:3.19", "--platform", "all").returncode == 0
        assert copy.result() == whole(image)
    assert asked(hub)["GET manifests"] == 1 + len(image.platforms)
    assert hub.count("registry", "GET", "/blobs/", 307) == len(image.all_blobs)
    wait_until(lambda: all(record.sent is not None for record in hub.select("cdn")))
    sizes = [blob.size for blob in image.all_blobs.values()]
    assert sum(record.sent or 0 for record in hub.select("cdn")) == sum(sizes)


def test_while_docxy_serves(cache: Cache, hub: Hub, settings: dict[str, str]) -> None:
    """A second run costs HEADs only, and what it finds is what the first one brought."""
    with docxy(**settings):
        assert cache("warm", "nginx", "owner/app:1").returncode == 0
        hub.forget()
        ended = cache("warm", "nginx", "owner/app:1")
        assert ended.stdout == ("2 of 2 images warm.\n0 pulls spent, 0 B of blobs fetched.\n")
        assert asked(hub) | {"HEAD manifests": 2} == NOTHING | {"HEAD manifests": 2}
        statistics = json.loads(cache("statistics", "--json").stdout)
        assert statistics["registries"]["docker.io"]["entries"] == 2 + 4 + 1 + 3
        removed = cache("remove", "nginx", "owner/app:1").stdout
        assert removed == "nginx: 6 entries removed\nowner/app:1: 4 entries removed\n"


def test_a_budget(cache: Cache, hub: Hub) -> None:
    """No pull more is spent, by the registry's own count."""
    ended = cache("warm", "--budget", "3", "alpine", "nginx")
    assert ended.returncode == 1
    assert "skipped: nginx: the budget is spent\n1 of 2 images warm.\n" in ended.stdout
    assert "3 of 3 pulls spent" in ended.stdout
    assert hub.pulls == 3
    ended = cache("warm", "--budget", "3", "alpine", "nginx")
    assert ended.returncode == 0
    assert "1 of 3 pulls spent" in ended.stdout
    assert hub.pulls == 4


def test_an_interrupt(cache: Cache, hub: Hub, settings: dict[str, str]) -> None:
    """It ends soon, also where a registry is silent, and the next run goes on from there."""
    hub.fail(part="cdn", stall_after=1000, times=None)
    warming = subprocess.Popen(
        command("warm", "owner/app:1"),
        cwd=ROOT,
        env=clean_environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_until(lambda: hub.count("cdn", "GET") > 0, what="a blob that is being fetched")
        warming.send_signal(signal.SIGINT)
        said, _ = warming.communicate(timeout=20)
    finally:
        warming.kill()
        warming.communicate()
    assert (warming.returncode, b"Aborted!\n" in said, b"Traceback" in said) == (1, True, False), (
        said.decode()
    )
    hub.heal()
    assert "0 pulls spent" in cache("warm", "owner/app:1").stdout


def test_a_rotten_file(cache: Cache, hub: Hub, settings: dict[str, str]) -> None:
    """It is found and dropped, and the next warming brings it back."""
    assert cache("warm", "owner/app:1").returncode == 0
    *_, layer = content(settings, hub.image("owner/app", "1"))
    right = layer.read_bytes()
    layer.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    ended = cache("verify")
    assert ended.returncode == 1
    assert ended.stdout.startswith(f"docker.io sha256:{layer.name}: the bytes are wrong\n")
    assert not layer.exists()
    assert cache("verify").returncode == 0
    assert cache("warm", "owner/app:1").returncode == 0
    assert layer.read_bytes() == right


def test_a_managed_registry(hub: Hub, tmp_path: Path) -> None:
    """Docxy's own account reads what nobody else may, and the TOML file sets it up."""
    user, name = "alice", "alice/private"
    rows = [
        hub.row(
            "private.example",
            credentials="managed",
            username=user,
            password=hub.users[user].password,
        )
    ]
    (tmp_path / "cache").mkdir()
    config = write_config(tmp_path / "docxy.toml", rows, cache_dir=str(tmp_path / "cache"))
    ended = run({"DOCXY_CONFIG": str(config)}, "warm", f"private.example/{name}:1")
    assert ended.stdout.splitlines()[0] == "1 of 1 image warm."
    assert ended.returncode == 0


def test_what_nobody_may_read(cache: Cache) -> None:
    """It is told, and nothing is kept of it."""
    ended = cache("warm", "alice/private:1")
    assert ended.returncode == 1
    assert ended.stdout.startswith("failed: alice/private:1: the registry answered 401")
    assert json.loads(cache("statistics", "--json").stdout)["registries"] == {}


def test_a_registry_that_is_away(cache: Cache, hub: Hub) -> None:
    """It is one line an image."""
    with hub.away("registry"):
        ended = cache("warm", "alpine")
    assert ended.returncode == 1
    assert ended.stdout.startswith("failed: alpine: ")
    assert "Traceback" not in ended.stderr
