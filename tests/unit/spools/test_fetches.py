"""One fetches, and everybody reads."""

import shutil
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from app.oci.errors import ClientGone, UpstreamUnavailable
from app.source import BodyBroken, Reply, build_reply
from app.spools import filling
from app.spools.fetches import Spool
from app.spools.filling import RemainingBody
from app.spools.lead import FetchLease, UnreadLimits
from app.spools.reading import SpoolBody
from app.spools.shared_file import SharedFile
from tests.unit.spools.parts import (
    Bench,
    Body,
    FakeAsk,
    begun,
    blob_of,
    digest_of,
    fill,
    read,
    wait_for,
)

DATA = blob_of(10_500)
DIGEST = digest_of(DATA)


def test_what_is_fetched_is_read_and_kept(bench: Bench) -> None:
    """The one who fetches reads from the file as everybody does; it is kept then."""
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    body = Body(DATA)
    body.let_all()
    ask = fill(lead, body)
    assert spool.size == len(DATA)
    assert read(spool, 0, len(DATA), FakeAsk(DATA)) == DATA
    wait_for(lambda: bench.keep.has(DIGEST) and not fetches.is_running(DIGEST))
    assert bench.keep.data(DIGEST) == DATA
    assert (bench.files(), body.closed, ask.times_verified) == ([], 1, 1)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001])
def test_every_size(bench: Bench, size: int, algorithm: str) -> None:
    """Also of no bytes at all, and of one."""
    data = blob_of(size)
    fetches = bench.fetches()
    lead, spool = begun(fetches, data, digest_of(data, algorithm))
    body = Body(data)
    body.let_all()
    fill(lead, body)
    assert read(spool, 0, size, FakeAsk(data)) == data
    wait_for(lambda: bench.keep.has(digest_of(data, algorithm)))


def test_others_cannot_fetch_what_is_fetched(bench: Bench) -> None:
    """Neither here nor in another process, until the right is given back."""
    here, elsewhere = bench.fetches(), bench.fetches()
    lead = here.try_acquire(DIGEST)
    assert lead is not None
    assert here.try_acquire(DIGEST) is None
    assert elsewhere.try_acquire(DIGEST) is None
    assert here.is_running(DIGEST)
    assert elsewhere.is_running(DIGEST)
    assert elsewhere.join(DIGEST) is None  # nobody knows yet what there will be
    lead.release()
    lead.release()
    assert not elsewhere.is_running(DIGEST)
    assert bench.files() == []
    again = elsewhere.try_acquire(DIGEST)
    assert again is not None
    lead.release()  # takes nothing from the other one
    assert here.try_acquire(DIGEST) is None
    again.release()


def test_bytes_are_read_as_they_come(bench: Bench) -> None:
    """By readers here and elsewhere, without waiting for the end."""
    here, elsewhere = bench.fetches(), bench.fetches()
    lead, spool = begun(here, DATA)
    other = elsewhere.join(DIGEST)
    assert other is not None
    body = Body(DATA)
    fill(lead, body)
    readings = [SpoolBody(one, 0, len(DATA), FakeAsk(DATA)) for one in (spool, other)]
    streams = [iter(one) for one in readings]
    body.let(1)
    assert [next(one) for one in streams] == [DATA[:1000]] * 2
    body.let(1)
    assert [next(one) for one in streams] == [DATA[1000:2000]] * 2
    body.let_all()
    assert [b"".join(one) for one in streams] == [DATA[2000:]] * 2
    for one in readings:
        one.close()


def test_the_last_byte_waits_for_the_digest(bench: Bench) -> None:
    """What is wrong reaches nobody's end, and does not stay."""
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])
    here, elsewhere = bench.fetches(), bench.fetches()
    lead, spool = begun(here, wrong, DIGEST)
    other = elsewhere.join(DIGEST)
    assert other is not None
    body = Body(wrong)
    body.let_all()
    fill(lead, body)
    for one in (spool, other):
        got = list[bytes]()
        with pytest.raises(BodyBroken, match="digest"):
            got.extend(SpoolBody(one, 0, len(wrong), FakeAsk(DATA)))
        assert sum(map(len, got)) < len(wrong)
        one.close()
    wait_for(lambda: not here.is_running(DIGEST))
    assert bench.files() == []
    assert bench.keep.wholes == []


@pytest.mark.parametrize("length", [10_499, 10_501, 12_000])
def test_another_length_is_wrong(bench: Bench, length: int) -> None:
    """Too much is as bad as too little."""
    data = blob_of(length)
    lead, spool = begun(bench.fetches(), DATA)
    body = Body(data)
    body.let_all()
    fill(lead, body)

    def refuse() -> None:
        raise UpstreamUnavailable

    with pytest.raises(BodyBroken):
        read(spool, 0, len(DATA), FakeAsk(DATA, answer=refuse))  # type: ignore[arg-type]
    assert bench.keep.wholes == []


def test_a_reader_goes_on_with_what_broke_off(bench: Bench) -> None:
    """Where the file ends, with its own question; all get all bytes, and the blob is kept."""
    here, elsewhere = bench.fetches(), bench.fetches()
    lead, spool = begun(here, DATA)
    other = elsewhere.join(DIGEST)
    assert other is not None
    body = Body(DATA[:4000], breaks=True)
    body.let_all()
    fill(lead, body)
    asks = [FakeAsk(DATA), FakeAsk(DATA)]
    with ThreadPoolExecutor() as threads:
        results = threads.map(lambda one, ask: read(one, 0, len(DATA), ask), [spool, other], asks)
        assert list(results) == [DATA, DATA]
    assert asks[0].rests + asks[1].rests == [4000]
    assert asks[0].times_verified + asks[1].times_verified == 1
    wait_for(lambda: bench.keep.has(DIGEST))


def test_a_registry_without_ranges_is_read_up_to_there(bench: Bench) -> None:
    """An answer of the whole goes on as well as one of the rest."""
    lead, spool = begun(bench.fetches(), DATA)
    body = Body(DATA[:4000], breaks=True)
    body.let_all()
    fill(lead, body)
    assert read(spool, 0, len(DATA), FakeAsk(DATA, knows_ranges=False)) == DATA
    wait_for(lambda: bench.keep.has(DIGEST))


def test_what_cannot_go_on_breaks(bench: Bench) -> None:
    """A refusal of one reader breaks that reader alone; the bytes stay for others."""
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    body = Body(DATA[:4000], breaks=True)
    body.let_all()
    fill(lead, body)
    with pytest.raises(BodyBroken):
        read(spool, 0, len(DATA), FakeAsk(DATA, answer=lambda: build_reply(401, [], b"")))
    again = fetches.try_acquire(DIGEST)
    assert again is not None
    assert (again.offset, again.size) == (4000, len(DATA))
    again.start(len(DATA))
    mine = fetches.join(DIGEST)
    assert mine is not None
    rest = Body(DATA[4000:])
    rest.let_all()
    fill(again, rest)
    assert read(mine, 0, len(DATA), FakeAsk(DATA)) == DATA


def test_what_another_has_fetched_meanwhile(bench: Bench) -> None:
    """Whoever gets the right to fetch is told, and leaves nothing."""
    fetches = bench.fetches(is_cached=bench.keep.has)
    lead, spool = begun(fetches, DATA)
    assert not lead.is_cached
    body = Body(DATA)
    body.let_all()
    fill(lead, body)
    spool.close()
    wait_for(lambda: bench.keep.has(DIGEST) and not bench.files())
    late = fetches.try_acquire(DIGEST)
    assert late is not None
    assert late.is_cached
    late.release()
    assert not bench.files()


def test_not_everybody_tries_in_turn(bench: Bench) -> None:
    """Where the registry is away, three have tried before all know."""
    fetches = bench.fetches()
    lead, first = begun(fetches, DATA)
    spools = [first, *(fetches.join(DIGEST) for _ in range(9))]
    body = Body(DATA[:4000], breaks=True)
    body.let_all()
    fill(lead, body)

    def refuse() -> None:
        raise UpstreamUnavailable

    asks = [FakeAsk(DATA, answer=refuse) for _ in spools]  # type: ignore[arg-type]
    for spool, ask in zip(spools, asks, strict=True):
        assert spool is not None
        with pytest.raises(BodyBroken):
            read(spool, 0, len(DATA), ask)
    assert sum(len(ask.rests) for ask in asks) == 3


def test_not_even_where_nobody_knows_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no fetch should raise counts like what it may: one reader alone takes over no more."""
    raised = list[type[BaseException] | None]()
    monkeypatch.setattr(threading, "excepthook", lambda told: raised.append(told.exc_type))
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    body = Body(DATA[:4000])
    body.let_all()
    closed = list[str]()

    def failing(come: Iterable[bytes]) -> Iterator[bytes]:
        yield from come
        raise LookupError

    def fail() -> Reply:
        where = f"bytes 4000-{len(DATA) - 1}/{len(DATA)}"
        return replace(build_reply(206, [("Content-Range", where)], b""), body=failing(()))

    filling.start_fetch_thread(
        lead,
        RemainingBody(failing(body), lambda: closed.append("closed")),
        FakeAsk(DATA),
        is_whole=True,
    )
    ask = FakeAsk(DATA, answer=fail)
    with pytest.raises(BodyBroken, match="broke off"):
        read(spool, 0, len(DATA), ask)
    assert ask.rests == [4000] * 3
    assert closed == ["closed"]
    wait_for(lambda: raised == [LookupError] * 4)


def test_a_wrong_beginning_is_found(bench: Bench) -> None:
    """What a dead process has left is read again, and never believed."""
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    body = Body(blob_of(4000, seed=1), breaks=True)
    body.let_all()
    fill(lead, body)
    with pytest.raises(BodyBroken):
        read(spool, 0, len(DATA), FakeAsk(DATA))
    wait_for(lambda: not fetches.is_running(DIGEST))
    assert bench.keep.wholes == []
    lead, spool = begun(fetches, DATA)
    assert lead.offset == 0
    spool.close()
    lead.release()


def test_nobody_reads(bench: Bench) -> None:
    """Some more bytes are fetched then, and stay for whoever goes on."""
    fetches = bench.fetches(unread_limits=UnreadLimits.fixed(2000))
    lead, spool = begun(fetches, DATA)
    body = Body(DATA)
    fill(lead, body)
    body.let(2)
    wait_for(lambda: spool.available >= 2000)
    spool.close()
    body.let_all()
    wait_for(lambda: not fetches.is_running(DIGEST))
    assert body.given == 5
    again = fetches.try_acquire(DIGEST)
    assert again is not None
    assert again.offset == 5000
    again.release()


def test_somebody_reads_elsewhere(bench: Bench) -> None:
    """A reader in another process keeps a fetch going."""
    here, elsewhere = bench.fetches(unread_limits=UnreadLimits.fixed(0)), bench.fetches()
    lead, spool = begun(here, DATA)
    other = elsewhere.join(DIGEST)
    assert other is not None
    spool.close()
    assert lead.has_readers
    body = Body(DATA)
    body.let_all()
    fill(lead, body)
    assert read(other, 0, len(DATA), FakeAsk(DATA)) == DATA


def test_what_is_nearly_there_is_finished(bench: Bench) -> None:
    """Where less is lacking than may be fetched unread, it is fetched and kept."""
    fetches = bench.fetches(unread_limits=UnreadLimits.fixed(len(DATA)))
    lead, spool = begun(fetches, DATA)
    spool.close()
    body = Body(DATA)
    body.let_all()
    fill(lead, body)
    wait_for(lambda: bench.keep.has(DIGEST))


def test_no_room(bench: Bench) -> None:
    """Nothing is begun where there is no room, and nothing stays of it."""
    bench.full = True
    lead = bench.fetches().try_acquire(DIGEST)
    assert lead is not None
    with pytest.raises(OSError, match="room"):
        lead.start(len(DATA))
    lead.release()
    assert bench.files() == []


def test_another_size_than_before(bench: Bench) -> None:
    """What is there of it is not gone on with."""
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    spool.close()
    lead.release()
    again = fetches.try_acquire(DIGEST)
    assert again is not None
    with pytest.raises(OSError, match="a different size"):
        again.start(len(DATA) + 1)
    again.release()


def test_what_cannot_be_kept_is_read_all_the_same(bench: Bench) -> None:
    """A store that refuses takes nothing from those who read."""
    bench.keep.error = OSError(28, "no room")
    lead, spool = begun(bench.fetches(), DATA)
    body = Body(DATA)
    body.let_all()
    fill(lead, body)
    assert read(spool, 0, len(DATA), FakeAsk(DATA)) == DATA
    wait_for(lambda: bench.files() == [])


def test_deleted_under_our_feet(bench: Bench) -> None:
    """Open files read on; a deleted directory is made anew by the next one."""
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    body = Body(DATA)
    fill(lead, body)
    body.let(3)
    wait_for(lambda: spool.available >= 2000)
    shutil.rmtree(bench.directory / "spools")
    other, others = begun(fetches, DATA)  # a new one, that the old one must not touch
    body.let_all()
    assert read(spool, 0, len(DATA), FakeAsk(DATA)) == DATA
    wait_for(lambda: not fetches.is_running(DIGEST) or other.paths.data.exists())
    assert bench.keep.wholes == []
    assert bench.files() == [".data", ".record"]
    others.close()
    other.release()


def test_a_fetcher_that_died_and_was_deleted(bench: Bench) -> None:
    """Whoever waits asks the registry for itself alone."""
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    body = Body(DATA[:4000], breaks=True)
    body.let(4)
    fill(lead, body)
    wait_for(lambda: spool.available == 4000)
    shutil.rmtree(bench.directory / "spools")
    body.let_all()
    ask = FakeAsk(DATA)
    assert read(spool, 100, len(DATA), ask) == DATA[100:]
    assert ask.parts == [(4000, len(DATA))]


def test_only_what_is_verified(bench: Bench) -> None:
    """Where that cannot be done any more, a whole blob breaks off; parts never are verified."""
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    body = Body(DATA[:4000], breaks=True)
    body.let(4)
    fill(lead, body)
    wait_for(lambda: spool.available == 4000)
    shutil.rmtree(bench.directory / "spools")
    body.let_all()
    ask = FakeAsk(DATA, only_verified=True)
    with pytest.raises(BodyBroken, match="verified"):
        read(spool, 0, len(DATA), ask)
    assert ask.parts == []


def test_a_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that takes no more is removed; everybody asks for the rest alone."""
    here, elsewhere = bench.fetches(), bench.fetches()
    lead, spool = begun(here, DATA)
    other = elsewhere.join(DIGEST)
    assert other is not None
    body = Body(DATA)
    fill(lead, body)
    body.let(4)
    wait_for(lambda: spool.available == 4000)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.spools.writing.write_at", full)
    body.let_all()
    asks = [FakeAsk(DATA), FakeAsk(DATA, knows_ranges=False)]
    assert read(spool, 0, len(DATA), asks[0]) == DATA
    assert read(other, 10, 9000, asks[1]) == DATA[10:9000]
    wait_for(lambda: not here.is_running(DIGEST))
    assert bench.files() == []
    assert [ask.rests for ask in asks] == [[], []]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """It says so, and leaves it to whoever wanted it."""
    (tmp_path / "spools").write_bytes(b"no directory")
    bench = Bench(tmp_path, keep=None)  # type: ignore[arg-type]
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        bench.fetches().try_acquire(DIGEST)
    with pytest.raises(OSError, match="Not a directory"):
        bench.fetches().join(DIGEST)


def test_whoever_comes_waits_for_the_answer(bench: Bench) -> None:
    """Until there is something to read, or the right to fetch is free."""
    here, elsewhere = bench.fetches(), bench.fetches()
    lead = here.try_acquire(DIGEST)
    assert lead is not None
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(one.acquire_or_join, DIGEST, None) for one in (here, elsewhere)]
        lead.start(len(DATA))
        for one in waiting:
            spool = one.result(10)
            assert isinstance(spool, Spool)
            spool.close()
        lead.release()
        again = threads.submit(elsewhere.acquire_or_join, DIGEST, None).result(10)
        assert isinstance(again, FetchLease)
        again.release()


def test_nobody_waits_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """For one who asks and has no answer."""
    monkeypatch.setattr("app.spools.fetches._PATIENCE", 0.1)
    lead = bench.fetches().try_acquire(DIGEST)
    assert lead is not None
    with pytest.raises(OSError, match="no answer"):
        bench.fetches().acquire_or_join(DIGEST, None)
    lead.release()


def test_whoever_waits_may_leave(bench: Bench) -> None:
    """Nobody waits for a client that has gone."""

    class Gone:
        def is_gone(self) -> bool:
            return True

    fetches = bench.fetches()
    lead = fetches.try_acquire(DIGEST)
    assert lead is not None
    with pytest.raises(ClientGone):
        fetches.acquire_or_join(DIGEST, Gone())
    lead.start(len(DATA))
    spool = fetches.join(DIGEST)
    assert spool is not None
    with pytest.raises(BodyBroken, match="left"):
        list(SpoolBody(spool, 0, 10, FakeAsk(DATA), Gone()))
    spool.close()
    lead.release()


def test_tidy(bench: Bench) -> None:
    """What was left long ago goes; what is fetched, and what is young, stays."""
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    body = Body(DATA[:4000], breaks=True)
    body.let_all()
    assert fetches.remove_idle(0) == 0
    fill(lead, body)
    wait_for(lambda: not fetches.is_running(DIGEST))
    assert fetches.remove_idle() == 0
    assert bench.files() == [".data", ".record"]
    assert fetches.remove_idle(0) == 4000
    assert bench.files() == []
    ask = FakeAsk(DATA)
    assert read(spool, 0, len(DATA), ask) == DATA
    assert bench.fetches().remove_idle(0) == 0


def test_what_is_young_is_tidied_without_a_look(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock would be taken for one who fetches: whoever comes then would ask once more."""
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    lead.release()
    spool.close()
    locked = list[int]()

    def lock(_: SharedFile, operation: int) -> bool:
        locked.append(operation)
        return True

    monkeypatch.setattr(SharedFile, "try_lock", lock)
    assert fetches.remove_idle() == 0
    assert locked == []
    assert fetches.remove_idle(0) == 0
    assert locked
    assert bench.files() == []


def test_closed_at_any_moment(bench: Bench) -> None:
    """Never iterated, in the middle, and more than once."""
    fetches = bench.fetches()
    lead, spool = begun(fetches, DATA)
    body = Body(DATA)
    fill(lead, body)
    reading = SpoolBody(spool, 0, len(DATA), FakeAsk(DATA))
    stream = iter(reading)
    body.let(1)
    next(stream)
    reading.close()
    reading.close()
    with pytest.raises(BodyBroken):
        next(stream)
    body.let_all()
    wait_for(lambda: not fetches.is_running(DIGEST))
