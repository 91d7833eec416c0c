"""Transfers: many readers of one blob, and fetches that break off."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.source import BodyBroken
from app.transfer import files
from app.transfer.chunk_map import CHUNK, FetchState
from app.transfer.connections import Connection
from app.transfer.files import Claim
from app.transfer.rest import parse_rest
from app.transfer.shared_blob import FirstAnswer
from app.transfer.watch import UnreadLimits
from tests.unit.transfer.parts import (
    Cache,
    Gate,
    Origin,
    ask_for,
    blob_of,
    digest_of,
    open_body,
    read_all,
    start_fetch,
    wait_for,
)

DATA = blob_of(10_500)


def break_first(number: int) -> str:
    return "cut" if number == 1 else ""


def test_a_whole_blob(cache: Cache) -> None:
    """It arrives, is verified, and is kept; nothing stays behind."""
    origin = Origin(blob_of(3 * CHUNK + 5))
    assert cache.read(origin) == origin.data
    cache.wait_until_idle(origin)
    assert cache.kept == {digest_of(origin.data): origin.data}
    assert origin.verified == 1
    assert origin.sent == len(origin.data)
    assert origin.open_now == 0
    assert cache.list_files() == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_every_size(cache: Cache, size: int, algorithm: str) -> None:
    """Also no bytes at all, and one."""
    data = blob_of(size)
    origin = Origin(data, expected=digest_of(data, algorithm))
    assert cache.read(origin) == data
    cache.wait_until_idle(origin)
    assert cache.kept == {origin.digest: data}


def test_parts_cost_what_they_cover(cache: Cache) -> None:
    """Rounded to chunks; and they are there for the next one."""
    origin = Origin(blob_of(40 * CHUNK))
    spans = [(30 * CHUNK + 5, 31 * CHUNK + 7), (5, 10), (39 * CHUNK, 40 * CHUNK - 1)]
    for _ in range(2):
        for start, end in spans:
            assert cache.read(origin, (start, end)) == origin.data[start:end]
        cache.wait_until_idle(origin)
        assert origin.sent == 4 * CHUNK
    assert cache.read(origin) == origin.data
    cache.wait_until_idle(origin)
    assert origin.sent == len(origin.data)
    assert cache.kept


def test_ranges_at_once_are_fetched_at_once(cache: Cache) -> None:
    """As containerd and aria2c ask: each at its own place, none waits for another."""
    origin = Origin(blob_of(64 * CHUNK), gate=Gate(0))
    spans = [(at * CHUNK, (at + 8) * CHUNK) for at in range(0, 64, 8)]
    with ThreadPoolExecutor(8) as threads:
        parts = [threads.submit(cache.read, origin, span) for span in spans]
        wait_for(lambda: origin.open_now == 8)
        assert {start // (8 * CHUNK) for start, _ in origin.asked} == set(range(8))
        origin.gate.let()
        assert b"".join(part.result(60) for part in parts) == origin.data
    assert origin.sent == len(origin.data)


def test_two_processes_share_one_blob(cache: Cache, elsewhere: Cache) -> None:
    """Neither fetches what the other does."""
    origin = Origin(blob_of(12 << 20))
    bodies = [one.open(origin) for one in (cache, elsewhere)]
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(read_all, bodies)) == [origin.data, origin.data]
    cache.wait_until_idle(origin)
    assert cache.kept
    assert origin.sent == len(origin.data)


def test_a_slow_reader_delays_no_other_process(cache: Cache, elsewhere: Cache) -> None:
    """The process that completes the blob verifies it, though this one has begun to."""
    data = blob_of(6 << 20)
    near, far = Origin(data, gate=Gate(0)), Origin(data, gate=Gate(0))
    here, there = cache.enter(near), elsewhere.enter(far)
    start_fetch(near, here, [(0, 4 << 20)], whole=False)
    opened = files.open_running(here.blob.paths)
    assert opened is not None
    wait_for(lambda: opened.is_claimed(Claim.VERIFICATION))
    opened.close()
    start_fetch(far, there, [(4 << 20, 6 << 20)])
    slow = open_body(near, here)
    near.gate.let()
    next(iter(slow))
    wait_for(lambda: near.sent == 4 << 20 and not near.open_now)
    far.gate.let()
    with ThreadPoolExecutor() as threads:
        reader = threads.submit(read_all, open_body(far, there))
        try:
            assert reader.result(30) == data
        finally:
            slow.close()


def test_each_client_takes_note_once(cache: Cache) -> None:
    """However many fetches it has begun, and only if the registry has let it read the blob."""
    data = blob_of(6 * CHUNK)
    alice, bob = Origin(data), Origin(data, reader=("bob", "team/app"))
    unasked = Origin(data, reader=("carol", "team/app"), confirmed_at=0.0)
    transfer = cache.enter(alice)
    for index, origin in enumerate([alice, bob, alice, unasked, bob, alice]):
        part = (index * CHUNK, (index + 1) * CHUNK)
        start_fetch(origin, transfer, [part], whole=False)
        cache.wait_until_fetched(origin)
        assert origin.asked[-1] == part
    transfer.close()
    assert [one.verified for one in (alice, bob, unasked)] == [1, 1, 0]
    assert cache.kept == {alice.digest: data}


class TestBrokenOff:
    """A fetch that breaks off is gone on with, by whoever still reads."""

    def test_all_readers_get_all_bytes(self, cache: Cache, elsewhere: Cache) -> None:
        """The next question begins where the file ends."""
        origin = Origin(DATA, fault=break_first, cut_at=4000)
        bodies = [one.open(origin) for one in (cache, elsewhere)]
        with ThreadPoolExecutor() as threads:
            assert list(threads.map(read_all, bodies)) == [DATA, DATA]
        cache.wait_until_idle(origin)
        assert origin.asked == [(0, len(DATA)), (4000, len(DATA))]
        assert origin.sent == len(DATA)
        assert cache.kept == {origin.digest: DATA}

    def test_a_registry_without_ranges(self, cache: Cache) -> None:
        """An answer with the whole is skipped up to there."""
        origin = Origin(DATA, fault=break_first, cut_at=4000, knows_ranges=False)
        assert cache.read(origin) == DATA
        cache.wait_until_idle(origin)
        assert origin.sent == 4000 + len(DATA)
        assert cache.kept == {origin.digest: DATA}

    @pytest.mark.parametrize("fault", ["short", "long"])
    def test_another_length_than_it_said(self, cache: Cache, fault: str) -> None:
        """Too little is fetched again from there on; too much is of no use."""
        origin = Origin(DATA, fault=lambda number: fault if number == 1 else "")
        assert cache.read(origin) == DATA
        cache.wait_until_idle(origin)
        assert len(origin.asked) == (2 if fault == "short" else 1)
        assert cache.kept == {origin.digest: DATA}

    @pytest.mark.parametrize("fault", ["refused", "401", "416", "elsewhere", "another size", "cut"])
    def test_what_cannot_go_on_breaks(self, cache: Cache, fault: str) -> None:
        """The bytes stay for others."""
        origin = Origin(
            DATA, fault=lambda number: "cut" if number == 1 else fault, cut_at=4000, piece=1000
        )
        with pytest.raises(BodyBroken):
            cache.read(origin)
        cache.wait_until_idle(origin)
        assert origin.asked[0] == (0, len(DATA))
        assert set(origin.asked[1:]) == {(4000, len(DATA))}
        assert (1 if fault == "401" else 4) <= len(origin.asked[1:]) <= 12
        assert origin.asked_alone == []
        assert cache.kept == {}
        other = Origin(DATA)
        assert cache.read(other) == DATA
        assert other.asked == [(4000, len(DATA))]

    def test_not_everybody_tries_in_turn(self, cache: Cache) -> None:
        """Where the registry is away, it is asked a few times before all know."""
        origins = [Origin(DATA, fault=lambda _: "refused") for _ in range(10)]
        bodies = [cache.open(origin) for origin in origins]
        for body in bodies:
            with pytest.raises(BodyBroken, match="does not answer"):
                read_all(body)
        assert 4 <= sum(len(origin.asked) for origin in origins) <= 12
        assert not any(origin.asked_alone for origin in origins)
        assert cache.failures == []

    def test_bytes_end_a_row_of_failures(self, cache: Cache) -> None:
        """Only fetches that bring nothing count."""
        faults = {3: "cut", 6: ""}
        origin = Origin(DATA, fault=lambda number: faults.get(number, "refused"), cut_at=4000)
        assert cache.read(origin) == DATA
        assert len(origin.asked) == 6

    def test_a_new_answer_counts_more_than_failures(self, cache: Cache) -> None:
        """Whoever has one goes on, whatever others have met."""
        refused, origin = Origin(DATA, fault=lambda _: "refused"), Origin(DATA)
        staying = cache.open(refused)
        with pytest.raises(BodyBroken):
            cache.read(refused)
        transfer = cache.enter(origin)
        lease = transfer.blob.acquire_lease([(0, len(DATA))], len(DATA))
        assert lease is not None
        connection = Connection()
        reply = origin.fetch_part(0, None, connection)
        rest = parse_rest(reply, 0, len(DATA))
        assert rest is not None
        first = FirstAnswer(connection, lease, rest)
        transfer.fetch(ask_for(origin, transfer), [], whole=True, first=first)
        assert read_all(open_body(origin, transfer)) == DATA
        staying.close()

    @pytest.mark.parametrize("late", [False, True])
    def test_not_even_where_nobody_knows_why(
        self, cache: Cache, monkeypatch: pytest.MonkeyPatch, *, late: bool
    ) -> None:
        """What no fetch should raise counts like what it may."""
        raised = list[type[BaseException] | None]()
        monkeypatch.setattr(threading, "excepthook", lambda told: raised.append(told.exc_type))

        origin = Origin(DATA, fault=lambda _: "unexpected", cut_at=4000 if late else 0)
        with pytest.raises(BodyBroken):
            cache.read(origin)
        cache.wait_until_idle(origin)
        assert (5 if late else 4) <= len(origin.asked) <= 13
        wait_for(lambda: raised == [LookupError] * len(origin.asked))
        assert origin.open_now == 0
        assert cache.read(Origin(DATA)) == DATA


@pytest.mark.parametrize("state", [FetchState.GIVEN_UP, FetchState.MISMATCHED, FetchState.VERIFIED])
def test_a_fetch_that_another_process_has_ended(
    cache: Cache, elsewhere: Cache, state: FetchState
) -> None:
    """Nobody brings more bytes to a file that has gone, even if clients still read it."""
    origin = Origin(DATA, gate=Gate(0))
    transfers = [one.enter(origin) for one in (cache, elsewhere)]
    start_fetch(origin, transfers[0])
    wait_for(lambda: origin.open_now == 1)
    transfers[1].blob.discard(state)
    cache.wait_until_fetched(origin)
    assert origin.sent == origin.open_now == 0
    for transfer in transfers:
        transfer.close()
    cache.wait_until_idle(origin)
    assert cache.kept == {}


class TestUnread:
    """Some more bytes are fetched where nobody reads, and stay for whoever goes on."""

    def test_it_stops(self, tmp_path: Path) -> None:
        """After the limit."""
        cache = Cache(tmp_path, unread_limits=UnreadLimits.fixed(2000))
        origin = Origin(DATA, piece=1000, gate=Gate(0))
        transfer = cache.enter(origin)
        start_fetch(origin, transfer)
        origin.gate.let(2)
        wait_for(lambda: transfer.blob.count_arrived() == 2000)
        transfer.close()
        origin.gate.let()
        cache.wait_until_idle(origin)
        assert origin.sent == 5000
        assert origin.open_now == 0
        other = Origin(DATA)
        assert cache.read(other) == DATA
        assert other.asked == [(5000, len(DATA))]

    def test_what_is_nearly_there_is_finished(self, tmp_path: Path) -> None:
        """Where less is lacking than may be fetched unread."""
        cache = Cache(tmp_path, unread_limits=UnreadLimits.fixed(len(DATA)))
        origin = Origin(DATA, piece=1000, gate=Gate(0))
        transfer = cache.enter(origin)
        start_fetch(origin, transfer)
        transfer.close()
        origin.gate.let()
        cache.wait_until_idle(origin)
        assert cache.kept == {origin.digest: DATA}

    def test_somebody_reads_elsewhere(self, tmp_path: Path) -> None:
        """A reader in another process gets all, though this one stops."""
        here = Cache(tmp_path, unread_limits=UnreadLimits.fixed(0))
        elsewhere = Cache(tmp_path, here)
        origin = Origin(DATA, piece=1000, gate=Gate(0))
        transfer = here.enter(origin)
        start_fetch(origin, transfer)
        body = elsewhere.open(origin)
        transfer.close()
        origin.gate.let()
        assert read_all(body) == DATA
        here.wait_until_idle(origin)
        assert origin.sent == len(DATA)
        assert here.kept == {origin.digest: DATA}
