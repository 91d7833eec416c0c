"""Readers of a blob that is still arriving: what they get, when, and what breaks them off."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from app.source import BodyBroken
from app.transfer.chunk_map import CHUNK, FetchState
from app.transfer.lease import Span
from app.transfer.partial_blob import PartialBlob
from app.transfer.reading import BlobBody
from tests.unit.transfer.parts import (
    Cache,
    Origin,
    blob_of,
    digest_of,
    open_body,
    read_all,
    slow_origin,
    start_fetch,
    wait_for,
)

DATA = blob_of(10_500)


def send_all(body: BlobBody) -> bytes:
    """Return what the kernel would send, and what is read after that."""
    sent = bytearray()

    def send(descriptor: int, offset: int, count: int) -> None:
        with open(f"/proc/self/fd/{descriptor}", "rb") as file:  # noqa: PTH123 - it is a number
            file.seek(offset)
            sent.extend(file.read(count))

    try:
        while body.send_next(send):
            pass
        return bytes(sent) + b"".join(body)
    finally:
        body.close()


def test_bytes_are_read_as_they_come(cache: Cache, elsewhere: Cache) -> None:
    """By readers here and in another process, without waiting for the end."""
    origin = slow_origin(DATA)
    bodies = [cache.open(origin), elsewhere.open(origin)]
    streams = [iter(one) for one in bodies]
    for start in (0, 1000, 2000):
        origin.gate.let(1)
        assert [next(one) for one in streams] == [DATA[start : start + 1000]] * 2
    origin.gate.let()
    assert [b"".join(one) for one in streams] == [DATA[3000:]] * 2
    for body in bodies:
        body.close()


@pytest.mark.parametrize("read", [read_all, send_all])
@pytest.mark.parametrize("span", [(0, 10_500), (0, 1), (9_000, 10_500), (10_499, 10_500)])
def test_any_part(cache: Cache, span: tuple[int, int], read: type) -> None:
    """Read, or sent by the kernel."""
    origin = Origin(DATA, piece=1000)
    assert read(cache.open(origin, span)) == DATA[slice(*span)]
    cache.wait_until_idle(origin)
    assert read(cache.open(Origin(DATA))) == DATA


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the offset of each look at a map by a reader that waits."""
    offsets, wait = list[int](), PartialBlob.wait

    def look(blob: PartialBlob, offset: int, limit: int, seconds: float) -> int:
        offsets.append(offset)
        return wait(blob, offset, limit, seconds)

    monkeypatch.setattr(PartialBlob, "wait", look)
    return offsets


def test_the_last_byte_waits_for_the_digest(
    cache: Cache, elsewhere: Cache, tmp_path: Path, looks: list[int]
) -> None:
    """All others are there before, in each process; and who does not need it does not wait."""
    origin = Origin(DATA)
    verifying = Cache(tmp_path, cache).enter(origin)
    assert verifying.blob.verifier.claim()
    bodies = [cache.open(origin), elsewhere.open(origin)]
    streams = [iter(one) for one in bodies]
    for stream in streams:
        got = bytearray()
        while len(got) < len(DATA) - 1:
            got += next(stream)
        assert got == DATA[:-1]
    for one in (cache, elsewhere):
        assert one.read(origin, (5, len(DATA) - 1)) == DATA[5:-1]
    assert verifying.blob.is_complete
    with ThreadPoolExecutor() as threads:
        ends = [threads.submit(b"".join, stream) for stream in streams]
        looks.clear()
        wait_for(lambda: len(looks) >= 8)
        assert not any(end.done() for end in ends)
        verifying.close()
        assert [end.result(60) for end in ends] == [DATA[-1:]] * 2
    assert origin.verified <= 2  # the clients of one process, once each, however often they look
    for body in bodies:
        body.close()


@pytest.mark.parametrize(
    ("span", "only_verified"),
    [
        pytest.param((19 * CHUNK, 20 * CHUNK), False, id="the end"),
        pytest.param((5, 10), True, id="only verified"),
    ],
)
def test_a_part_that_needs_the_whole(
    cache: Cache, span: tuple[int, int], *, only_verified: bool
) -> None:
    """The last byte, and bytes that must be verified, wait for all others: they are fetched too."""
    origin = Origin(blob_of(20 * CHUNK), only_verified=only_verified)
    origin.fault = lambda number: "cut" if number == 1 else ""
    body = cache.open(origin, span)
    with ThreadPoolExecutor() as threads:
        reader = threads.submit(read_all, body)
        try:
            assert reader.result(30) == origin.data[slice(*span)]
        finally:
            body.close()


class TestOnlyVerified:
    """A client that must not get bytes that nobody has hashed."""

    def test_nothing_comes_before_the_digest(
        self, cache: Cache, elsewhere: Cache, looks: list[int]
    ) -> None:
        """However much is there."""
        origin = slow_origin(DATA)
        transfer = cache.enter(origin)
        start_fetch(origin, transfer)
        origin.gate.let(10)
        wait_for(lambda: transfer.blob.count_arrived() == 10_000)
        patient = Origin(DATA, only_verified=True)
        with ThreadPoolExecutor() as threads:
            parts = [threads.submit(one.read, patient, (10, 20)) for one in (cache, elsewhere)]
            wait_for(lambda: len(looks) >= 8)
            assert not any(part.done() for part in parts)
            origin.gate.let()
            assert [part.result(60) for part in parts] == [DATA[10:20]] * 2
        assert patient.asked == patient.asked_alone == []
        transfer.close()

    def test_what_cannot_be_verified_any_more(self, cache: Cache) -> None:
        """Nobody asks for bytes that would reach the client as they are."""
        origin = slow_origin(DATA, only_verified=True)
        transfer = cache.enter(origin)
        body = open_body(origin, transfer)
        transfer.blob.record(FetchState.GIVEN_UP)
        with pytest.raises(BodyBroken, match="verified"):
            read_all(body)
        assert origin.asked_alone == []


class TestADiskThatFails:
    """A file of no more use is no reason to break off."""

    @pytest.mark.parametrize("read", [read_all, send_all])
    def test_each_asks_alone(
        self, cache: Cache, elsewhere: Cache, monkeypatch: pytest.MonkeyPatch, read: type
    ) -> None:
        """The files are removed; everybody gets the rest, with or without ranges."""
        origins = [slow_origin(DATA), slow_origin(DATA, knows_ranges=False)]
        transfer = cache.enter(origins[0])
        start_fetch(origins[0], transfer)
        bodies = [open_body(origins[0], transfer), elsewhere.open(origins[1], (10, 9000))]
        origins[0].gate.let(4)
        wait_for(lambda: transfer.blob.count_arrived() == 4000)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("app.transfer.lease.write_at", full)
        for origin in origins:
            origin.gate.let()
        assert read(bodies[0]) == DATA
        wait_for(lambda: not bodies[1].is_running())  # the other process is told a moment later
        assert read(bodies[1]) == DATA[10:9000]
        cache.wait_until_idle(*origins)
        assert cache.list_files() == []
        assert origins[1].asked == []
        for origin, span in zip(origins, ((0, len(DATA)), (10, 9000)), strict=True):
            # Whoever has not looked before the disk failed asks for the bytes before it too.
            assert origin.asked_alone in ([span], [(4000, span[1])])
        assert {one.errno for one in cache.failures} == {28}

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"data": DATA[:9000]}, id="another size"),
            pytest.param({"data": DATA[:9000], "knows_ranges": False}, id="another whole"),
        ],
    )
    def test_an_answer_that_does_not_fit(self, cache: Cache, fields: dict[str, object]) -> None:
        """What is no part of the blob is not appended to it."""
        transfer = cache.enter(Origin(DATA))
        body = open_body(Origin(expected=digest_of(DATA), **fields), transfer)  # type: ignore[arg-type] # by name
        transfer.blob.record(FetchState.GIVEN_UP)
        with pytest.raises(BodyBroken, match="does not go on"):
            read_all(body)

    def test_a_map_that_cannot_be_read(self, cache: Cache) -> None:
        """Files that are closed under a reader are of no more use; the registry is."""
        origin = slow_origin(DATA)
        transfer = cache.enter(origin)
        start_fetch(origin, transfer)
        body = open_body(origin, transfer)
        stream = iter(body)
        origin.gate.let(1)
        assert next(stream) == DATA[:1000]
        transfer.blob.close()
        origin.gate.let()
        assert b"".join(stream) == DATA[1000:]
        assert origin.asked_alone == [(1000, len(DATA))]
        body.close()

    @pytest.mark.parametrize("span", [(0, len(DATA)), (10, 9000)])
    def test_nobody_fetches_for_one_that_asks_alone(self, cache: Cache, span: Span) -> None:
        """It counts as no reader any more, and nothing is fetched that it needs."""
        origin = slow_origin(DATA)
        transfer = cache.enter(origin)
        held = cache.enter(origin)
        body = open_body(origin, transfer, span)
        assert held.blob.list_needs(len(DATA)) == [span]
        held.close()
        transfer.blob.discard(FetchState.GIVEN_UP)
        stream = iter(body)
        origin.gate.let(1)
        got = next(stream)
        assert transfer.blob.list_needs(len(DATA)) == []
        assert not cache.transfers.is_running(origin.digest)
        origin.gate.let()
        assert got + b"".join(stream) == DATA[slice(*span)]
        body.close()

    def test_parts_that_are_asked_for_alone(self, cache: Cache) -> None:
        """The answer with one is closed before the next one is asked for."""
        origin = Origin(DATA)
        transfer = cache.enter(origin)
        spans = [(10, 20), (100, 5000), (9_000, 10_500)]
        body = open_body(origin, transfer, spans[0])
        transfer.blob.record(FetchState.GIVEN_UP)
        for span in spans:
            body.select(*span)
            assert b"".join(body) == DATA[slice(*span)]
            assert origin.open_now == 0
        assert origin.asked_alone == spans
        body.close()


class TestClosed:
    """A body that is closed before its end."""

    def test_at_any_moment(self, cache: Cache) -> None:
        """In the middle, and more than once."""
        origin = slow_origin(DATA)
        body = cache.open(origin)
        stream = iter(body)
        origin.gate.let(1)
        next(stream)
        body.close()
        body.close()
        with pytest.raises(BodyBroken):
            next(stream)
        origin.gate.let()
        cache.wait_until_idle(origin)

    @pytest.mark.parametrize("read", [read_all, send_all])
    def test_before_it_is_read(self, cache: Cache, read: type) -> None:
        """Nothing is asked for, and nothing is held."""
        origin = slow_origin(DATA)
        body = cache.open(origin)
        body.close()
        with pytest.raises(BodyBroken):
            read(body)
        assert origin.asked == []
        assert not cache.transfers.is_running(origin.digest)

    def test_while_it_asks_alone(self, cache: Cache) -> None:
        """The registry's answer is closed with it."""
        origin = slow_origin(DATA)
        transfer = cache.enter(origin)
        body = open_body(origin, transfer)
        transfer.blob.record(FetchState.GIVEN_UP)
        stream = iter(body)
        origin.gate.let(1)
        assert next(stream) == DATA[:1000]
        assert origin.open_now == 1
        body.close()
        assert origin.open_now == 0


def _keep(spans: list[Span]) -> list[Span]:
    return spans


def test_what_readers_need(cache: Cache) -> None:
    """In order of need: first the one that has the least to read; not what is far ahead."""
    data = blob_of(10 * CHUNK)
    origin = Origin(data)
    transfer = cache.enter(origin)
    blob = transfer.blob
    lease = blob.acquire_lease([(0, 2 * CHUNK)], 2 * CHUNK)
    assert lease is not None
    lease.write([data[: 2 * CHUNK]])
    assert blob.list_needs(10 * CHUNK) == []
    spans = {
        "has two chunks": (0, 10 * CHUNK),
        "has one": (CHUNK, 4 * CHUNK),
        "has none": (6 * CHUNK, 10 * CHUNK),
        "has all": (5, 10),
    }
    for reader, span in spans.items():
        blob.register_needs(reader, partial(_keep, [span]))
    assert blob.list_needs(3 * CHUNK) == [
        (6 * CHUNK, 9 * CHUNK),
        (2 * CHUNK, 4 * CHUNK),
        (2 * CHUNK, 3 * CHUNK),
    ]
    assert blob.list_needs(CHUNK) == [(6 * CHUNK, 7 * CHUNK)]
    blob.unregister_needs("has none")
    blob.unregister_needs("has none")
    assert blob.list_needs(CHUNK) == []
    transfer.close()
