"""Blob stores: one suite for all of them.

What is true of a directory alone, such as what a killed process leaves, has tests of its own.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.oci.reference import Digest
from app.source import BodyBroken, FileBody
from app.store.blobs import BlobStore, ContentInfo, Entry, RegistryUsage, SizeLimits
from app.store.errors import Fault, StoreError
from app.store.memory_blobs import MemoryBlobStore
from app.store.memory_ledger import MemoryLedger
from app.store.store import Store
from tests.unit.store.parts import REGISTRY, Stores, described, digest_of, fetched_file

MAX_SIZE = 3_000_000
LARGE = os.urandom(2_500_000)
"""More than is sent at once."""
DIGEST = digest_of(LARGE)
MANY = [bytes([number]) * (MAX_SIZE // 10) for number in range(10)]


@pytest.fixture(params=["directory", "memory"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], BlobStore]]:
    """Return what opens one blob store as another worker does."""
    if request.param == "memory":
        shared = MemoryBlobStore(MAX_SIZE)
        yield lambda: shared
        return
    stores = Stores(tmp_path / "cache")
    yield lambda: stores.open(SizeLimits(max_size=MAX_SIZE, min_free=0))
    stores.close()


@pytest.fixture
def store(open_store: Callable[[], BlobStore]) -> BlobStore:
    """Return a blob store that is empty."""
    return open_store()


def keep(store: BlobStore, data: bytes, media_type: str = "", registry: str = REGISTRY) -> Digest:
    digest = digest_of(data)
    store.keep(data, registry, digest, media_type)
    return digest


def read(store: BlobStore, digest: Digest, registry: str = REGISTRY) -> bytes | None:
    content = store.open(registry, digest)
    if content is None:
        return None
    with closing(content.blob) as blob:
        data = blob.read()
    assert len(data) == content.size
    return data


def kept(store: BlobStore) -> list[int]:
    return [n for n, data in enumerate(MANY) if store.stat(REGISTRY, digest_of(data)) is not None]


def test_nothing_is_kept(store: BlobStore) -> None:
    """What nobody has kept is absent, and that is no error."""
    assert store.stat(REGISTRY, DIGEST) is None
    assert store.open(REGISTRY, DIGEST) is None
    assert not store.delete(REGISTRY, DIGEST)
    assert store.measure_usage() == {}


def test_what_is_kept_is_described(open_store: Callable[[], BlobStore]) -> None:
    """To every worker, and by its own size, type and time."""
    one, other = open_store(), open_store()
    before = time.time()
    digest = keep(one, b"hello", "text/plain")
    stat, content = other.stat(REGISTRY, digest), other.open(REGISTRY, digest)
    assert stat is not None
    assert content is not None
    content.blob.close()
    assert (stat.size, stat.media_type) == (5, "text/plain")
    assert before <= stat.stored_at <= time.time()
    assert (content.size, content.media_type, content.stored_at) == (
        stat.size,
        stat.media_type,
        stat.stored_at,
    )


def test_registries_are_apart(store: BlobStore) -> None:
    """The same bytes are kept once for each registry."""
    digest = keep(store, b"hello", "a/b", "ghcr.io")
    keep(store, b"hello", "c/d", "localhost:5000")
    keep(store, b"more", "", "ghcr.io")
    assert store.stat(REGISTRY, digest) is None
    assert store.measure_usage() == {
        "ghcr.io": RegistryUsage(2, 9),
        "localhost:5000": RegistryUsage(1, 5),
    }
    assert store.delete("ghcr.io", digest)
    assert not store.delete("ghcr.io", digest)
    assert read(store, digest, "ghcr.io") is None
    assert read(store, digest, "localhost:5000") == b"hello"


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, len(LARGE)), (1, 2), (17, 2_400_000), (len(LARGE) - 1, len(LARGE)), (5, 5)],
)
def test_parts_are_exact(store: BlobStore, start: int, end: int) -> None:
    """And a body goes on where it has stopped, whoever has sent the beginning of it."""
    keep(store, LARGE)
    content = store.open(REGISTRY, DIGEST)
    assert content is not None
    with closing(content.blob.build_body(start, end)) as body:
        sent = list[bytes]()
        if isinstance(body, FileBody):
            body.send_next(lambda file, offset, count: sent.append(os.pread(file, count, offset)))
        sent += [piece for _, piece in zip(range(2), body, strict=False)]
        assert b"".join([*sent, *body]) == LARGE[start:end]
        assert list(body) == []


def test_a_closed_body_gives_nothing(store: BlobStore) -> None:
    """It breaks off, since what was given looks complete otherwise; closing it again is nothing."""
    keep(store, LARGE)
    content = store.open(REGISTRY, DIGEST)
    assert content is not None
    body = content.blob.build_body(0, len(LARGE))
    body.close()
    body.close()
    with pytest.raises(BodyBroken):
        next(iter(body))


def test_what_is_open_is_read_to_its_end(open_store: Callable[[], BlobStore]) -> None:
    """Though another worker deletes it, and something else comes in its place."""
    one, other = open_store(), open_store()
    keep(one, LARGE)
    content = one.open(REGISTRY, DIGEST)
    assert content is not None
    with closing(content.blob.build_body(0, len(LARGE))) as body:
        begun = next(iter(body))
        assert other.delete(REGISTRY, DIGEST)
        assert one.open(REGISTRY, DIGEST) is None
        keep(other, LARGE)
        assert begun + b"".join(body) == LARGE


def find_entry(store: BlobStore, digest: Digest) -> Entry | None:
    """Ask the ledger over a store what is kept."""
    if isinstance(store, Store):
        return store.ledger.lookup("", REGISTRY, "a", digest).entry
    assert isinstance(store, MemoryBlobStore)
    return MemoryLedger(content=store.entries).lookup("", REGISTRY, "a", digest).entry


def test_a_ledger_names_it(store: BlobStore) -> None:
    """And it is opened by what the ledger says, unless it has gone meanwhile."""
    assert find_entry(store, digest_of(MANY[0])) is None
    for data in MANY:
        keep(store, data, "a/b")
    entry = find_entry(store, digest_of(MANY[0]))
    assert entry is not None
    assert (entry.size, entry.media_type) == (len(MANY[0]), "a/b")
    assert store.has_entry(entry)
    content = store.open_entry(entry)
    assert content is not None
    with closing(content.blob) as blob:
        assert blob.read() == MANY[0]
    store.make_room(1)
    assert kept(store) == [0, *range(2, 10)]  # to open it was a use
    assert store.delete(REGISTRY, entry.digest)
    assert not store.has_entry(entry)
    assert store.open_entry(entry) is None


def test_a_file_is_adopted(store: BlobStore, tmp_path: Path) -> None:
    """It is content, and no file of its owner's any more."""
    path = fetched_file(tmp_path / "cache", LARGE)
    store.adopt(path, described(LARGE, ""))
    assert not path.exists()
    assert read(store, DIGEST) == LARGE


@pytest.mark.parametrize(
    ("data", "content"),
    [
        pytest.param(LARGE[1:], described(LARGE), id="shorter"),
        pytest.param(
            b"x",
            ContentInfo(registry=REGISTRY, digest=DIGEST, size=MAX_SIZE + 1, media_type=""),
            id="too large",
        ),
        pytest.param(
            b"x",
            ContentInfo(registry=REGISTRY, digest=Digest("md5:00"), size=1, media_type=""),
            id="unverifiable",
        ),
    ],
)
def test_a_file_that_is_not_adopted(
    data: bytes, content: ContentInfo, store: BlobStore, tmp_path: Path
) -> None:
    """It goes all the same."""
    path = fetched_file(tmp_path / "cache", data)
    with pytest.raises(StoreError):
        store.adopt(path, content)
    assert not path.exists()
    assert store.measure_usage() == {}


def test_wrong_bytes_are_not_kept(store: BlobStore) -> None:
    """Whoever says whose they are."""
    with pytest.raises(StoreError):
        store.keep(b"others", REGISTRY, DIGEST, "")
    with pytest.raises(StoreError):
        store.keep(b"x", REGISTRY, Digest("md5:00"), "")
    assert store.measure_usage() == {}


def test_a_known_type_stays(store: BlobStore, tmp_path: Path) -> None:
    """Bytes that come again without one have it still; another one takes its place."""
    for given, found in (("", ""), ("a/b", "a/b"), ("", "a/b"), ("c/d", "c/d")):
        store.adopt(fetched_file(tmp_path / "cache", b"x"), described(b"x", given))
        stat = store.stat(REGISTRY, digest_of(b"x"))
        assert stat is not None
        assert stat.media_type == found


def test_the_least_recently_used_goes(store: BlobStore) -> None:
    """To look whether it is there is no use, to open it is one, and so is to keep it again."""
    for data in MANY:
        keep(store, data)
    assert store.evicted_count == 0
    assert store.stat(REGISTRY, digest_of(MANY[0])) is not None
    assert read(store, digest_of(MANY[1])) == MANY[1]
    keep(store, MANY[2])
    assert kept(store) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    store.make_room(MAX_SIZE // 10 * 3)
    assert kept(store) == [1, 2, 5, 6, 7, 8, 9]
    assert store.evicted_count == 3
    assert store.measure_usage() == {REGISTRY: RegistryUsage(7, 7 * len(MANY[0]))}


def test_what_never_fits_evicts_nothing(store: BlobStore) -> None:
    """Neither room nor content."""
    for data in MANY:
        keep(store, data)
    with pytest.raises(StoreError) as failed:
        store.make_room(MAX_SIZE + 1)
    assert store.fault_of(failed.value) is Fault.TOO_LARGE
    with pytest.raises(StoreError):
        keep(store, bytes(MAX_SIZE + 1))
    assert len(kept(store)) == 10
    assert store.evicted_count == 0


def test_it_can_keep_more(store: BlobStore) -> None:
    """It says so, and how much."""
    store.probe()
    assert store.count_free_bytes() > 0
    assert store.survived_errors.drain() == []
    assert store.fault_of(PermissionError(13, "no")) is Fault.PERMISSION
