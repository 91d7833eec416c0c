"""Blobs that many read while they are fetched, with real workers."""

import json
import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.disks import mounted
from tests.servers import Docxy, wait_until
from tests.unit.transfer.parts import blob_of
from tests.wire.client import Client
from tests.wire.shelf import PIECE, Cached, get, path_of, shelved, stop, together, users, whole

MB = 1_000_000
DATA = blob_of(6 * MB)
HELD = 32 * PIECE
"""Bytes that come of a blob that is held: some whole chunks, and no more of any."""


@pytest.fixture
def cached(tmp_path: Path, home: Path) -> Iterator[Cached]:
    with shelved(tmp_path / "cache", home) as cached:
        yield cached
    cached.upstream.check()


@pytest.fixture
def path(cached: Cached) -> str:
    """Return the path of a blob of 6 MB."""
    return cached.shelf.put(DATA)


@dataclass
class Shared:
    """A proxy that tests share, and a blob of 6 MB that none of the others has asked for."""

    cached: Cached
    proxy: Docxy
    data: bytes = b""
    path: str = ""
    seed: int = 100
    log_begins: int = 0

    @property
    def log(self) -> str:
        """What has been logged in this test."""
        return self.proxy.log[self.log_begins :]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[Shared]:
    cache = tmp_path_factory.mktemp("shared") / "cache"
    with shelved(cache, home) as cached, cached.proxy() as proxy:
        yield Shared(cached, proxy)


@pytest.fixture
def shared(running: Shared) -> Iterator[Shared]:
    cached, shelf = running.cached, running.cached.shelf
    wait_until(lambda: cached.count_arrived() == 0, what="an end of what others have begun")
    cached.upstream.asked.clear()
    shelf.pieces.clear()
    shelf.stop_at, shelf.going_on = None, threading.Event()
    running.seed += 1
    running.data = blob_of(6 * MB, running.seed)
    running.path = shelf.put(running.data)
    running.log_begins = len(running.proxy.log)
    yield running
    shelf.going_on.set()
    cached.upstream.check()


def test_fifty_clients_cost_one_download(shared: Shared) -> None:
    """Whatever range each of them wants, however slow it is, and whoever leaves."""
    cached, proxy = shared.cached, shared.proxy
    others = [blob_of(3 * MB + seed, seed) for seed in (2, 3)]
    blobs = [(shared.path, shared.data), *((cached.shelf.put(data), data) for data in others)]

    def run(number: int) -> str:
        chance = random.Random(number)  # noqa: S311 - no secret
        at, data = chance.choice(blobs)
        start = chance.choice([0, chance.randrange(len(data))])
        end = chance.choice([len(data), chance.randrange(start, len(data)) + 1])
        with Client(proxy.host, receive_buffer=chance.choice([None, 4096])) as client:
            client.ask(at, f"Range: bytes={start}-{end}")
            client.head()
            stays = chance.random() < 0.7
            wanted = min(end + 1, len(data)) - start if stays else chance.randrange(end - start)
            got = client.exactly(wanted)
        return "" if got == data[start : start + wanted] else f"{number}: {start}-{end}"

    assert [one for one in together(50, run) if one != ""] == []
    for at, data in blobs:
        assert whole(proxy, at, len(data)) == data
    wait_until(lambda: cached.count_arrived() == 0)
    # What a connection had sent when another one was faster is lost.
    assert cached.shelf.sent < 1.5 * sum(len(data) for _, data in blobs)
    before = len(cached.upstream.asked)
    answers = together(50, lambda number: get(proxy, blobs[number % 3][0]).body)
    assert all(answers[number] == blobs[number % 3][1] for number in range(50))
    assert len(cached.upstream.asked) == before


def assert_asked_once(cached: Cached) -> None:
    """See that what had come of a blob that was held was asked for once, and the rest later."""
    first, *others = cached.starts()
    assert first == 0
    assert others
    assert min(others) >= HELD


def test_a_killed_worker(shared: Shared) -> None:
    """Those of the other worker go on, and it asks for what is missing; others come again."""
    cached, proxy = shared.cached, shared.proxy
    cached.shelf.stop_at = HELD

    def run(_: int) -> bool:
        return whole(proxy, shared.path, len(shared.data)) == shared.data

    def kill() -> bool:
        wait_until(lambda: cached.count_arrived() == HELD)
        os.kill(cached.filler(), signal.SIGKILL)
        cached.shelf.going_on.set()
        return True

    assert together(21, lambda number: run(number) if number else kill()) == [True] * 21
    assert_asked_once(cached)
    wait_until(lambda: cached.count_arrived() == 0)


def test_a_restart(cached: Cached, path: str) -> None:
    """What a dead service has left is gone on with by the next one."""
    cached.shelf.stop_at = HELD
    with cached.proxy(workers=1) as proxy, Client(proxy.host) as client:
        client.ask(path)
        client.head()
        wait_until(lambda: cached.count_arrived() == HELD)
        stop(proxy)
    cached.shelf.going_on.set()
    with cached.proxy(workers=1) as proxy:
        assert whole(proxy, path, len(DATA)) == DATA
        assert_asked_once(cached)


def test_a_service_that_stops(cached: Cached, path: str) -> None:
    """A fetch that nobody reads delays no stop for long, and is gone on with."""
    cached.shelf.stop_at = HELD
    with cached.proxy(workers=1) as proxy:
        with Client(proxy.host) as client:
            client.ask(path)
            client.head()
            wait_until(lambda: cached.count_arrived() == HELD)
        proxy.server.process.terminate()
        proxy.server.process.wait(8)
    cached.shelf.going_on.set()
    with cached.proxy(workers=1) as proxy:
        assert whole(proxy, path, len(DATA)) == DATA
    assert_asked_once(cached)


def test_what_is_wrong_reaches_nobody(shared: Shared) -> None:
    """Of twenty who read, none has an answer that looks complete; the next fetch begins anew."""
    cached, proxy, wrong = shared.cached, shared.proxy, "1" * 64
    path = path_of(f"sha256:{wrong}")
    cached.shelf.blobs[f"sha256:{wrong}"] = shared.data
    answers = together(20, lambda _: get(proxy, path).complete)
    assert answers == [False] * 20
    wait_until(lambda: cached.count_arrived() == 0)
    assert list(cached.cache.glob(f"content/**/{wrong}")) == []
    assert not get(proxy, path).complete


def test_a_leader_that_leaves(shared: Shared) -> None:
    """What it began goes on for the others, and for later."""
    cached, proxy = shared.cached, shared.proxy
    cached.shelf.stop_at = HELD
    with Client(proxy.host) as leader:
        leader.ask(shared.path)
        leader.head()
        wait_until(lambda: cached.count_arrived() == HELD)
        with Client(proxy.host) as other:
            other.ask(shared.path)
            other.head()
            leader.reset()
            cached.shelf.going_on.set()
            assert other.exactly(len(shared.data)) == shared.data
    first, *others = cached.starts()
    assert first == 0
    assert all(start >= HELD for start in others)


def test_a_slow_reader_slows_nobody(shared: Shared) -> None:
    """Who reads nothing at first gets all in the end."""
    with Client(shared.proxy.host, receive_buffer=4096) as slow:
        slow.ask(shared.path)
        slow.head()
        assert get(shared.proxy, shared.path).body == shared.data
        wait_until(lambda: shared.cached.count_arrived() == 0)
        assert slow.exactly(len(shared.data)) == shared.data
    assert shared.cached.shelf.sent < 1.5 * len(shared.data)


def test_a_fetch_without_readers_ends(cached: Cached, path: str) -> None:
    """Within what it may still take; its file stays."""
    cached.shelf.stop_at = HELD
    with cached.proxy(workers=1, DOCXY_CACHE_UNREAD_LIMIT="1MB") as proxy:
        with Client(proxy.host) as client:
            client.ask(path)
            client.head()
            wait_until(lambda: cached.count_arrived() == HELD)
        wait_until(lambda: "incomplete=True" in proxy.log)
        cached.shelf.going_on.set()
        wait_until(lambda: not users(cached.cache), what="the end of the fetch")
        assert HELD < cached.count_arrived() < HELD + 2 * MB
        assert whole(proxy, path, len(DATA)) == DATA
        assert_asked_once(cached)


def is_deleted(directory: Path) -> bool:
    """Delete a directory, and tell whether nothing has been made in it meanwhile."""
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def test_the_directory_is_deleted(cached: Cached, path: str) -> None:
    """Whoever reads gets all; later pulls go on, and are kept again."""
    cached.shelf.stop_at = HELD
    with cached.proxy() as proxy:
        proxy.await_workers()  # one that starts meanwhile would make it anew
        with Client(proxy.host) as client:
            client.ask(path)
            client.head()
            wait_until(lambda: cached.count_arrived() == HELD)
            wait_until(lambda: is_deleted(cached.cache), what="the end of the directory")
            cached.shelf.going_on.set()
            assert client.exactly(len(DATA)) == DATA
        for _ in range(3):
            assert get(proxy, path).body == DATA


def test_what_is_kept_is_cut(shared: Shared) -> None:
    """While the kernel sends it: that transfer breaks, in one line, and the next one is whole."""
    cached, proxy, data = shared.cached, shared.proxy, shared.data
    assert whole(proxy, shared.path, len(data)) == data
    wait_until(lambda: cached.count_arrived() == 0)
    (kept,) = cached.cache.glob(f"content/**/{shared.path.rpartition(':')[2]}")
    with Client(proxy.host, receive_buffer=4096) as client:
        client.ask(shared.path)
        client.head()
        begun = client.exactly(1000)
        os.truncate(kept, len(data) // 2)
        with suppress(ConnectionError):
            begun += client.rest()
    assert begun == data[: len(begun)]
    assert len(begun) <= len(data) // 2
    wait_until(lambda: "the file is shorter" in shared.log)
    assert get(proxy, shared.path).body == data
    assert cached.gets().count("") == 2
    assert "Traceback" not in shared.log


def fill_up(disk: Path) -> Path:
    """Leave no room on a disk, and return what takes it."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def test_a_full_disk(cached: Cached, tmp_path: Path) -> None:
    """A blob that has room when it begins, and none in the middle, reaches everybody."""
    with mounted(tmp_path / "disk", 20 * MB) as disk:
        cached.cache = disk / "cache"
        path = cached.shelf.put(DATA)
        cached.shelf.stop_at = HELD
        with cached.proxy() as proxy:

            def run(_: int) -> bool:
                return whole(proxy, path, len(DATA)) == DATA

            def fill() -> bool:
                wait_until(lambda: cached.count_arrived() == HELD)
                fill_up(disk)
                cached.shelf.going_on.set()
                return True

            assert together(11, lambda number: run(number) if number else fill()) == [True] * 11
            assert whole(proxy, path, len(DATA)) == DATA
            assert "without the cache" in proxy.log


def health(proxy: Docxy, query: str = "") -> tuple[int, dict[str, str]]:
    """Return what a monitor is answered."""
    with Client(proxy.host) as client:
        answer = client.get(f"/health{query}", "Connection: close")
    said: dict[str, str] = json.loads(answer.body)
    return answer.status, said


def series(proxy: Docxy, name: str) -> float:
    """Return the value of one series."""
    with Client(proxy.host) as client:
        text = client.get("/metrics", "Connection: close").body.decode()
    values = [line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(values[0]) if values else 0.0


def test_a_cache_that_keeps_nothing(cached: Cached, tmp_path: Path) -> None:
    """Each worker says so to whoever asks, and why; with room again it keeps, by itself."""
    errors = 'docxy_cache_errors_total{error="no_space"}'
    with mounted(tmp_path / "disk", 20 * MB) as disk:
        cached.cache = disk / "cache"
        path = cached.shelf.put(DATA)
        with cached.proxy() as proxy:
            proxy.await_workers()
            filler = fill_up(disk)
            for worker in proxy.workers:
                with proxy.only(worker):
                    status, said = health(proxy, "?cache")
                    assert (status, said["cache_error"]) == (503, "no_space")
                    assert health(proxy)[0] == 200
                    before = series(proxy, errors)
                    assert get(proxy, path).body == DATA
                    assert series(proxy, errors) > before
                    assert series(proxy, "docxy_cache_writable") == 0
                    assert series(proxy, "docxy_cache_free_bytes") < MB
            filler.unlink()
            for worker in proxy.workers:
                with proxy.only(worker):
                    wait_until(lambda: health(proxy, "?cache")[0] == 200, what="room")
                    assert series(proxy, "docxy_cache_writable") == 1
                    assert series(proxy, "docxy_cache_free_bytes") > MB
            assert get(proxy, path).body == DATA
            wait_until(lambda: cached.count_arrived() == 0)
            asked = len(cached.gets())
            assert get(proxy, path).body == DATA
            assert len(cached.gets()) == asked
