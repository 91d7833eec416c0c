"""The fan: over how many connections a blob comes, and what is asked for on each."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.source import Unmetered
from app.transfer import connections, fan
from app.transfer.chunk_map import CHUNK, Head, write_head
from app.transfer.connections import Growth
from app.transfer.files import Paths
from app.transfer.partial_blob import PartialBlob
from app.transfer.readers import Slots
from app.transfer.shared_blob import CONNECTIONS
from app.transfer.shared_file import SharedFile, write_at
from app.transfer.transfers import CONNECTIONS_TO_HOST, Transfers
from app.transfer.writing import _MAX_PENDING
from tests.unit.transfer.parts import (
    Cache,
    Clock,
    Gate,
    Origin,
    blob_of,
    open_body,
    read_all,
    start_fetch,
    wait_for,
)

RATE = 1_000_000
BETWEEN_LOOKS = 16
"""Pieces that come between two looks of a fan at how fast they come."""


def count_fetchers(origin: Origin) -> int:
    """Return how many connections fetch the blob."""
    names = [thread.name for thread in threading.enumerate()]
    return names.count(f"blob {origin.digest}")


class Line:
    """A line whose time goes on with its bytes alone, however slow the machine is.

    Each connection brings `RATE` bytes in a second, or all of them together if the line is full.
    """

    def __init__(self, origin: Origin, *, is_full: bool = False) -> None:
        self.clock = Clock()
        self._origin = origin
        self._is_full = is_full
        self._looked = threading.Condition()
        self._pieces_left = BETWEEN_LOOKS
        origin.record_piece = self._pass_piece

    def _pass_piece(self, count: int) -> None:
        with self._looked:
            assert self._looked.wait_for(lambda: self._pieces_left > 0, 60)
            self._pieces_left -= 1
            rate = RATE if self._is_full else RATE * count_fetchers(self._origin)
            self.clock.now += count / rate

    def record_look(self) -> None:
        """Let the next pieces come."""
        with self._looked:
            self._pieces_left = BETWEEN_LOOKS
            self._looked.notify_all()


class MeasuredGrowth(Growth):
    """Growth on a line with a time of its own."""

    def __init__(self, line: Line) -> None:
        super().__init__(line.clock, lambda: 0.0)
        self._line = line

    def decide(self, received: int, count: int, most: int) -> int:
        """Decide, and let the next pieces come."""
        decided = super().decide(received, count, most)
        self._line.record_look()
        return decided

    def skip(self) -> None:
        """Let the next pieces come."""
        super().skip()
        self._line.record_look()


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[[Line], None]:
    """Return what lets fans look at a line in its own time."""

    def set_line(line: Line) -> None:
        monkeypatch.setattr(fan, "Growth", partial(MeasuredGrowth, line))
        monkeypatch.setattr(fan, "_TICK", 0.005)
        monkeypatch.setattr(fan, "_LEASE_SECONDS", 0)
        monkeypatch.setattr(connections, "_SHORTEST_STALL", 60.0)

    return set_line


LARGE = blob_of(32 << 20)


def fetch(cache: Cache, origin: Origin) -> None:
    """Fetch a whole blob for a client that begins to read when it is there."""
    transfer = cache.enter(origin)
    body = open_body(origin, transfer)
    start_fetch(origin, transfer)
    cache.wait_until_fetched(origin)
    assert read_all(body) == origin.data
    cache.wait_until_idle(origin)
    assert cache.kept == {origin.digest: origin.data}


class TestConnections:
    """A fan has as many as bring something, and as may be."""

    @pytest.mark.parametrize("most", [1, 3, CONNECTIONS])
    def test_slow_ones_get_siblings(
        self, tmp_path: Path, measure: Callable[[Line], None], most: int
    ) -> None:
        """Each brings as much as the first, so all of them stay."""
        cache, origin = Cache(tmp_path, connections=most), Origin(LARGE)
        measure(Line(origin))
        fetch(cache, origin)
        assert origin.open_most == most
        assert origin.sent == len(LARGE)
        assert len(origin.asked) <= 2 * fan.RANGES

    def test_a_full_line_gets_no_more(
        self, tmp_path: Path, measure: Callable[[Line], None]
    ) -> None:
        """The second brings nothing, and ends."""
        cache, origin = Cache(tmp_path), Origin(LARGE)
        measure(Line(origin, is_full=True))
        fetch(cache, origin)
        assert origin.open_most == 2
        assert origin.sent == len(LARGE)

    def test_a_reader_who_waits_gets_no_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bytes that it waits for are on the way, in whichever process."""
        looks, wait = list[int](), PartialBlob.wait

        def look(blob: PartialBlob, offset: int, limit: int, seconds: float) -> int:
            looks.append(offset)
            return wait(blob, offset, limit, seconds)

        monkeypatch.setattr(PartialBlob, "wait", look)
        cache, origin = Cache(tmp_path), Origin(LARGE, gate=Gate(0))
        bodies = [one.open(origin) for one in (cache, Cache(tmp_path, cache))]
        with ThreadPoolExecutor() as threads:
            readers = [threads.submit(read_all, bodies[0])]
            wait_for(lambda: origin.open_now == 1)
            readers.append(threads.submit(read_all, bodies[1]))
            looks.clear()
            wait_for(lambda: len(looks) >= 8)
            assert len(origin.asked) == 1
            origin.gate.let()
            assert [reader.result(60) for reader in readers] == [LARGE] * 2
        assert origin.sent == len(LARGE)

    @pytest.mark.parametrize("free", [0, 3])
    def test_a_host_gets_no_more_than_its_slots(
        self, tmp_path: Path, measure: Callable[[Line], None], free: int
    ) -> None:
        """The first connection needs none."""
        cache, origin = Cache(tmp_path), Origin(LARGE)
        path = cache.folder.parent.parent / "connections"
        cache.folder.mkdir(parents=True)
        slots = Slots(path, for_one=CONNECTIONS_TO_HOST, for_all=1024)
        taken = [slots.try_acquire(cache.folder.name) for _ in range(CONNECTIONS_TO_HOST - free)]
        assert None not in taken
        measure(Line(origin))
        fetch(cache, origin)
        assert origin.open_most == 1 + free
        taken += [slots.try_acquire(cache.folder.name) for _ in range(free)]
        for slot in taken:
            assert slot is not None  # the fan has given its own back
            slot.close()

    def test_one_that_gets_no_slot_takes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first connection goes on, however long the other one waits for a slot."""
        cache, origin = Cache(tmp_path), Origin(LARGE, gate=Gate(1))
        asked = threading.Event()

        def take_none(_: Transfers) -> None:
            asked.set()
            wait_for(lambda: not origin.open_now)

        class Doubling(Growth):
            def decide(self, received: int, count: int, most: int) -> int:
                return min(2 * count, most) if received else count

        monkeypatch.setattr(Transfers, "take_connection", take_none)
        monkeypatch.setattr(fan, "Growth", Doubling)
        monkeypatch.setattr(fan, "_TICK", 0.005)
        transfer = cache.enter(origin)
        start_fetch(origin, transfer)
        assert asked.wait(60)
        transfer.close()
        origin.gate.let()
        cache.wait_until_idle(origin)
        assert cache.kept == {origin.digest: LARGE}
        assert origin.open_most == 1

    @pytest.mark.parametrize("fault", ["429", "503"])
    def test_they_are_taken_back(
        self, tmp_path: Path, measure: Callable[[Line], None], fault: str
    ) -> None:
        """Where no more than two are allowed, nobody asks for more again and again."""
        cache, origin = Cache(tmp_path), Origin(LARGE)
        refused = list[int]()

        def refuse(number: int) -> str:
            if origin.open_now < 2:
                return ""
            refused.append(number)
            return fault

        origin.fault = refuse
        measure(Line(origin))
        fetch(cache, origin)
        assert origin.open_most == 2
        assert 1 <= len(refused) <= 6
        assert origin.sent == len(LARGE)

    def test_ranges_that_are_ignored(self, tmp_path: Path, measure: Callable[[Line], None]) -> None:
        """All comes in one stream then."""
        cache, origin = Cache(tmp_path), Origin(LARGE, knows_ranges=False)
        measure(Line(origin))
        fetch(cache, origin)
        assert origin.sent == len(LARGE)
        assert len(origin.asked) <= 2

    def test_a_blob_that_must_come_in_one_stream(
        self, tmp_path: Path, measure: Callable[[Line], None]
    ) -> None:
        """Its head says so."""
        cache, origin = Cache(tmp_path), Origin(LARGE)
        paths = Paths.for_digest(cache.folder, origin.digest)
        cache.folder.mkdir(parents=True)
        map_file = SharedFile.open(paths.map, os.O_RDWR | os.O_CREAT)
        write_head(map_file, Head(single=True))
        map_file.close()
        measure(Line(origin))
        fetch(cache, origin)
        assert origin.open_most == 1


class TestWhatIsAskedFor:
    """What readers need comes first, and what is far ahead of all of them waits."""

    def test_what_readers_need_comes_first(self, tmp_path: Path) -> None:
        """Though the whole is wanted too."""
        cache = Cache(tmp_path, connections=1)
        origin = Origin(blob_of(64 * CHUNK), gate=Gate(0))
        transfer = cache.enter(origin)
        start_fetch(origin, transfer)
        body = cache.open(origin, (40 * CHUNK, 42 * CHUNK))
        origin.gate.let()
        assert read_all(body) == origin.data[40 * CHUNK : 42 * CHUNK]
        transfer.close()
        cache.wait_until_idle(origin)
        starts = [start for start, _ in origin.asked]
        assert starts[:2] == [0, 40 * CHUNK]
        assert cache.kept

    def test_what_is_far_ahead_waits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reader who takes its time gets all in the end."""
        monkeypatch.setattr(fan, "AHEAD", 4 * CHUNK)
        monkeypatch.setattr("app.transfer.shared_blob.FIRST_LEASE", 2 * CHUNK)
        cache, origin = Cache(tmp_path), Origin(blob_of(100 * CHUNK))
        body = cache.open(origin, (0, 90 * CHUNK))
        stream = iter(body)
        got = bytearray(next(stream))
        cache.wait_until_fetched(origin)
        assert 2 * CHUNK <= origin.sent <= (4 + 2 + CONNECTIONS) * CHUNK
        for piece in stream:
            got += piece
        assert got == origin.data[: 90 * CHUNK]
        body.close()


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow disk with a slow reader, the line waits."""
    monkeypatch.setattr("app.transfer.shared_blob.FIRST_LEASE", 8 << 20)
    cache = Cache(tmp_path, connections=1)
    origin = Origin(blob_of(8 << 20))
    transfer = cache.enter(origin)
    ahead = list[int]()

    def measure() -> int:
        return origin.sent - transfer.blob.count_arrived()

    def write_late(file: SharedFile, data: Any, offset: int) -> None:
        # As slow as can be: nothing is written before all that may gather has gathered.
        wait_for(lambda: measure() > _MAX_PENDING or origin.sent == len(origin.data))
        write_at(file, data, offset)

    monkeypatch.setattr("app.transfer.lease.write_at", write_late)
    origin.record_piece = lambda count: ahead.append(measure() + count)
    body = open_body(origin, transfer)
    stream = iter(body)
    got = bytearray(next(stream))
    wait_for(lambda: origin.sent == len(origin.data))
    assert _MAX_PENDING < max(ahead) <= 2 * _MAX_PENDING + origin.piece
    for piece in stream:
        got += piece
    assert got == origin.data
    body.close()


class Settling(Unmetered):
    """A payer whose account is settled late."""

    def __init__(self) -> None:
        super().__init__(lambda: "alice")
        self.begun, self.may_end = threading.Event(), threading.Event()

    def settle(self) -> None:
        """Wait."""
        self.begun.set()
        assert self.may_end.wait(60)


def test_the_end_of_one_fan_is_not_that_of_the_next(tmp_path: Path) -> None:
    """A fan that ends late takes nothing from the one that goes on."""
    alice = Settling()
    cache = Cache(tmp_path, connections=1)
    broken = Origin(blob_of(12 << 20), payer=alice, fault=lambda _: "cut")
    origin = Origin(broken.data, gate=Gate(0))
    transfer = cache.enter(broken)
    start_fetch(broken, transfer)
    assert alice.begun.wait(60)
    start_fetch(origin, transfer)
    wait_for(lambda: origin.open_now == 1)
    alice.may_end.set()
    wait_for(lambda: count_fetchers(origin) == 1)
    start_fetch(origin, transfer, [(10 << 20, 12 << 20)])
    origin.gate.let()
    assert read_all(open_body(origin, transfer)) == origin.data
    assert origin.open_most == 1
