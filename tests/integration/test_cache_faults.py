"""The cache has a bad day: whatever happens to it, pulls come through, and bytes are right."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chunk_maps import count_arrived
from tests.hub.gates import Gate
from tests.hub.hub import Hub
from tests.hub.images import Blob, Image
from tests.integration.caching import ACCEPT, Cached, caching, push
from tests.integration.survival import blob_path
from tests.servers import wait_until
from tests.wire.client import Client

pytestmark = pytest.mark.integration

MB = 1_000_000
HELD = 3 * MB
"""Bytes that are kept of a layer when something happens."""

CROWD = 12


def layer_of(image: Image) -> Blob:
    """Return the large layer."""
    return image.platforms["linux/amd64"].layers[1]


def hex_of(layer: Blob) -> str:
    """Return what the CDN's paths have of a digest."""
    return layer.digest.partition(":")[2]


def hold(hub: Hub, gate: Gate, layer: Blob) -> None:
    """Let the fetch of a layer stand still in its midst, over however many connections it comes."""
    hub.fail(part="cdn", path=hex_of(layer), gate=gate, hold_after=HELD)
    hub.fail(part="cdn", path=hex_of(layer), gate=gate, times=None)


def stubborn(cached: Cached, path: str, authorization: str, size: int) -> bytes:
    """Download as container clients do: what breaks goes on where it broke, some times."""
    data = b""
    for _ in range(8):
        fields = [authorization, *([f"Range: bytes={len(data)}-"] if data else [])]
        with contextlib.suppress(ConnectionError), cached.client() as one:
            one.ask(path, *fields)
            head = one.head()
            assert head.status == (206 if data else 200), head
            data += one.exactly(size - len(data))
        if len(data) == size:
            break
    return data


class Crowd:
    """Downloads of one layer, all at once."""

    def __init__(self, cached: Cached, name: str, layer: Blob, pool: ThreadPoolExecutor) -> None:
        authorization = cached.login(name)
        path = blob_path(layer.digest, name)
        self._layer = layer
        self._downloads = [
            pool.submit(stubborn, cached, path, authorization, layer.size) for _ in range(CROWD)
        ]

    def all_right(self) -> bool:
        """Wait for all of them, and tell whether each has every byte."""
        return all(one.result() == self._layer.data for one in self._downloads)


def in_its_midst(cached: Cached, gate: Gate) -> bool:
    """Tell whether the fetch stands still, with what has come of it on the disk."""
    return gate.arrived > 0 and count_arrived(cached.directory / "unfinished") >= HELD // 2


def docker_has_config(cached: Cached, image: Image) -> bool:
    """Tell whether only layers are left to Docker: it tries nothing else again."""
    config = image.platforms["linux/amd64"].config
    assert config is not None
    asked = f"/blobs/{config.digest} status=200"
    lines = cached.proxy.log.splitlines()
    return any(asked in line and 'user_agent="docker/' in line for line in lines)


def test_killed_workers(kept_hub: Hub, tmp_path: Path) -> None:
    """SIGKILL for each worker under load: real clients and raw ones get every byte.

    What had come is not asked for again, and what is kept then is right.
    """
    hub, name = kept_hub, "faults/killed"
    image = push(hub, name, 8 * MB)
    layer = layer_of(image)
    with (
        caching(hub, tmp_path / "cache") as cached,
        ThreadPoolExecutor(CROWD + 2) as pool,
        Gate() as gate,
    ):
        hold(hub, gate, layer)
        crowd = Crowd(cached, name, layer, pool)
        # podman gives up when a layer breaks twice without a byte between.
        pulls = [pool.submit(cached.pull, "docker", tmp_path / "docker", name)]
        wait_until(lambda: in_its_midst(cached, gate), what="a part of the layer")
        wait_until(lambda: docker_has_config(cached, image), what="what Docker asks for once only")
        for pid in cached.proxy.workers:
            cached.kill(pid)
        gate.open()
        assert crowd.all_right()
        for pull in pulls:
            pull.result()
        fetches = hub.select("cdn", "GET", hex_of(layer))
        assert sum(one.sent or 0 for one in fetches) < layer.size + HELD
        hub.reset()
        cached.pull("skopeo", tmp_path / "after", name)
        assert hub.count("cdn", "GET", hex_of(layer)) == 0


def test_a_restart(kept_hub: Hub, tmp_path: Path) -> None:
    """What a Docxy had begun, another one goes on with, from where it ended."""
    hub, name = kept_hub, "faults/restarted"
    layer = layer_of(push(hub, name, 8 * MB))
    path = blob_path(layer.digest, name)
    with Gate() as gate:
        hold(hub, gate, layer)
        with caching(hub, tmp_path / "cache") as cached, cached.client() as one:
            one.ask(path, cached.login(name))
            wait_until(lambda: in_its_midst(cached, gate), what="a part of the layer")
            for pid in (cached.proxy.server.process.pid, *cached.proxy.workers):
                os.kill(pid, signal.SIGKILL)
    hub.reset()
    with caching(hub, tmp_path / "cache") as cached:
        cached.pull("skopeo", tmp_path / "skopeo", name)
        fetches = hub.select("cdn", "GET", hex_of(layer))
        assert all(one.headers.get("Range", "").startswith("bytes=") for one in fetches)
        assert sum(one.sent or 0 for one in fetches) < layer.size - HELD // 2


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of so many bytes, or skip the test."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "docxy-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        while folder.is_mount():
            subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_too_small(kept_hub: Hub, tmp_path: Path) -> None:
    """Pulls go on without the cache, and the log says so."""
    name = "faults/small"
    push(kept_hub, name, 12 * MB)
    with disk(tmp_path / "disk", 6 * MB) as small, caching(kept_hub, small / "cache") as cached:
        for client in ("skopeo", "docker"):
            cached.pull(client, tmp_path / client, name)
        assert "WARNING" in cached.proxy.log


def full(cached: Cached) -> None:
    """Leave no byte of the disk."""
    path = cached.directory.parent / "filling"
    # Without a buffer, which would be written at the end, outside of what is suppressed.
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def read_only(cached: Cached) -> None:
    """Let nothing more be written."""
    folder = cached.directory.parent
    aside = folder.parent / "read-only"
    aside.mkdir()
    # What is open for writing keeps a mount from becoming read-only, so another one, which already
    # is, is put over it at once.
    subprocess.run(["mount", "--bind", folder, aside], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", aside], check=True)
    subprocess.run(["mount", "--bind", aside, folder], check=True)
    subprocess.run(["umount", "--lazy", aside], check=True)


def deleted(cached: Cached) -> None:
    """Delete it under its feet, with what it makes there meanwhile."""

    def is_gone() -> bool:
        shutil.rmtree(cached.directory, ignore_errors=True)
        return not cached.directory.exists()

    wait_until(is_gone, what="an end of the directory")


@pytest.mark.parametrize(
    ("trouble", "next_client"), [(full, "docker"), (read_only, "skopeo"), (deleted, "podman")]
)
def test_trouble_in_the_midst(
    trouble: Callable[[Cached], None], next_client: str, kept_hub: Hub, tmp_path: Path
) -> None:
    """Whoever waits for a layer gets it whole, and so does who comes afterwards."""
    hub, name = kept_hub, f"faults/{trouble.__name__}"
    layer = layer_of(push(hub, name, 8 * MB))
    push(hub, f"{name}/next")
    with (
        disk(tmp_path / "disk", 64 * MB) as folder,
        caching(hub, folder / "cache") as cached,
        ThreadPoolExecutor(CROWD + 1) as pool,
        Gate() as gate,
    ):
        hold(hub, gate, layer)
        crowd = Crowd(cached, name, layer, pool)
        pull: Future[None] = pool.submit(cached.pull, "skopeo", tmp_path / "in-it", name)
        wait_until(lambda: in_its_midst(cached, gate), what="a part of the layer")
        trouble(cached)
        gate.open()
        assert crowd.all_right()
        pull.result()
        cached.pull(next_client, tmp_path / "after", name)
        cached.pull("skopeo", tmp_path / "next", f"{name}/next")
        # A directory that has gone is made anew.
        assert trouble is deleted or "WARNING" in cached.proxy.log
        assert "Traceback" not in cached.proxy.log


def flipped(path: Path) -> None:
    """Change a byte."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.chmod(0o640)
    path.write_bytes(data)


def shortened(path: Path) -> None:
    """Take the last bytes away."""
    os.truncate(path, path.stat().st_size - 10)


def removed(path: Path) -> None:
    """Take the file away."""
    path.unlink()


@pytest.mark.parametrize("spoil", [flipped, shortened, removed])
@pytest.mark.parametrize("kind", ["manifest", "layer"])
def test_a_spoiled_file(
    kind: str, spoil: Callable[[Path], None], cached: Cached, tmp_path: Path
) -> None:
    """It is found, dropped and fetched again; a flipped bit of a layer is for `verify` to find."""
    hub, name = cached.hub, f"faults/{spoil.__name__}-{kind}"
    image = push(hub, name)
    digest = layer_of(image).digest if kind == "layer" else image.digest
    cached.pull("skopeo", tmp_path / "first", name)
    spoil(cached.file(digest))
    if spoil is flipped and kind == "layer":
        assert cached.command("verify") == 1
    hub.reset()
    cached.pull("skopeo", tmp_path / "second", name)
    assert hub.count("registry", "GET", "/(manifests|blobs)/") == 1
    hub.reset()
    cached.pull("skopeo", tmp_path / "third", name)
    assert hub.count("registry", "GET", "/(manifests|blobs)/") == hub.count("cdn") == 0
    assert cached.command("verify") == 0


IMAGES = 10
LIMIT = 6 * MB


@pytest.mark.soak
def test_eviction_under_load(kept_hub: Hub, tmp_path: Path) -> None:
    """More images than there is room for, pulled at once and again: right, and within limits.

    Who has begun to read something that has to go reads it to its end.
    """
    slow = layer_of(push(kept_hub, "faults/slow", 4 * MB))
    images = {f"faults/many{number}": 0 for number in range(IMAGES)}
    layers = {name: push(kept_hub, name, MB).all_blobs for name in images}
    with (
        caching(kept_hub, tmp_path / "cache", DOCXY_CACHE_MAX_SIZE=str(LIMIT)) as cached,
        ThreadPoolExecutor(9) as pool,
    ):
        tokens = {name: cached.login(name) for name in images}

        def pull(number: int) -> int:
            chosen = random.Random(number)  # noqa: S311 - no secret
            for _ in range(15):
                name = chosen.choice([*layers])
                tag = cached.get(f"/v2/{name}/manifests/1", tokens[name], ACCEPT)
                assert tag.body == kept_hub.image(name, "1").body
                blob = chosen.choice([*layers[name].values()])
                answer = cached.get(blob_path(blob.digest, name), tokens[name])
                assert answer.body == blob.data
            return held(cached)

        pulls = pool.map(pull, range(6))
        clients = [
            pool.submit(cached.pull, "skopeo", tmp_path / name.replace("/", "-"), name)
            for name in [*layers][:3]
        ]
        with Client(cached.proxy.host, receive_buffer=16384, segment=1400) as reader:
            path, authorization = blob_path(slow.digest, "faults/slow"), cached.login("faults/slow")
            assert cached.get(path, authorization).body == slow.data
            reader.ask(path, authorization)
            begun = reader.head(), reader.exactly(1000)
            assert max(pulls) <= LIMIT + 2 * MB
            for name, blobs in layers.items():
                for digest in blobs:
                    cached.get(blob_path(digest, name), tokens[name])
            wait_until(lambda: not is_held(cached, slow), what="the eviction of what is read")
            assert begun[1] + reader.exactly(slow.size - 1000) == slow.data
        for client in clients:
            client.result()
        wait_until(lambda: held(cached) <= LIMIT, what="what is kept to be within its limit")
        assert "Traceback" not in cached.proxy.log


def is_held(cached: Cached, blob: Blob) -> bool:
    """Tell whether a blob is kept now."""
    return hex_of(blob) in {path.name for path in cached.files}


def held(cached: Cached) -> int:
    """Return the bytes of the content that is kept now."""
    total = 0
    for path in cached.files:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
