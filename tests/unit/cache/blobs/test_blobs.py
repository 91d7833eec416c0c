"""Blobs: kept, fetched for all, or passed on; and never for whom the registry would refuse."""

import email
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.cache.blobs.blobs import BlobCache
from app.oci.errors import UpstreamUnreachable
from app.oci.reference import Digest, RepositoryName
from app.source import BodyBroken, HandedOver
from app.store.blobs import SizeLimits
from tests.servers import wait_until
from tests.unit.cache.blob_registry import DATA, DIGEST, OTHER, BlobWorld, body_of
from tests.unit.cache.world import ALICE, MALLORY, NAME, in_a_directory, request
from tests.unit.transfer.parts import blob_of

BLOCK = 4096
"""Bytes: what a file takes is counted in blocks."""


def keep(setting: BlobWorld, blobs: BlobCache, authorization: str = ALICE) -> None:
    """Let a blob be kept."""
    assert body_of(setting.ask(blobs, request(authorization))) == DATA
    wait_until(setting.is_kept)


def test_the_second_time_costs_nothing(setting: BlobWorld, blobs: BlobCache) -> None:
    """The first one fetches for all later ones; each answer says how it came."""
    cold = setting.ask(blobs, request(ALICE))
    assert (cold.status, cold.length) == (200, len(DATA))
    assert cold.header("cache-status") == "docxy; fwd=uri-miss; fwd-status=200; stored"
    assert cold.header("docker-content-digest") == DIGEST
    assert body_of(cold) == DATA
    wait_until(setting.is_kept)
    for worker in (blobs, setting.worker()):
        warm = setting.ask(worker, request(ALICE))
        assert (warm.status, warm.length) == (200, len(DATA))
        assert warm.header("cache-status") == "docxy; hit"
        assert warm.header("cache-control") == "private, no-store"
        assert warm.header("etag") == f'"{DIGEST}"'
        assert body_of(warm) == DATA
    assert setting.registry.asked == [f"GET {NAME}/blobs/{DIGEST}"]


def test_right_after_the_last_byte(setting: BlobWorld, blobs: BlobCache) -> None:
    """Also while it is still being made an entry."""
    for _ in range(5):
        assert body_of(setting.ask(blobs, request(ALICE))) == DATA
    assert setting.registry.asked == [f"GET {NAME}/blobs/{DIGEST}"]


ANSWERS = [
    pytest.param({"Range": "bytes=0-9"}, 206, (0, 10), id="a part"),
    pytest.param({"Range": "bytes=10000-10500"}, 206, (10000, 10500), id="one byte too many"),
    pytest.param({"Range": "bytes=-5"}, 206, (10495, 10500), id="the end"),
    pytest.param({"Range": "bytes=10500-"}, 416, None, id="past the end"),
    pytest.param({"Range": "bytes=0-9", "If-Range": f'"{DIGEST}"'}, 206, (0, 10), id="if it is"),
    pytest.param({"Range": "bytes=0-9", "If-Range": '"x"'}, 200, (0, 10500), id="if it is another"),
    pytest.param({"If-None-Match": f'"{DIGEST}"'}, 304, None, id="known"),
    pytest.param({"If-Match": '"x"'}, 412, None, id="another one wanted"),
]


def ask_for(
    setting: BlobWorld,
    blobs: BlobCache,
    fields: dict[str, str],
    status: int,
    part: tuple[int, int] | None,
) -> None:
    """Ask, and compare."""
    start, end = part or (0, 0)
    reply = setting.ask(blobs, request(ALICE, **fields))
    where = {206: f"bytes {start}-{end - 1}/10500", 416: "bytes */10500"}.get(status, "")
    assert (reply.status, reply.header("content-range")) == (status, where)
    assert reply.length == (None if status == 304 else end - start)
    assert body_of(reply) == DATA[start:end]


@pytest.mark.parametrize(("fields", "status", "part"), ANSWERS)
def test_what_is_asked_of_a_fetch(
    setting: BlobWorld,
    blobs: BlobCache,
    fields: dict[str, str],
    status: int,
    part: tuple[int, int] | None,
) -> None:
    """Ranges and conditions are judged here."""
    ask_for(setting, blobs, fields, status, part)


@pytest.mark.parametrize(("fields", "status", "part"), ANSWERS)
def test_what_is_asked_of_what_is_kept(
    setting: BlobWorld,
    blobs: BlobCache,
    fields: dict[str, str],
    status: int,
    part: tuple[int, int] | None,
) -> None:
    """They are judged alike."""
    keep(setting, blobs)
    ask_for(setting, blobs, fields, status, part)


def test_several_ranges(setting: BlobWorld, blobs: BlobCache) -> None:
    """They come in the order in which they are asked for, of a fetch and of what is kept."""
    for _ in range(2):
        reply = setting.ask(blobs, request(ALICE, Range="bytes=0-1,5000-5999,-3"))
        kind = reply.header("content-type")
        assert (reply.status, kind.partition(";")[0]) == (206, "multipart/byteranges")
        body = body_of(reply)
        assert reply.length == len(body)
        message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        parts = [part for part in message.walk() if not part.is_multipart()]
        assert [part["content-range"] for part in parts] == [
            "bytes 0-1/10500",
            "bytes 5000-5999/10500",
            "bytes 10497-10499/10500",
        ]
        assert b"".join(body_of_part(body, part["content-range"]) for part in parts) == (
            DATA[:2] + DATA[5000:6000] + DATA[-3:]
        )
        keep(setting, blobs)


def body_of_part(body: bytes, described: str) -> bytes:
    """Return the bytes of one part, as they came."""
    start, end = map(int, described.removeprefix("bytes ").partition("/")[0].split("-"))
    _, _, rest = body.partition(f"Content-Range: {described}\r\n\r\n".encode())
    return rest[: end + 1 - start]


def test_head(setting: BlobWorld, blobs: BlobCache) -> None:
    """Passed on as it is, and answered from the GET's entry; never the other way round."""
    cold = setting.ask(blobs, request(ALICE, "HEAD"))
    assert (cold.status, cold.length, body_of(cold)) == (200, len(DATA), b"")
    assert cold.header("cache-status") == "docxy; fwd=uri-miss; fwd-status=200"
    keep(setting, blobs)
    warm = setting.ask(blobs, request(ALICE, "HEAD", Range="bytes=0-9"))
    assert (warm.status, warm.length, body_of(warm)) == (200, len(DATA), b"")
    assert setting.registry.count("HEAD") == 1


def test_who_is_not_known_is_answered_by_the_registry(setting: BlobWorld, blobs: BlobCache) -> None:
    """A yes opens what is kept, and a no does not; also from another worker."""
    keep(setting, blobs)
    setting.registry.repositories[NAME].readers.add("Basic Ym9iOmI=")
    for worker, authorization, status in (
        (blobs, MALLORY, 401),
        (blobs, "", 401),
        (setting.worker(), "Basic Ym9iOmI=", 200),
    ):
        reply = setting.ask(worker, request(authorization))
        assert reply.status == status
        assert reply.length == len(body_of(reply))
    assert setting.registry.count("HEAD") == 3
    assert setting.registry.count("GET") == 1


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_a_refusal_is_asked_for_once(setting: BlobWorld, blobs: BlobCache, status: int) -> None:
    """Whoever asks for what is kept is refused by the answer to a HEAD, which has got a body."""
    keep(setting, blobs)
    asked = len(setting.registry.asked)
    setting.registry.trouble = status if status != 401 else None
    reply = setting.ask(blobs, request(MALLORY))
    assert reply.status == (503 if status == 500 else status)
    assert [challenge.scheme for challenge in reply.challenges] == ["Bearer"] * (status == 401)
    assert reply.header("content-type") == "application/json"
    assert b'"errors"' in body_of(reply)
    assert setting.registry.asked[asked:] == [f"HEAD {NAME}/blobs/{DIGEST}"]


def test_a_digest_is_no_key(setting: BlobWorld, blobs: BlobCache) -> None:
    """Whoever may read one repository cannot have another's blob by it, kept or being fetched."""
    setting.registry.going_on.clear()
    running = setting.ask(blobs, request(ALICE))
    for _ in range(2):
        for name in (OTHER, NAME):
            reply = setting.ask(blobs, request(MALLORY), name=name)
            assert reply.status in {401, 404}
            assert DATA[:100] not in body_of(reply)
        setting.registry.going_on.set()
        running.close()
        wait_until(setting.is_kept)


@pytest.mark.parametrize("size", [5, len(DATA)])
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_login_page_is_no_yes(
    setting: BlobWorld, blobs: BlobCache, method: str, kind: str, size: int
) -> None:
    """Before the blob is there, while it is fetched, and when it is kept."""
    setting.registry.login_page = page = b"x" * size
    setting.registry.login_kind = kind

    def is_shown() -> bool:
        reply = setting.ask(blobs, request("", method))
        assert reply.header("content-type") == kind
        return body_of(reply) == (page if method == "GET" else b"")

    assert is_shown()
    setting.registry.going_on.clear()
    running = setting.ask(blobs, request(ALICE))
    assert is_shown()
    setting.registry.going_on.set()
    assert body_of(running) == DATA
    wait_until(setting.is_kept)
    assert is_shown()
    assert is_shown()


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8"])
def test_a_blob_that_a_cdn_calls_by_another_type(
    setting: BlobWorld, blobs: BlobCache, kind: str
) -> None:
    """Its bytes say what it is; what is something else is passed on as it came, and not kept."""
    setting.let_read(ALICE)
    setting.registry.cdn_kind = kind
    setting.registry.lies[DIGEST] = b'{"error": "log in"}'
    assert body_of(setting.ask(blobs, request(ALICE))) == b'{"error": "log in"}'
    assert not setting.is_kept()
    setting.registry.lies.clear()
    assert body_of(setting.ask(blobs, request(ALICE))) == DATA
    wait_until(setting.is_kept)
    asked = len(setting.registry.asked)
    assert body_of(setting.ask(blobs, request(ALICE))) == DATA
    assert len(setting.registry.asked) == asked
    assert setting.registry.closed == 2


def test_a_running_fetch_is_joined(setting: BlobWorld, blobs: BlobCache) -> None:
    """By whom the registry lets: one download, whoever comes when."""
    setting.let_read(ALICE)
    setting.registry.going_on.clear()
    workers = [blobs, setting.worker()]
    first = setting.ask(blobs, request(ALICE))
    others = [setting.ask(one, request(ALICE)) for one in workers for _ in range(2)]
    assert {one.header("cache-status") for one in others} == {"docxy; fwd=uri-miss; collapsed"}
    stream = others[0].chunks()
    assert next(stream) == DATA[:1000]
    setting.registry.going_on.set()
    assert body_of(others[3]) == DATA
    assert b"".join(stream) == DATA[1000:]
    for one in (first, *others):
        one.close()
    assert setting.registry.count("GET") == 1
    assert setting.registry.count("HEAD") == 0  # workers share what the registry has said


def test_who_asks_the_same_waits_for_the_answer(setting: BlobWorld, blobs: BlobCache) -> None:
    """Twenty at once are one question, not twenty."""
    setting.let_read(ALICE)
    answering = threading.Event()

    def during() -> None:
        assert answering.wait(30)

    setting.registry.during = during
    with ThreadPoolExecutor(20) as threads:
        bodies = [
            threads.submit(lambda: body_of(setting.ask(blobs, request(ALICE)))) for _ in "." * 20
        ]
        wait_until(lambda: bool(setting.registry.asked))
        answering.set()
        assert all(one.result(30) == DATA for one in bodies)
    assert setting.registry.asked == [f"GET {NAME}/blobs/{DIGEST}"]


def test_a_yes_ends_with_a_no(setting: BlobWorld, blobs: BlobCache) -> None:
    """Whoever is refused while a blob is fetched has nothing of the yes before it."""
    setting.registry.going_on.clear()
    first = setting.ask(blobs, request(ALICE))
    setting.registry.repositories[NAME].readers.discard(ALICE)
    setting.world.clock.time += 100_000
    assert setting.ask(blobs, request(ALICE)).status == 401
    setting.registry.repositories[NAME].readers.add(ALICE)
    head = setting.ask(blobs, request(ALICE, "HEAD"))
    assert head.status == 200
    setting.ask(blobs, request(ALICE)).close()
    assert setting.registry.count("HEAD") == 3
    setting.registry.going_on.set()
    assert body_of(first) == DATA


def test_fifty_at_once(setting: BlobWorld, blobs: BlobCache) -> None:
    """Of two workers, some with ranges: one download."""
    workers = [blobs, setting.worker()]

    def one(number: int) -> bool:
        start = 0 if number % 3 else number * 100
        fields = {"Range": f"bytes={start}-"} if start else {}
        reply = setting.ask(workers[number % 2], request(ALICE, **fields))
        return body_of(reply) == DATA[start:]

    with ThreadPoolExecutor(50) as threads:
        assert all(threads.map(one, range(50)))
    assert setting.registry.count("GET") == 1


def test_what_is_wrong_reaches_nobodys_end(setting: BlobWorld, blobs: BlobCache) -> None:
    """And does not stay: the next one asks anew."""
    setting.registry.lies[DIGEST] = DATA[:-1] + b"!"
    with pytest.raises(BodyBroken, match="digest"):
        body_of(setting.ask(blobs, request(ALICE)))
    setting.registry.lies.clear()
    keep(setting, blobs)


def test_a_fetch_goes_on_where_it_broke(setting: BlobWorld, blobs: BlobCache) -> None:
    """The reader asks for the rest, in its own name; what was lacking is fetched once."""
    setting.registry.breaks_at = 4000
    reply = setting.ask(blobs, request(ALICE))
    stream = reply.chunks()
    got = next(stream)
    setting.registry.breaks_at = None
    assert got + b"".join(stream) == DATA
    reply.close()
    wait_until(setting.is_kept)
    # A reader that was waiting may have asked once more before the registry was well again.
    assert set(setting.ranges[1:]) <= {"bytes=4000-10499"}
    assert setting.ranges[0] == ""


def test_a_client_that_leaves_does_not_end_it(setting: BlobWorld, blobs: BlobCache) -> None:
    """What it began is kept for the next one."""
    setting.registry.going_on.clear()
    setting.ask(blobs, request(ALICE)).close()
    setting.registry.going_on.set()
    wait_until(setting.is_kept)
    warm = setting.ask(blobs, request(ALICE))
    assert warm.header("cache-status") == "docxy; hit"
    warm.close()


@pytest.mark.parametrize("trouble", [UpstreamUnreachable(), 429, 500, 503])
def test_while_the_registry_is_away(
    setting: BlobWorld, blobs: BlobCache, trouble: UpstreamUnreachable | int
) -> None:
    """What is public is served with a warning; what is private is not."""
    public = RepositoryName.parse("library/public")
    setting.registry.repository(public, "").push_blob(DATA)
    assert body_of(setting.ask(blobs, request(), name=public)) == DATA
    wait_until(setting.is_kept)
    keep(setting, blobs)
    setting.world.clock.time += 100_000
    setting.registry.trouble = trouble
    for _ in range(3):
        reply = setting.ask(blobs, request(MALLORY), name=public)
        assert reply.header("warning").startswith("299")
        assert body_of(reply) == DATA
    part = setting.ask(blobs, request("", Range="bytes=5-9"), name=public)
    assert (part.status, body_of(part)) == (206, DATA[5:10])
    if isinstance(trouble, int):
        assert setting.ask(blobs, request(ALICE)).status == (429 if trouble == 429 else 503)
    else:
        with pytest.raises(UpstreamUnreachable):
            setting.ask(blobs, request(ALICE))


def test_a_disk_that_takes_nothing(setting: BlobWorld, blobs: BlobCache) -> None:
    """The pull goes on without it."""
    setting.storage.unfinished.parent.mkdir(exist_ok=True)
    setting.storage.unfinished.write_bytes(b"no directory")
    for _ in range(2):
        reply = setting.ask(blobs, request(ALICE))
        assert "stored" not in reply.header("cache-status")
        assert body_of(reply) == DATA


def test_no_room(setting: BlobWorld) -> None:
    """What can never be kept is not fetched for all, and leaves nothing."""
    setting.limits = SizeLimits(max_size=5000, min_free=0)
    blobs = setting.worker()
    reply = setting.ask(blobs, request(ALICE, Range="bytes=5-9"))
    assert (reply.status, body_of(reply)) == (206, DATA[5:10])
    assert list(setting.unfinished.iterdir()) == []


@in_a_directory
@pytest.mark.parametrize("registry", ["r.example", "gone.example"])
def test_what_is_unfinished_counts(setting: BlobWorld, registry: str) -> None:
    """What was kept leaves for it, and where that is not enough, what nobody goes on with.

    Of all registries, also of one that nobody asks for any more.
    """
    setting.limits = SizeLimits(max_size=4 * BLOCK, min_free=0)
    blobs = setting.worker()
    data = blob_of(BLOCK)
    small = setting.registry.repositories[NAME].push_blob(data)
    assert body_of(setting.ask(blobs, request(ALICE), digest=small)) == data
    wait_until(lambda: setting.is_kept(small))
    left = setting.unfinished.with_name(registry) / "sha256-0.data"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(bytes(BLOCK))
    assert body_of(setting.ask(blobs, request(ALICE))) == DATA
    wait_until(setting.is_kept)
    assert not setting.is_kept(small)
    assert left.exists()
    left.write_bytes(bytes(2 * BLOCK))
    other = blob_of(10_000)
    digest = setting.registry.repositories[NAME].push_blob(other)
    assert body_of(setting.ask(blobs, request(ALICE), digest=digest)) == other
    wait_until(lambda: setting.is_kept(digest))
    assert not left.exists()


def test_what_is_unfinished_of_others_stays_for_a_day(setting: BlobWorld, blobs: BlobCache) -> None:
    """Nobody who asks for a blob of that registry has to come."""
    folder = setting.unfinished.with_name("gone.example")
    folder.mkdir(parents=True)
    new, old = folder / "sha256-0.data", folder / "sha256-1.data"
    for path in (new, old):
        path.write_bytes(bytes(1000))
    os.utime(old, (time.time() - 90_000,) * 2)
    assert body_of(setting.ask(blobs, request(ALICE))) == DATA
    wait_until(lambda: not old.exists())
    assert new.exists()


def test_a_registry_that_tells_no_length(setting: BlobWorld, blobs: BlobCache) -> None:
    """Is passed on: nobody could join."""
    setting.registry.silent = True
    assert body_of(setting.ask(blobs, request(ALICE))) == DATA


def test_what_cannot_be_verified_is_passed_on(setting: BlobWorld, blobs: BlobCache) -> None:
    """Whatever its algorithm is."""
    odd = Digest.parse("md5:abc")
    setting.registry.repositories[NAME].blobs[odd] = DATA
    for _ in range(2):
        assert body_of(setting.ask(blobs, request(ALICE), digest=odd)) == DATA
    assert setting.registry.count("GET") == 2


def test_evicted_while_it_is_read(setting: BlobWorld, blobs: BlobCache) -> None:
    """It is read to its end."""
    keep(setting, blobs)
    reply = setting.ask(blobs, request(ALICE))
    setting.storage.blobs.delete(setting.world.row.name, DIGEST)
    assert body_of(reply) == DATA
    keep(setting, blobs)


@in_a_directory
def test_cut_short_on_the_disk(setting: BlobWorld, blobs: BlobCache) -> None:
    """A file that has become shorter ends no answer quietly."""
    keep(setting, blobs)
    reply = setting.ask(blobs, request(ALICE))
    (path,) = (setting.world.storages.directory / "content").rglob(DIGEST.partition(":")[2])
    with path.open("r+b") as file:
        file.truncate(3000)
    with pytest.raises(BodyBroken):
        body_of(reply)
    keep(setting, blobs)


@in_a_directory
def test_handed_over_to_nginx(setting: BlobWorld) -> None:
    """A hit of a GET, and nothing else."""
    setting.accel = "/docxy-cache/"
    blobs = setting.worker()
    cold = setting.ask(blobs, request(ALICE))
    assert body_of(cold) == DATA
    wait_until(setting.is_kept)
    encoded = DIGEST.partition(":")[2]
    place = f"/docxy-cache/r.example/sha256/{encoded[:2]}/{encoded}"
    whole = setting.ask(blobs, request(ALICE))
    assert (whole.status, whole.length, body_of(whole)) == (200, len(DATA), b"")
    assert whole.body == HandedOver(place)
    part = setting.ask(blobs, request(ALICE, Range="bytes=10-99999"))
    assert (part.status, part.length, body_of(part)) == (200, len(DATA) - 10, b"")
    assert part.header("content-range") == part.header("accept-ranges") == ""
    for method, fields in (
        ("HEAD", {}),
        ("GET", {"X-Accel-Failed": "1"}),
        ("GET", {"If-Match": "*"}),
        ("GET", {"If-None-Match": "*"}),
        ("GET", {"Range": "bytes=99999-"}),
    ):
        reply = setting.ask(blobs, request(ALICE, method, **fields))
        assert not isinstance(reply.body, HandedOver)
        reply.close()
