"""Room: what goes, in which order, and when there is none."""

import errno
import os
from collections.abc import Callable

import pytest

from app.store import entries
from app.store.blobs import SizeLimits
from app.store.errors import NoRoom, StoreError, fault_of
from app.store.store import Store
from tests.unit.store.parts import (
    REGISTRY,
    Stores,
    described,
    digest_of,
    faults,
    fetched_file,
    files,
    put_files,
    read,
    rows,
)

MANY = [bytes([number]) * 1000 for number in range(10)]


def filled(stores: Stores, limits: SizeLimits) -> Store:
    store = stores.open(limits)
    for data in MANY:
        store.keep(data, REGISTRY, digest_of(data), "")
    return store


def present(store: Store) -> list[int]:
    return [n for n, data in enumerate(MANY) if store.stat(REGISTRY, digest_of(data)) is not None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what tells how many bytes of the disk are free."""

    def tell(free: int) -> None:
        real = os.statvfs("/")
        told = os.statvfs_result((1, 1, *real[2:4], free, *real[5:]))
        monkeypatch.setattr("os.statvfs", lambda _: told)

    return tell


def test_what_is_beside_takes_room(stores: Stores) -> None:
    """It counts as content does, and is not evicted."""
    beside = 0
    store = stores.open(SizeLimits(max_size=10_000, min_free=0), beside=lambda: beside)
    for data in MANY:
        store.keep(data, REGISTRY, digest_of(data), "")
    beside = 2500
    store.make_room(1000)
    assert present(store) == [4, 5, 6, 7, 8, 9]
    beside = 9500
    with pytest.raises(NoRoom):
        store.make_room(1000)
    assert present(store) == [4, 5, 6, 7, 8, 9]


def test_least_recently_used_goes_first(stores: Stores) -> None:
    """What was opened stays before what only came later."""
    store = filled(stores, SizeLimits(max_size=10_000, min_free=0))
    for number in (0, 3):
        assert read(store, digest_of(MANY[number])) is not None
    store.make_room(2500)
    assert present(store) == [0, 3, 5, 6, 7, 8, 9]
    store.make_room(2500)
    assert present(store) == [0, 3, 5, 6, 7, 8, 9]
    assert faults(stores.directory) == []


def test_a_clock_that_is_set_changes_no_order(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use is counted, not timed."""
    store = stores.open(SizeLimits(max_size=10_000, min_free=0))
    for number, data in enumerate(MANY):
        monkeypatch.setattr("time.time", lambda number=number: 10**9 - number * 10**6)
        store.keep(data, REGISTRY, digest_of(data), "")
    store.make_room(7000)
    assert present(store) == [7, 8, 9]


def test_a_new_one_pushes_old_ones_out(stores: Stores) -> None:
    """The size holds after each file that is taken; the new one is never what goes."""
    store = filled(stores, SizeLimits(max_size=10_000, min_free=0))
    data = b"z" * 9_500
    store.adopt(fetched_file(stores.directory, data), described(data))
    assert present(store) == []
    assert read(store, digest_of(data)) == data
    assert faults(stores.directory) == []


def test_more_than_one_transaction(stores: Stores) -> None:
    """A large file that needs the room of very many small ones gets it."""
    put_files(stores.directory, [f"{number:010}".encode() for number in range(600)])
    store = stores.open(SizeLimits(max_size=6_000, min_free=0))
    assert rows(stores.directory, "SELECT count(*) FROM entries") == [(600,)]
    store.make_room(5_995)
    assert rows(stores.directory, "SELECT count(*) FROM entries") == [(0,)]
    assert files(stores.directory) == set()
    assert faults(stores.directory) == []


def test_a_reserve_of_the_disk(stores: Stores, disk: Callable[[int], None]) -> None:
    """Only so much goes as is lacking, though the disk says no different after each file."""
    store = filled(stores, SizeLimits(min_free=0))
    limited = stores.open(SizeLimits(min_free=50_000))
    disk(51_000)
    limited.make_room(1000)
    assert present(store) == [*range(10)]
    disk(50_999)
    limited.make_room(1000)
    assert present(store) == [*range(1, 10)]
    disk(48_000)
    limited.make_room(500)
    assert present(store) == [*range(4, 10)]


def test_what_others_are_about_to_unlink_counts_as_free(
    stores: Stores, disk: Callable[[int], None]
) -> None:
    """Two workers that lack room at once do not evict twice as much."""
    store = filled(stores, SizeLimits(min_free=0))
    limited = stores.open(SizeLimits(min_free=50_000))
    with store._index.transaction() as connection:  # noqa: SLF001 - as another one, before it unlinks
        entry = store._reader._lookup_entry(REGISTRY, digest_of(MANY[0]))  # noqa: SLF001
        assert entry is not None
        entries.remove_entries(connection, store._staging.get_owner(), [entry])  # noqa: SLF001
    disk(50_000)
    limited.make_room(1000)
    assert present(store) == [*range(1, 10)]


def test_no_room_whatever_goes(stores: Stores, disk: Callable[[int], None]) -> None:
    """Then nothing goes: a disk that others have filled is not for the cache to free."""
    store = filled(stores, SizeLimits(min_free=0))
    limited = stores.open(SizeLimits(min_free=50_000))
    disk(30_000)
    for size in (0, 1000):
        with pytest.raises(NoRoom) as caught:
            limited.make_room(size)
        assert caught.value.errno == errno.ENOSPC
    assert present(store) == [*range(10)]


def test_what_is_whole_is_taken_below_the_reserve(
    stores: Stores, disk: Callable[[int], None]
) -> None:
    """A file that is there already takes no more room."""
    store = stores.open(SizeLimits(min_free=50_000))
    disk(30_000)
    store.adopt(fetched_file(stores.directory, MANY[0]), described(MANY[0]))
    assert read(store, digest_of(MANY[0])) == MANY[0]
    with pytest.raises(StoreError):
        store.keep(MANY[1], REGISTRY, digest_of(MANY[1]), "")


def test_what_cannot_be_unlinked(stores: Stores) -> None:
    """It is said, it is not served, and the next start tries again."""
    store = filled(stores, SizeLimits(min_free=0))
    where = stores.directory / "content" / store_location(store, MANY[0])
    where.unlink()
    where.mkdir()
    with pytest.raises(StoreError):
        store.delete(REGISTRY, digest_of(MANY[0]))
    assert read(store, digest_of(MANY[0])) is None
    stores.close()
    where.rmdir()
    where.write_bytes(MANY[0])
    store = stores.open()
    assert not where.exists()
    assert faults(stores.directory) == []


def test_what_came_back_meanwhile_stays(stores: Stores) -> None:
    """Whoever saw an entry without its file, and then forgets it, forgets no newer one."""
    store = filled(stores, SizeLimits(min_free=0))
    seen = store._reader._lookup_entry(REGISTRY, digest_of(MANY[0]))  # noqa: SLF001
    assert seen is not None
    stores.open().keep(MANY[0], REGISTRY, digest_of(MANY[0]), "")
    store._evictor.delete_entry(seen)  # noqa: SLF001
    assert read(store, digest_of(MANY[0])) == MANY[0]


def store_location(store: Store, data: bytes) -> str:
    content = store.open(REGISTRY, digest_of(data))
    assert content is not None
    content.blob.close()
    return content.location


@pytest.mark.parametrize(
    ("limits", "free", "fault"),
    [
        pytest.param(SizeLimits(min_free=0), 2 << 20, "", id="room"),
        pytest.param(SizeLimits(min_free=0), 1000, "no_space", id="a full disk"),
        pytest.param(SizeLimits(min_free=5 << 30), 4 << 30, "min_free", id="what stays free"),
        pytest.param(
            SizeLimits(min_free=0, max_size=2 << 20), 9 << 20, "max_size", id="unfinished"
        ),
        pytest.param(
            SizeLimits(min_free=0, max_size=1 << 19), 9 << 20, "max_size", id="a small one"
        ),
    ],
)
def test_a_probe(
    stores: Stores, disk: Callable[[int], None], limits: SizeLimits, free: int, fault: str
) -> None:
    """It says in a word why a small layer would not be kept."""
    store = stores.open(limits, beside=lambda: 2 << 20)
    disk(free)
    if fault:
        with pytest.raises(StoreError) as caught:
            store.probe()
        assert fault_of(caught.value) == fault
    else:
        store.probe()
    assert faults(stores.directory) == []


def test_a_probe_of_a_small_cache(stores: Stores) -> None:
    """It keeps what is small, and that is no fault of the disk's."""
    stores.open(SizeLimits(min_free=0, max_size=1 << 19)).probe()
