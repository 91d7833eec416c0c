"""Blobs of which only parts have arrived: what each client costs, and what nobody is given."""

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace

import pytest

from app.cache.blobs.blobs import BlobCache
from app.cache.blobs.unfinished import build_transfers
from app.oci.reference import Digest, RepositoryName
from app.source import BodyBroken, Reply, Request
from app.store.blobs import SizeLimits
from app.transfer import files
from app.transfer.chunk_map import CHUNK
from app.transfer.files import Claim, Paths
from app.transfer.watch import UnreadLimits
from tests.chunk_maps import count_arrived, reboot
from tests.servers import READY_TIMEOUT, wait_until
from tests.unit.cache.blob_registry import DATA, DIGEST, BlobWorld, body_of, is_fetching
from tests.unit.cache.registry import digest_of
from tests.unit.cache.world import ALICE, MALLORY, NAME, executor, request
from tests.unit.transfer.parts import blob_of

LARGE = blob_of(24 * CHUNK + 77)
"""More than the first connection takes for itself."""
LARGE_DIGEST = digest_of(LARGE)


@pytest.fixture
def large(setting: BlobWorld) -> Iterator[BlobWorld]:
    """Let the registry have a large blob too, which Alice may read."""
    setting.registry.repositories[NAME].push_blob(LARGE)
    setting.registry.piece = CHUNK // 4
    yield setting
    setting.registry.going_on.set()


class Impatient:
    """A client that leaves if it takes too long."""

    def __init__(self) -> None:
        self._until = time.monotonic() + READY_TIMEOUT

    def is_gone(self) -> bool:
        """Return whether it has left."""
        return time.monotonic() > self._until


def ask_for(setting: BlobWorld, blobs: BlobCache, wanted: str, digest: Digest) -> bytes:
    """Ask for bytes of a blob, and return them."""
    told = replace(request(ALICE, Range=wanted), client=Impatient())
    reply = setting.ask(blobs, told, digest=digest)
    assert reply.status == 206
    return body_of(reply)


def covered(ranges: list[str], size: int) -> list[int]:
    """Return the chunks that requests covered, each as often as it was asked for."""
    found: list[int] = []
    for wanted in ranges:
        first, _, last = (wanted or "bytes=0-").removeprefix("bytes=").partition("-")
        end = int(last) + 1 if last else size
        found += range(int(first) // CHUNK, -(-end // CHUNK))
    return sorted(found)


def test_a_range_far_ahead_is_fetched_for_all(large: BlobWorld, blobs: BlobCache) -> None:
    """It waits for nobody, costs its chunk, and the others need not fetch that chunk again."""
    large.let_read(ALICE)
    large.registry.going_on.clear()
    running = large.ask(blobs, request(ALICE), digest=LARGE_DIGEST)
    start = 20 * CHUNK + 100
    ahead = large.ask(
        blobs, request(ALICE, Range=f"bytes={start}-{start + 99}"), digest=LARGE_DIGEST
    )
    assert ahead.header("cache-status") == "docxy; fwd=uri-miss; collapsed"
    assert body_of(ahead) == LARGE[start : start + 100]
    assert large.ranges == ["", f"bytes={20 * CHUNK}-{21 * CHUNK - 1}"]
    large.registry.going_on.set()
    assert body_of(running) == LARGE
    wait_until(lambda: large.is_kept(LARGE_DIGEST))
    assert covered(large.ranges[1:], len(LARGE)).count(20) == 1


def test_what_asks_on_behalf_of_a_client_that_is_answered(
    large: BlobWorld, blobs: BlobCache
) -> None:
    """It says so, because such a client cannot renew its token any more."""
    large.registry.breaks_at = 8 * CHUNK
    reply = large.ask(blobs, request(ALICE), digest=LARGE_DIGEST)
    wait_until(lambda: not is_fetching())
    large.registry.breaks_at = None
    assert body_of(reply) == LARGE
    assert [asked.is_answered for asked in large.registry.requests] == [False, True]


@pytest.mark.parametrize(
    ("start", "end", "chunks"),
    [
        pytest.param(3 * CHUNK + 5, 3 * CHUNK + 6, (3, 4), id="a byte"),
        pytest.param(4 * CHUNK - 1, 4 * CHUNK + 1, (3, 5), id="over an edge"),
        pytest.param(24 * CHUNK, 24 * CHUNK + 77, (24, 25), id="the end"),
    ],
)
def test_a_range_costs_its_chunks_once(
    large: BlobWorld, blobs: BlobCache, start: int, end: int, chunks: tuple[int, int]
) -> None:
    """They are there for every worker then; the rest comes with whoever wants it."""
    wanted = f"bytes={start}-{end - 1}"
    for worker in (blobs, blobs, large.worker()):
        assert ask_for(large, worker, wanted, LARGE_DIGEST) == LARGE[start:end]
    assert [asked.method for asked in large.registry.requests] == ["GET"]
    assert covered(large.ranges, len(LARGE)) == list(range(*chunks))
    assert body_of(large.ask(blobs, request(ALICE), digest=LARGE_DIGEST)) == LARGE
    wait_until(lambda: large.is_kept(LARGE_DIGEST))
    assert covered(large.ranges, len(LARGE)) == list(range(25))


def test_a_yes_counts_for_a_minute(large: BlobWorld, blobs: BlobCache) -> None:
    """Then the registry is asked again whether the client may have what is there."""
    for seconds, methods in ((0, ["GET"]), (50, ["GET"]), (61, ["GET", "HEAD"])):
        large.world.clock.time += seconds
        assert ask_for(large, blobs, "bytes=0-9", LARGE_DIGEST) == LARGE[:10]
        assert [asked.method for asked in large.registry.requests] == methods


def test_room_for_a_part_only(large: BlobWorld, caplog: pytest.LogCaptureFixture) -> None:
    """It is fetched for all; the whole comes without the cache, and the log says so."""
    large.limits = SizeLimits(max_size=4 * CHUNK, min_free=0)
    blobs = large.worker()
    for _ in range(2):
        assert ask_for(large, blobs, "bytes=0-9", LARGE_DIGEST) == LARGE[:10]
    assert large.ranges == [f"bytes=0-{CHUNK - 1}"]
    assert caplog.text == ""
    assert body_of(large.ask(blobs, request(ALICE), digest=LARGE_DIGEST)) == LARGE
    assert "Blob cannot be cached" in caplog.text
    asked = len(large.registry.requests)
    assert ask_for(large, blobs, "bytes=0-9", LARGE_DIGEST) == LARGE[:10]
    assert len(large.registry.requests) == asked


def test_the_last_bytes_of_a_blob_of_unknown_size(large: BlobWorld, blobs: BlobCache) -> None:
    """They wait for no more than it takes to find them."""
    for _ in range(2):
        assert ask_for(large, blobs, "bytes=-10", LARGE_DIGEST) == LARGE[-10:]
    assert not large.is_kept(LARGE_DIGEST)


@pytest.mark.parametrize("wanted", ["bytes=0-9", f"bytes={20 * CHUNK}-{20 * CHUNK + 9}"])
def test_only_what_is_verified(large: BlobWorld, wanted: str) -> None:
    """With DOCXY_VERIFY_BLOBS, a range waits for the whole, which is fetched for it."""
    large.verify_blobs = True
    blobs = large.worker()
    large.registry.lies[LARGE_DIGEST] = LARGE[:-1] + b"!"
    reply = large.ask(blobs, request(ALICE, Range=wanted), digest=LARGE_DIGEST)
    with closing(reply), pytest.raises(BodyBroken):
        next(reply.chunks())
    assert not large.is_kept(LARGE_DIGEST)
    large.registry.lies.clear()
    start = int(wanted.removeprefix("bytes=").partition("-")[0])
    assert ask_for(large, blobs, wanted, LARGE_DIGEST) == LARGE[start : start + 10]
    wait_until(lambda: large.is_kept(LARGE_DIGEST))


def test_who_has_stopped_reading_keeps_nobody_waiting(large: BlobWorld, blobs: BlobCache) -> None:
    """A worker that fetches no more leaves it to others to verify what comes."""
    large.registry.going_on.clear()
    unread = large.ask(blobs, request(ALICE, Range="bytes=0-9"), digest=LARGE_DIGEST)
    other = large.worker()
    wait_until(lambda: is_verifying(large), what="the first worker to verify")
    large.registry.going_on.set()
    wait_until(lambda: not is_fetching())
    told = replace(request(ALICE), client=Impatient())
    assert body_of(large.ask(other, told, digest=LARGE_DIGEST)) == LARGE
    assert body_of(unread) == LARGE[:10]


def is_verifying(setting: BlobWorld) -> bool:
    """Tell whether a worker has the claim to verify the large blob."""
    opened = files.open_running(Paths.for_digest(setting.unfinished, LARGE_DIGEST))
    if opened is None:
        return False
    try:
        return opened.is_claimed(Claim.VERIFICATION)
    finally:
        opened.close()


def test_another_size(setting: BlobWorld, blobs: BlobCache) -> None:
    """Whom the registry tells another size gets what the registry sends."""
    setting.registry.going_on.clear()
    running = setting.ask(blobs, request(ALICE))
    setting.registry.lies[DIGEST] = DATA[:5000]
    reply = setting.ask(setting.worker(), request(ALICE))
    setting.registry.going_on.set()
    assert body_of(reply) == DATA[:5000]
    assert body_of(running) == DATA


def test_what_was_left_is_gone_on_with(setting: BlobWorld) -> None:
    """By the next one who comes, in another worker, from where it ended."""
    setting.unread = UnreadLimits.fixed(0)
    blobs = setting.worker()
    setting.registry.going_on.clear()
    setting.ask(blobs, request(ALICE)).close()
    setting.registry.going_on.set()
    wait_until(lambda: not is_fetching())
    left = count_arrived(setting.unfinished)
    assert 0 < left < len(DATA)
    assert body_of(setting.ask(setting.worker(), request(ALICE))) == DATA
    assert setting.ranges == ["", f"bytes={left}-10499"]


def leave(setting: BlobWorld, data: bytes) -> None:
    """Leave of a blob what a killed worker would have left."""
    disk = executor(setting.world.storages.open())
    transfers = build_transfers(
        disk, setting.unfinished.parent, setting.world.row.name, setting.world.policy
    )
    beginning = transfers.begin(DIGEST)
    assert beginning is not None
    transfer = beginning.let_in(beginning.announce(len(DATA)), None)
    lease = transfer.blob.acquire_lease([(0, len(DATA))], len(DATA))
    assert lease is not None
    lease.write([data])
    lease.close()
    transfer.close()


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        pytest.param(DATA, "HEAD", id="all of it"),
        pytest.param(DATA[:-1] + b"!", "HEAD", id="all of it, and not right"),
        pytest.param(DATA[:4000], "GET bytes=4000-10499", id="the beginning"),
        pytest.param(DATA[:3999] + b"!", "GET bytes=4000-10499", id="a wrong beginning"),
        pytest.param(b"", "GET bytes=0-10499", id="nothing"),
    ],
)
def test_what_a_killed_worker_has_left(
    setting: BlobWorld, blobs: BlobCache, left: bytes, asked: str
) -> None:
    """It is read again, and only what is missing is asked for; nobody may read it unasked."""
    leave(setting, left)
    refused = setting.ask(blobs, request(MALLORY))
    assert (refused.status, len(refused.challenges), len(setting.registry.asked)) == (401, 1, 1)
    assert refused.header("cache-status") == "docxy; fwd=uri-miss; fwd-status=401"
    setting.registry.requests.clear()
    reply = setting.ask(blobs, request(ALICE))
    # The rules are asked about bytes of which a HEAD only confirms that they may be read.
    assert ("collapsed" in reply.header("cache-status")) == (asked == "HEAD")
    if left == DATA[: len(left)]:
        assert body_of(reply) == DATA
        wait_until(setting.is_kept)
    else:  # it is fetched again, for whoever has had none of it yet
        with suppress(BodyBroken):
            assert body_of(reply) == DATA
    first = setting.registry.requests[0]
    told = dict(first.headers).get("Range", "")
    assert asked == (f"GET {told}" if first.method == "GET" else "HEAD")
    assert body_of(setting.ask(blobs, request(ALICE))) == DATA
    wait_until(setting.is_kept)


def test_a_part_of_nobody_knows_how_much(setting: BlobWorld, blobs: BlobCache) -> None:
    """It does not show that the client may read what others have fetched: a HEAD does."""
    leave(setting, DATA[:4000])
    setting.registry.tells_total = False
    assert body_of(setting.ask(blobs, request(ALICE))) == DATA
    assert [asked.method for asked in setting.registry.requests] == ["GET", "HEAD", "GET"]


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        pytest.param(DATA, "HEAD", id="all of it"),
        pytest.param(DATA[:4000], "GET bytes=4000-10499", id="the beginning"),
        pytest.param(None, "GET bytes=0-10499", id="what the disk has lost"),
    ],
)
def test_what_an_earlier_boot_has_left(
    setting: BlobWorld, blobs: BlobCache, left: bytes | None, asked: str
) -> None:
    """It counts as far as it has its checksum."""
    leave(setting, left or DATA[:4000])
    reboot(setting.unfinished)
    if left is None:
        (path,) = setting.unfinished.glob("*.data")
        with path.open("r+b") as file:
            file.write(bytes(4000))
    assert body_of(setting.ask(blobs, request(ALICE))) == DATA
    wait_until(setting.is_kept)
    (first,) = setting.registry.requests
    told = dict(first.headers).get("Range", "")
    assert asked == (f"GET {told}" if first.method == "GET" else "HEAD")


def test_a_part_that_may_be_another_one(setting: BlobWorld, blobs: BlobCache) -> None:
    """A part that is not known to be of the blob may be larger than the client's: it asks again."""
    setting.let_read(ALICE)
    setting.registry.cdn_kind = "application/json"
    reply = setting.ask(blobs, request(ALICE, Range="bytes=100-199"))
    assert reply.status == 206
    assert reply.header("content-range") == f"bytes 100-199/{len(DATA)}"
    assert body_of(reply) == DATA[100:200]


def test_who_is_refused_keeps_nothing_from_others(
    setting: BlobWorld, blobs: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the registry considers a stranger, the reader fetches the bytes that both want."""
    setting.let_read(ALICE)
    setting.registry.breaks_at = 4000
    with suppress(BodyBroken):
        body_of(setting.ask(blobs, request(ALICE)))
    setting.registry.breaks_at = None
    answer, read = setting.registry.blob, list[bytes]()

    def answer_slowly(name: RepositoryName, digest: Digest, asked: Request) -> Reply:
        if asked.authorization == MALLORY and not read:
            read.append(body_of(setting.ask(blobs, request(ALICE))))
        return answer(name, digest, asked)

    monkeypatch.setattr(setting.registry, "blob", answer_slowly)
    refused = setting.ask(blobs, request(MALLORY))
    assert refused.is_error
    refused.close()
    assert read == [DATA]
