"""Parts of blobs that clients ask for before anybody has the whole, with real workers."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.transfer.chunk_map import CHUNK
from tests.servers import Docxy, wait_until
from tests.unit.transfer.parts import blob_of
from tests.wire.client import Client
from tests.wire.shelf import (
    PIECE,
    Cached,
    fillers,
    get,
    path_of,
    shelved,
    together,
    users,
    whole,
)
from tests.wire.upstream import Asked, Upstream

DATA = blob_of(33 * CHUNK - 5)
HELD = 32 * PIECE
"""Bytes that come of a blob that is held: some whole chunks, and no more of any."""

PARTS = 8
OWNER = "Authorization: Basic b3duZXI6c2VjcmV0"


@pytest.fixture
def cached(tmp_path: Path, home: Path) -> Iterator[Cached]:
    with shelved(tmp_path / "cache", home) as cached:
        yield cached
    cached.upstream.check()


@pytest.fixture
def path(cached: Cached) -> str:
    """Return the path of a blob."""
    return cached.shelf.put(DATA)


@pytest.fixture
def cdn(cached: Cached) -> Iterator[Upstream]:
    """Let the registry redirect to a CDN."""
    with Upstream() as cdn:
        cdn.play(cached.shelf.script)
        cached.shelf.elsewhere = cdn.url
        yield cdn
        cached.shelf.going_on.set()
    cdn.check()


@contextmanager
def at(proxy: Docxy, worker: int) -> Iterator[Client]:
    """Connect to one worker."""
    with proxy.only(worker):
        client = Client(proxy.host)
        client.ask("/health")
        assert client.answer().status == 200
    with client:
        yield client


def part_of(number: int) -> tuple[int, int]:
    """Return one of the parts in which a client pulls, as containerd 2 and aria2c do."""
    return len(DATA) * number // PARTS, len(DATA) * (number + 1) // PARTS


def pull_part(client: Client, path: str, number: int) -> bool:
    """Ask for one of the parts, and tell whether it is right."""
    start, end = part_of(number)
    answer = client.get(path, f"Range: bytes={start}-{end - 1}")
    return answer.status == 206 and answer.complete and answer.body == DATA[start:end]


@pytest.mark.parametrize("workers", [1, 2])
def test_parallel_ranges(cached: Cached, cdn: Upstream, path: str, workers: int) -> None:
    """They cost one download, and each worker asks the registry once; the whole is kept.

    The client has read something else of the repository before, as one that pulls has.
    """
    config = cached.shelf.put(b"{}")
    with cached.proxy(workers) as proxy:
        proxy.await_workers(workers)
        assert get(proxy, config).body == b"{}"
        wait_until(lambda: not users(cached.cache), what="the end of the first fetch")
        begun = len(cached.gets())

        def pull(number: int) -> bool:
            with Client(proxy.host) as client:
                return pull_part(client, path, number)

        assert together(PARTS, pull) == [True] * PARTS
        # An answer that ends early has some bytes more on its way: buffers of 1 MiB, here.
        assert cached.shelf.sent <= 1.3 * len(DATA)
        assert len(cached.gets()) - begun <= workers
        assert {asked.method for asked in cdn.asked} == {"GET"}
        wait_until(lambda: not users(cached.cache), what="the end of the fetch")
        asked = len(cached.upstream.asked)
        assert get(proxy, path).body == DATA
        assert len(cached.upstream.asked) == asked
    assert cached.shelf.sent <= 1.3 * len(DATA)


def test_a_range_costs_its_chunks(cached: Cached, path: str) -> None:
    """Once: then it is there, for every worker; the rest comes with whoever wants it."""
    start, end = 12 * CHUNK + 5, 13 * CHUNK + 6
    with cached.proxy() as proxy:
        proxy.await_workers()
        for worker in (proxy.workers[0], *proxy.workers):
            with at(proxy, worker) as client:
                answer = client.get(path, f"Range: bytes={start}-{end - 1}")
            assert answer.body == DATA[start:end]
        assert cached.gets() == [f"bytes={12 * CHUNK}-{14 * CHUNK - 1}"]
        assert cached.shelf.sent == 2 * CHUNK
        assert [asked.method for asked in cached.upstream.asked] == ["GET"]
        assert whole(proxy, path, len(DATA)) == DATA
    assert cached.shelf.sent < 1.5 * len(DATA)


def test_the_end_of_a_blob(cached: Cached, path: str) -> None:
    """Who wants no more of it waits for no more, as those who read the index of a layer."""
    with cached.proxy() as proxy:
        assert get(proxy, path, "Range: bytes=-10").body == DATA[-10:]
        assert get(proxy, path, f"Range: bytes={len(DATA) - 10}-").body == DATA[-10:]
        assert cached.count_arrived() < len(DATA)


def test_two_workers_share_one_fan(cached: Cached, path: str) -> None:
    """Each fetches what its clients want and the other does not fetch."""
    cached.shelf.pause = 0.01
    ahead = 20 * CHUNK
    with cached.proxy() as proxy:
        proxy.await_workers()
        first, second = proxy.workers
        with at(proxy, first) as one, at(proxy, second) as other:
            one.ask(path)
            one.head()
            other.ask(path, f"Range: bytes={ahead}-")
            other.head()
            wait_until(lambda: {first, second} <= set(fillers(cached.cache)), what="both to fetch")
            assert other.exactly(len(DATA) - ahead) == DATA[ahead:]
            assert one.exactly(len(DATA)) == DATA
    # What a connection had sent when another one was faster is lost.
    assert cached.shelf.sent < 1.2 * len(DATA)


def test_parallel_ranges_and_a_killed_worker(cached: Cached, cdn: Upstream, path: str) -> None:
    """Only what had not arrived is fetched again."""
    with cached.proxy() as proxy:
        proxy.await_workers()
        cached.shelf.stop_at = HELD

        def pull(number: int) -> bool:
            start, end = part_of(number)
            got = b""
            for _ in range(10):
                with Client(proxy.host) as client:
                    client.ask(path, f"Range: bytes={start + len(got)}-{end - 1}")
                    try:
                        client.head()
                    except ConnectionError:
                        continue
                    got += client.exactly(end - start - len(got))
                if len(got) == end - start:
                    break
            return got == DATA[start:end]

        def kill() -> bool:
            wait_until(lambda: cached.count_arrived() >= HELD)
            before.extend(first_byte(asked) for asked in cdn.asked)
            os.kill(cached.filler(), signal.SIGKILL)
            cached.shelf.going_on.set()
            return True

        before: list[int] = []

        results = together(PARTS + 1, lambda number: pull(number) if number < PARTS else kill())
        assert results == [True] * (PARTS + 1)
        later = [first_byte(asked) for asked in cdn.asked][len(before) :]
        assert later
        assert min(later) >= HELD


def first_byte(asked: Asked) -> int:
    """Return the first byte that a request asked for."""
    return int(asked.value("Range").removeprefix("bytes=").partition("-")[0] or 0)


@dataclass
class Private:
    """A blob that only its owner may read."""

    cached: Cached
    path: str

    def is_refused(self, client: Client, *fields: str) -> bool:
        """Tell whether a client is refused by the registry, and gets no byte of the blob."""
        asked = len(self.cached.upstream.asked)
        answer = client.get(self.path, *fields)
        assert len(self.cached.upstream.asked) > asked
        return answer.status == 403 and b'"errors"' in answer.body and DATA[:64] not in answer.body


def test_a_private_blob(cached: Cached, path: str) -> None:
    """Whoever has no right to it is refused by the registry, however much of it is there."""
    cached.shelf.reader = OWNER.partition(": ")[2]
    cached.shelf.stop_at = len(DATA) // CHUNK * CHUNK
    private = Private(cached, path)
    with cached.proxy() as proxy:
        proxy.await_workers()

        def strangers_are_refused() -> None:
            for worker in proxy.workers:
                for shown in ([], ["Authorization: Basic c3RyYW5nZXI6eA=="]):
                    for wanted in ([], ["Range: bytes=0-63"], ["Range: bytes=-63"]):
                        with at(proxy, worker) as client:
                            assert private.is_refused(client, *shown, *wanted)

        with Client(proxy.host) as owner:
            owner.ask(path, OWNER)
            owner.head()
            wait_until(lambda: cached.count_arrived() == cached.shelf.stop_at)
            strangers_are_refused()
            cached.shelf.going_on.set()
            assert owner.exactly(len(DATA)) == DATA
        wait_until(lambda: not users(cached.cache), what="the end of the fetch")
        strangers_are_refused()


def test_only_what_is_verified(cached: Cached, path: str) -> None:
    """With DOCXY_VERIFY_BLOBS, a range waits for the whole; no byte is sent of what is wrong."""
    wrong = f"sha256:{'1' * 64}"
    cached.shelf.blobs[wrong] = DATA
    with cached.proxy(DOCXY_VERIFY_BLOBS="true") as proxy:
        for wanted in ("0-9", f"{20 * CHUNK}-{20 * CHUNK + 9}", "-10"):
            answer = get(proxy, path_of(wrong), f"Range: bytes={wanted}")
            assert (answer.complete, answer.body) == (False, b"")
        assert get(proxy, path, "Range: bytes=100-199").body == DATA[100:200]
        wait_until(lambda: cached.count_arrived() == 0, what="the whole to be kept")
        asked = len(cached.upstream.asked)
        assert get(proxy, path).body == DATA
        assert len(cached.upstream.asked) == asked
