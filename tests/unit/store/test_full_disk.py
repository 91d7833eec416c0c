"""A disk that is full: a small tmpfs, which only root can mount."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store.blobs import SizeLimits
from app.store.errors import Fault, StoreError, fault_of
from app.store.store import Store
from tests.disks import mounted
from tests.unit.store.parts import (
    REGISTRY,
    ROOMY,
    Stores,
    described,
    digest_of,
    faults,
    fetched_file,
    grant,
    has_grant,
    read,
    rows,
)

OLD = [bytes([number]) * 300_000 for number in range(4)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return the root of a disk of 3 MB."""
    with mounted(tmp_path / "disk", 3_000_000) as folder:
        yield folder


@pytest.fixture
def stores(disk: Path) -> Iterator[Stores]:
    """Return what opens stores on that disk."""
    made = Stores(disk / "cache")
    yield made
    made.close()


def fill(disk: Path) -> None:
    """Leave not a byte free."""
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 65536)
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as file:
        while True:
            file.write(b"x")
    state = os.statvfs(disk)
    assert state.f_bavail == 0


def note_for_ever(store: Store) -> None:
    """Let the index grow."""
    for number in range(5000):
        store.ledger.notes.record("tag", f"key {number}", "value" * 100, 60)


def test_a_full_disk_keeps_nothing_more(disk: Path, stores: Stores) -> None:
    """What is kept is read, what comes is refused, and all is well when there is room again."""
    store = stores.open()
    for data in OLD:
        store.keep(data, REGISTRY, digest_of(data), "text/plain")
    grant(store.ledger, "alice", REGISTRY, "library/alpine", 60, asked=store.clock.now())
    path = fetched_file(stores.directory, b"finished before it was full")
    fill(disk)
    new = b"n" * 2_000_000
    for _ in range(3):
        with pytest.raises(StoreError) as caught:
            store.keep(new, REGISTRY, digest_of(new), "text/plain")
        assert caught.value.errno == errno.ENOSPC
    with contextlib.suppress(StoreError):  # its bytes are there, and there may be a page left
        store.adopt(path, described(b"finished before it was full"))
    for one in (store, stores.open()):
        assert [read(one, digest_of(data)) for data in OLD] == OLD
        assert read(one, digest_of(new)) is None
        assert has_grant(one.ledger, "alice", REGISTRY, "library/alpine")
        assert not has_grant(one.ledger, "bob", REGISTRY, "library/alpine")
    (disk / "filler").unlink()
    new = b"new" * 1000
    store.keep(new, REGISTRY, digest_of(new), "text/plain")
    assert read(store, digest_of(new)) == new
    store.close()
    stores.open()
    assert faults(stores.directory) == []


def test_old_content_goes_for_new(disk: Path, stores: Stores) -> None:
    """A disk that the cache itself has filled is full of what can go."""
    store = stores.open()
    for data in OLD:
        store.keep(data, REGISTRY, digest_of(data), "text/plain")
    fill(disk)
    new = b"n" * 500_000
    store.keep(new, REGISTRY, digest_of(new), "text/plain")
    assert read(store, digest_of(new)) == new
    assert [store.stat(REGISTRY, digest_of(data)) is not None for data in OLD] == [
        False,
        False,
        True,
        True,
    ]
    assert faults(stores.directory) == []


def test_a_full_disk_while_the_index_grows(disk: Path, stores: Stores) -> None:
    """Whichever write it is that finds no room, it is refused, and nothing is lost by it."""
    store = stores.open()
    store.keep(OLD[0], REGISTRY, digest_of(OLD[0]), "text/plain")
    fill(disk)
    with pytest.raises(StoreError) as caught:
        note_for_ever(store)
    assert caught.value.errno == errno.ENOSPC
    assert read(store, digest_of(OLD[0])) == OLD[0]
    (disk / "filler").unlink()
    store.ledger.notes.record("tag", "another", "value", 60)
    assert faults(stores.directory) == []


def test_room_is_made_on_a_full_disk(disk: Path, stores: Stores) -> None:
    """Though not even the index can be written at first, the oldest go, and the newest stay."""
    store = stores.open()
    for data in OLD:
        store.keep(data, REGISTRY, digest_of(data), "text/plain")
    store.close()
    store = stores.open(SizeLimits(min_free=100_000))
    assert store.stat(REGISTRY, digest_of(OLD[0])) is not None
    fill(disk)
    with pytest.raises(StoreError):
        note_for_ever(store)
    store.make_room(400_000)
    state = os.statvfs(disk)
    assert state.f_bavail * state.f_frsize >= 500_000
    assert read(store, digest_of(OLD[0])) is None
    assert read(store, digest_of(OLD[3])) == OLD[3]
    store.keep(b"new", REGISTRY, digest_of(b"new"), "")
    assert read(store, digest_of(b"new")) == b"new"


def test_an_index_that_finds_no_room(disk: Path, stores: Stores) -> None:
    """Where none can be made, the start says so; a broken one comes back when there is room."""
    store = stores.open()
    store.keep(OLD[0], REGISTRY, digest_of(OLD[0]), "text/plain")
    stores.close()
    size = (stores.directory / "index.sqlite").stat().st_size
    (stores.directory / "index.sqlite").write_bytes(b"broken" * (size // 6))
    fill(disk)
    with pytest.raises(StoreError) as caught:
        stores.open()
    assert caught.value.errno == errno.ENOSPC
    (disk / "filler").unlink()
    store = stores.open()
    assert read(store, digest_of(OLD[0])) == OLD[0]
    assert faults(stores.directory) == []


def test_a_disk_that_can_only_be_read(disk: Path, stores: Stores) -> None:
    """Nothing is kept, whatever is asked is answered, and nothing is taken for lost."""
    store = stores.open(ROOMY)
    store.keep(OLD[0], REGISTRY, digest_of(OLD[0]), "text/plain")
    assert read(store, digest_of(OLD[0])) == OLD[0]
    fetched = fetched_file(stores.directory, OLD[1])
    store._index.close()  # noqa: SLF001 - what is open for writing holds the mount
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        assert read(store, digest_of(OLD[0])) in {OLD[0], None}
        with pytest.raises(StoreError):
            store.keep(OLD[1], REGISTRY, digest_of(OLD[1]), "")
        with pytest.raises(StoreError):
            store.adopt(fetched, described(OLD[1]))
        with pytest.raises(StoreError):
            store.make_room(10**7)
        with pytest.raises(StoreError):
            stores.open()
        assert not has_grant(store.ledger, "alice", REGISTRY, "library/alpine")
        store._index.close()  # noqa: SLF001
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert read(store, digest_of(OLD[0])) == OLD[0]
    assert rows(stores.directory, "SELECT count(*) FROM entries") == [(1,)]


def test_a_probe_of_a_full_disk(disk: Path, stores: Stores) -> None:
    """Of what others have: nothing is kept until there is room. Of what can go: that goes."""
    store = stores.open()
    store.probe()
    fill(disk)
    with pytest.raises(StoreError) as caught:
        store.probe()
    assert fault_of(caught.value) == Fault.NO_SPACE
    (disk / "filler").unlink()
    store.probe()
    for number in range(5):
        data = bytes([number]) * 400_000
        store.keep(data, REGISTRY, digest_of(data), "text/plain")
    fill(disk)
    store.probe()
    assert faults(stores.directory) == []


def test_a_probe_of_a_disk_that_cannot_be_written(disk: Path, stores: Stores) -> None:
    """The same as keeping something there."""
    store = stores.open()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        with pytest.raises(StoreError) as caught:
            store.probe()
        assert fault_of(caught.value) == Fault.READ_ONLY, repr(caught.value)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    store.probe()
