"""Blobs that many read while one worker fetches them, with real workers."""

import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.disks import mounted
from tests.servers import wait_until
from tests.unit.spools.parts import blob_of
from tests.wire.client import Client
from tests.wire.shelf import Cached, Shelf, get, path_of, stop, together, whole
from tests.wire.upstream import Upstream

MB = 1_000_000
DATA = blob_of(6 * MB)


@pytest.fixture
def cached(tmp_path: Path, home: Path) -> Iterator[Cached]:
    """Return a registry of blobs and a place for a cache."""
    shelf = Shelf()
    with Upstream() as upstream:
        upstream.play(shelf.script)
        yield Cached(upstream, shelf, tmp_path / "cache", home)
        shelf.going_on.set()
    upstream.check()


@pytest.fixture
def path(cached: Cached) -> str:
    """Return the path of a blob of 6 MB."""
    return cached.shelf.put(DATA)


def test_fifty_clients_cost_one_download(cached: Cached, path: str) -> None:
    """Whatever range each of them wants, however slow it is, and whoever leaves."""
    others = [blob_of(3 * MB + seed, seed) for seed in (2, 3)]
    blobs = [(path, DATA), *((cached.shelf.put(data), data) for data in others)]

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

    with cached.proxy() as proxy:
        assert [one for one in together(50, run) if one != ""] == []
        assert cached.gets() == [""] * len({asked.target for asked in cached.upstream.asked})
        for at, data in blobs:
            assert whole(proxy, at, len(data)) == data
        wait_until(lambda: cached.spooled() == 0)
        before = len(cached.upstream.asked)
        answers = together(50, lambda number: get(proxy, blobs[number % 3][0]).body)
        assert all(answers[number] == blobs[number % 3][1] for number in range(50))
        assert len(cached.upstream.asked) == before


def test_a_killed_worker(cached: Cached, path: str) -> None:
    """Those of the other worker go on, and it asks for what is lacking; others come again."""
    cached.shelf.stop_at = 2 * MB
    with cached.proxy() as proxy:

        def run(_: int) -> bool:
            return whole(proxy, path, len(DATA)) == DATA

        def kill() -> bool:
            pid = cached.filler()
            wait_until(lambda: cached.spooled() > MB)
            os.kill(pid, signal.SIGKILL)
            cached.shelf.stop_at = None
            return True

        assert together(21, lambda number: run(number) if number else kill()) == [True] * 21
        first, second = cached.gets()
        assert first == ""
        assert MB < int(second.removeprefix("bytes=").removesuffix("-")) <= 2 * MB + 65536
        wait_until(lambda: cached.spooled() == 0)


def test_a_restart(cached: Cached, path: str) -> None:
    """What a dead service has left is gone on with by the next one."""
    cached.shelf.stop_at = 2 * MB
    with cached.proxy() as proxy, Client(proxy.host) as client:
        client.ask(path)
        client.head()
        wait_until(lambda: cached.spooled() > MB)
        stop(proxy)
    left = cached.spooled()
    cached.shelf.stop_at = None
    with cached.proxy() as proxy:
        assert whole(proxy, path, len(DATA)) == DATA
        assert cached.gets() == ["", f"bytes={left}-"]


def test_a_service_that_stops(cached: Cached, path: str) -> None:
    """A fetch that nobody reads delays no stop for long, and is gone on with."""
    cached.shelf.stop_at = 2 * MB
    with cached.proxy() as proxy:
        with Client(proxy.host) as client:
            client.ask(path)
            client.head()
            wait_until(lambda: cached.spooled() > MB)
        proxy.server.process.terminate()
        proxy.server.process.wait(8)
    cached.shelf.stop_at = None
    with cached.proxy() as proxy:
        assert whole(proxy, path, len(DATA)) == DATA
    assert cached.gets()[1].startswith("bytes=")


def test_what_is_wrong_reaches_nobody(cached: Cached) -> None:
    """Of twenty who read, none has an answer that looks complete; the next fetch begins anew."""
    digest = "sha256:" + "1" * 64
    cached.shelf.blobs[digest] = DATA
    with cached.proxy() as proxy:
        answers = together(20, lambda _: get(proxy, path_of(digest)).complete)
        assert answers == [False] * 20
        wait_until(lambda: cached.spooled() == 0)
        assert list(cached.cache.glob("content/**/1*")) == []
        assert not get(proxy, path_of(digest)).complete


def test_a_leader_that_leaves(cached: Cached, path: str) -> None:
    """What it began goes on for the others, and for later."""
    cached.shelf.stop_at = 2 * MB
    with cached.proxy() as proxy:
        with Client(proxy.host) as leader:
            leader.ask(path)
            leader.head()
            cached.filler()
            with Client(proxy.host) as other:
                other.ask(path)
                other.head()
                leader.reset()
                cached.shelf.going_on.set()
                assert other.exactly(len(DATA)) == DATA
        assert cached.gets() == [""]


def test_a_slow_reader_slows_nobody(cached: Cached, path: str) -> None:
    """Who reads nothing at first gets all in the end."""
    with cached.proxy() as proxy, Client(proxy.host, receive_buffer=4096) as slow:
        slow.ask(path)
        slow.head()
        assert get(proxy, path).body == DATA
        wait_until(lambda: cached.spooled() == 0)
        assert slow.exactly(len(DATA)) == DATA
        assert cached.gets() == [""]


def test_a_fetch_without_readers_ends(cached: Cached, path: str) -> None:
    """Within what it may still take; its file stays."""
    cached.shelf.stop_at = MB
    with cached.proxy(DOCXY_CACHE_UNREAD_LIMIT="1000000") as proxy:
        with Client(proxy.host) as client:
            client.ask(path)
            client.head()
            cached.filler()
            wait_until(lambda: cached.spooled() > MB // 2)
        wait_until(lambda: "incomplete=True" in proxy.log)
        cached.shelf.going_on.set()
        assert cached.upstream.connection().left.wait(20)
        wait_until(lambda: MB <= cached.spooled() <= 3 * MB)
        assert whole(proxy, path, len(DATA)) == DATA
        assert cached.gets()[1].startswith("bytes=")


def test_the_directory_is_deleted(cached: Cached, path: str) -> None:
    """Whoever reads gets all; later pulls go on, and are kept again."""
    cached.shelf.stop_at = 2 * MB
    with cached.proxy() as proxy:
        with Client(proxy.host) as client:
            client.ask(path)
            client.head()
            wait_until(lambda: cached.spooled() > MB)
            shutil.rmtree(cached.cache)
            cached.shelf.going_on.set()
            assert client.exactly(len(DATA)) == DATA
        for _ in range(3):
            assert get(proxy, path).body == DATA


def test_what_is_kept_is_cut(cached: Cached, path: str) -> None:
    """While the kernel sends it: that transfer breaks, in one line, and the next one is whole."""
    with cached.proxy() as proxy:
        assert whole(proxy, path, len(DATA)) == DATA
        wait_until(lambda: cached.spooled() == 0)
        (kept,) = (one for one in cached.cache.glob("content/**/*") if one.is_file())
        with Client(proxy.host, receive_buffer=4096) as client:
            client.ask(path)
            client.head()
            begun = client.exactly(1000)
            os.truncate(kept, len(DATA) // 2)
            with suppress(ConnectionError):
                begun += client.rest()
        assert begun == DATA[: len(begun)]
        assert len(begun) <= len(DATA) // 2
        wait_until(lambda: "the file is shorter" in proxy.log)
        assert get(proxy, path).body == DATA
        assert cached.gets() == ["", ""]
        assert "Traceback" not in proxy.log


def test_a_full_disk(cached: Cached, tmp_path: Path) -> None:
    """A blob that has room when it begins, and none in the middle, reaches everybody."""
    with mounted(tmp_path / "disk", 20 * MB) as disk:
        cached.cache = disk / "cache"
        path = cached.shelf.put(DATA)
        cached.shelf.stop_at = 2 * MB
        with cached.proxy() as proxy:

            def run(_: int) -> bool:
                return whole(proxy, path, len(DATA)) == DATA

            def fill() -> bool:
                wait_until(lambda: cached.spooled() > MB)
                with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
                    while True:
                        file.write(b"x" * 4096)
                cached.shelf.going_on.set()
                return True

            assert together(11, lambda number: run(number) if number else fill()) == [True] * 11
            assert whole(proxy, path, len(DATA)) == DATA
            assert "without the cache" in proxy.log
