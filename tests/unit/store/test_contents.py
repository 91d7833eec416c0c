"""What is kept, read: also while it goes, and where something is wrong with it."""

import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from app.store.blobs import SizeLimits
from app.store.store import Store
from tests.unit.store.parts import REGISTRY, Stores, digest_of, faults, files, read, rows

DATA = b"some layer" * 1000
DIGEST = digest_of(DATA)


def lies(stores: Stores) -> Path:
    (where,) = files(stores.directory)
    return stores.directory / "content" / where


def test_it_is_read_to_its_end(stores: Stores) -> None:
    """What is open survives that it is dropped by another worker, and what comes in its place."""
    one, other = stores.open(), stores.open()
    one.keep(DATA, REGISTRY, DIGEST, "text/plain")
    content = one.open(REGISTRY, DIGEST)
    assert content is not None
    with closing(content.blob) as blob:
        assert b"".join(blob.build_body(0, 10)) == DATA[:10]
        assert other.delete(REGISTRY, DIGEST)
        assert one.open(REGISTRY, DIGEST) is None
        assert files(stores.directory) == set()
        other.keep(DATA, REGISTRY, DIGEST, "text/plain")
        assert b"".join(blob.build_body(10, len(DATA))) == DATA[10:]


@pytest.mark.parametrize("size", [0, len(DATA) - 1, len(DATA) + 1])
def test_another_size(stores: Stores, size: int) -> None:
    """A file that was cut or grew is not served, and not kept."""
    store = stores.open()
    store.keep(DATA, REGISTRY, DIGEST, "text/plain")
    os.truncate(lies(stores), size)
    assert store.stat(REGISTRY, DIGEST) is None
    assert store.open(REGISTRY, DIGEST) is None
    assert files(stores.directory) == set()
    assert faults(stores.directory) == []
    store.keep(DATA, REGISTRY, DIGEST, "text/plain")
    assert read(store, DIGEST) == DATA


def test_a_file_that_is_missing(stores: Stores) -> None:
    """Its entry goes too, as soon as it is noticed."""
    store = stores.open()
    store.keep(DATA, REGISTRY, DIGEST, "text/plain")
    lies(stores).unlink()
    assert store.stat(REGISTRY, DIGEST) is None
    assert store.open(REGISTRY, DIGEST) is None
    assert rows(stores.directory, "SELECT * FROM entries") == []
    assert faults(stores.directory) == []


def test_a_link_in_its_place(stores: Stores, tmp_path: Path) -> None:
    """Nothing outside of the store is ever served."""
    store = stores.open()
    store.keep(DATA, REGISTRY, DIGEST, "text/plain")
    where = lies(stores)
    where.unlink()
    (tmp_path / "secret").write_bytes(DATA)
    where.symlink_to(tmp_path / "secret")
    assert store.open(REGISTRY, DIGEST) is None
    assert store.stat(REGISTRY, DIGEST) is None


def test_when_it_came(store: Store) -> None:
    """In seconds of the wall clock, for who wants to say how old it is."""
    before = time.time()
    store.keep(DATA, REGISTRY, DIGEST, "text/plain")
    content = store.open(REGISTRY, DIGEST)
    assert content is not None
    content.blob.close()
    assert before <= content.stored_at <= time.time()


def test_uses_are_written_together(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy worker writes once a second, and the order of uses is right all the same."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    store = stores.open(SizeLimits(max_size=1000, min_free=0))
    data = [bytes([n]) * 100 for n in range(10)]
    for one in data:
        store.keep(one, REGISTRY, digest_of(one), "")
    now[0] += 5
    assert read(store, digest_of(data[0])) is not None
    ((first,),) = rows(stores.directory, "SELECT max(used) FROM entries")
    for one in [*data[1:4], data[0]]:
        assert read(store, digest_of(one)) is not None
    assert rows(stores.directory, "SELECT max(used) FROM entries") == [(first,)]
    now[0] += 1
    assert read(store, digest_of(data[4])) is not None
    ((later,),) = rows(stores.directory, "SELECT max(used) FROM entries")
    assert later > first
    assert read(store, digest_of(data[5])) is not None
    store.make_room(400)
    assert [store.stat(REGISTRY, digest_of(one)) is not None for one in data] == [True] * 6 + [
        False
    ] * 4


def test_a_use_after_a_long_time_is_written_at_once(stores: Stores) -> None:
    """Perhaps nobody asks for anything more, and who removes what is unused asks the index."""
    store = stores.open(SizeLimits(max_size=1000, min_free=0))
    data = [bytes([n]) * 100 for n in range(3)]
    for one in data:
        store.keep(one, REGISTRY, digest_of(one), "")
    rows(stores.directory, "UPDATE entries SET used_at = used_at - 7200")
    for one in data:
        assert read(store, digest_of(one)) is not None
    assert stores.open().admin.remove_unused(3600) == 0


def test_a_reader_does_not_wait_for_a_writer(stores: Stores) -> None:
    """Uses that cannot be written are written with the next ones."""
    store = stores.open(SizeLimits(max_size=1000, min_free=0), patience=30)
    for data in (b"one", b"two"):
        store.keep(data, REGISTRY, digest_of(data), "")
    with stores.open()._index.transaction():  # noqa: SLF001 - as another process does
        began = time.monotonic()
        assert read(store, digest_of(b"one")) == b"one"
        assert time.monotonic() - began < 10
    store.make_room(995)
    assert store.stat(REGISTRY, digest_of(b"one")) is not None
    assert store.stat(REGISTRY, digest_of(b"two")) is None
