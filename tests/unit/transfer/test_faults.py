"""Downloads under faults: each is whole, or breaks visibly; none is wrong."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from app.oci.errors import RegistryError
from app.source import BodyBroken
from app.transfer import connections, fan
from app.transfer.chunk_map import CHUNK
from app.transfer.lease import Span
from app.transfer.reading import BlobBody
from tests.unit.transfer.parts import Cache, Origin, blob_of, open_body

HARMLESS = ("cut", "429", "503", "whole", "stall", "short", "long", "refused", "401")
"""What costs no byte more than it breaks off."""
WRONG = ("elsewhere", "another size")
READERS = 6
ROUNDS = 20


class Downloads:
    """Clients of two processes, each with a part of a blob of its own."""

    def __init__(self, directory: Path, seed: int, faults: tuple[str, ...]) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - no secret
        size = self.dice.randrange(1, 8 << 20)
        happens = [self.dice.choice(("", "", "", *faults)) for _ in range(400)]
        self.origin = Origin(
            blob_of(size, seed), fault=lambda number: happens[number % 400], stall_seconds=0.2
        )
        self.caches = [Cache(directory)]
        self.caches.append(Cache(directory, self.caches[0]))
        self.spans = [(0, size) if number % 2 else self._choose() for number in range(READERS)]
        self.ends = [False] * READERS

    def _choose(self) -> Span:
        start = self.dice.randrange(len(self.origin.data))
        return start, self.dice.randrange(start, len(self.origin.data)) + 1

    def run(self) -> None:
        """Let all of them read, and those that broke off again, until all have got all."""
        for _ in range(ROUNDS):
            numbers = [number for number in range(READERS) if not self.ends[number]]
            with ThreadPoolExecutor(READERS) as threads:
                list(threads.map(self._download, numbers))

    def check_end(self) -> None:
        """See that nothing is open any more, and that nothing wrong is kept."""
        for cache in self.caches:
            cache.wait_until_idle(self.origin)
        assert self.origin.open_now == 0
        assert list(self.caches[0].kept.values()) in ([], [self.origin.data])

    def _download(self, number: int) -> None:
        with suppress(BodyBroken, RegistryError):
            got = self.caches[number // 2 % 2].read(self.origin, self.spans[number])
            self.check(self.spans[number], got)
            self.ends[number] = True

    def check(self, span: Span, got: bytes) -> None:
        """Compare what a client got that believes it has all."""
        assert got == self.origin.data[slice(*span)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stalls be noticed while these small blobs come."""
    monkeypatch.setattr(connections, "_SHORTEST_STALL", 0.05)
    monkeypatch.setattr(fan, "_TICK", 0.01)


@pytest.mark.parametrize("seed", range(40))
def test_faults(tmp_path: Path, seed: int) -> None:
    """All are whole in the end, and little is fetched twice."""
    downloads = Downloads(tmp_path, seed, HARMLESS)
    downloads.run()
    downloads.check_end()
    assert all(downloads.ends)
    sent = downloads.origin.sent - downloads.origin.repeated
    assert sent <= 1.1 * len(downloads.origin.data) + CHUNK


@pytest.mark.parametrize("seed", range(20))
def test_answers_that_do_not_fit(tmp_path: Path, seed: int) -> None:
    """A 206 for other bytes, or of a blob of another size, is not appended."""
    downloads = Downloads(tmp_path, seed, WRONG)
    downloads.run()
    downloads.check_end()
    assert all(downloads.ends)
    assert downloads.origin.sent <= 1.1 * len(downloads.origin.data) + CHUNK


class CorruptDownloads(Downloads):
    """Clients whose registry sends wrong bytes now and then."""

    def check(self, span: Span, got: bytes) -> None:
        """Compare what has the last byte; what has not is given as the registry sent it."""
        if span[1] == len(self.origin.data):
            super().check(span, got)
        assert len(got) == span[1] - span[0]


@pytest.mark.parametrize("only_verified", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_corrupt_chunks(tmp_path: Path, seed: int, *, only_verified: bool) -> None:
    """Nobody gets the last byte of a wrong blob, and it is not kept."""
    build = Downloads if only_verified else CorruptDownloads
    downloads = build(tmp_path, seed, ("corrupt", "cut"))
    downloads.origin.only_verified = only_verified
    downloads.run()
    downloads.check_end()


@pytest.mark.parametrize("seed", range(15))
def test_a_process_that_dies(tmp_path: Path, seed: int) -> None:
    """Its locks go with its files; others go on with what it has written."""
    downloads = Downloads(tmp_path, seed, ("cut", "429"))
    origin, victim = downloads.origin, Cache(tmp_path, downloads.caches[0])
    transfer = victim.enter(origin)
    dies_at = downloads.dice.randrange(len(origin.data))
    dead = threading.Event()

    def die(_: int) -> None:
        if origin.sent >= dies_at and not dead.is_set():
            dead.set()
            transfer.blob.close()

    origin.record_piece = die
    body = open_body(origin, transfer)
    reader = threading.Thread(target=lambda: _read_until_broken(downloads, body))
    reader.start()
    downloads.run()
    reader.join(60)
    assert not reader.is_alive()
    body.close()
    downloads.check_end()
    assert all(downloads.ends)


def _read_until_broken(downloads: Downloads, body: BlobBody) -> None:
    got = bytearray()
    with suppress(BodyBroken):
        for piece in body:
            got += piece
    assert downloads.origin.data[: len(got)] == got
