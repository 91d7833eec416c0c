"""Blobs whose bytes are wrong: who sees it, what stays, and what is fetched again."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.source import BodyBroken
from tests.unit.transfer.parts import (
    Cache,
    Origin,
    blob_of,
    digest_of,
    open_body,
    read_all,
    slow_origin,
    start_fetch,
)

DATA = blob_of(10_500)
WRONG = DATA[:-1] + bytes([DATA[-1] ^ 1])


def test_a_wrong_digest(cache: Cache, elsewhere: Cache) -> None:
    """What is wrong reaches nobody's end, and does not stay."""
    origin = slow_origin(WRONG, expected=digest_of(DATA))
    bodies = [cache.open(origin), elsewhere.open(origin), cache.open(origin, (5, len(DATA)))]
    streams = [iter(one) for one in bodies]
    origin.gate.let(1)
    pieces = [[next(one)] for one in streams]
    origin.gate.let()
    for stream, got in zip(streams, pieces, strict=True):
        with pytest.raises(BodyBroken):
            got.extend(stream)
    for got, start in zip(pieces, (0, 0, 5), strict=True):
        data = b"".join(got)
        assert data == WRONG[start:-1][: len(data)]
    for body in bodies:
        body.close()
    cache.wait_until_idle(origin)
    assert cache.list_files() == [".map"]  # the next fetch is in a single stream
    assert cache.kept == {}
    assert origin.verified == 0


class TestFetchedAgain:
    """A blob whose bytes were wrong is fetched once more, in a single stream."""

    def test_the_next_client_gets_it(self, cache: Cache) -> None:
        """Over one connection, whoever asks."""
        data = blob_of(12 << 20)
        origin = Origin(data, fault=lambda number: "corrupt" if number == 1 else "")
        with pytest.raises(BodyBroken, match="digest"):
            cache.read(origin)
        cache.wait_until_idle(origin)
        origin.open_most = 0
        transfer = cache.enter(origin)
        assert transfer.blob.is_single
        assert read_all(open_body(origin, transfer)) == data
        cache.wait_until_idle(origin)
        assert origin.open_most == 1
        assert cache.kept == {origin.digest: data}
        assert cache.list_files() == []

    def test_whoever_has_got_nothing_waits_for_it(self, cache: Cache, elsewhere: Cache) -> None:
        """And does not see that anything was wrong."""
        origin = Origin(
            DATA, only_verified=True, fault=lambda number: "corrupt" if number == 1 else ""
        )
        with ThreadPoolExecutor() as threads:
            readers = [threads.submit(one.read, origin) for one in (cache, elsewhere)]
            assert [reader.result(60) for reader in readers] == [DATA] * 2
        assert 2 <= len(origin.asked) <= 3  # one who comes late may ask once more

    def test_it_is_not_fetched_for_ever(self, cache: Cache) -> None:
        """Whatever is wrong in one stream too breaks off."""
        origin = Origin(
            DATA, only_verified=True, fault=lambda number: "corrupt" if number < 10 else ""
        )
        with pytest.raises(BodyBroken):
            cache.read(origin)
        assert len(origin.asked) == 2
        cache.wait_until_idle(origin)
        assert cache.kept == {}


def test_a_wrong_beginning_is_found(cache: Cache) -> None:
    """What another fetch has left is never believed to be the blob's."""
    left = slow_origin(
        blob_of(len(DATA), seed=1), expected=digest_of(DATA), fault=lambda _: "cut", cut_at=4000
    )
    transfer = cache.enter(left)
    start_fetch(left, transfer)
    transfer.close()
    left.gate.let()
    cache.wait_until_idle(left)
    assert cache.list_files() == [".data", ".map"]
    origin = slow_origin(DATA)
    body = cache.open(origin)
    stream = iter(body)
    next(stream)  # whoever has got nothing would wait for the next fetch
    origin.gate.let()
    with pytest.raises(BodyBroken, match="digest"):
        list(stream)
    body.close()
    cache.wait_until_idle(origin)
    assert cache.kept == {}
    assert cache.read(origin) == DATA
