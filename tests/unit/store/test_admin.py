"""Statistics, verification, removal, and what a start tidies."""

import errno
import sqlite3
from io import FileIO
from pathlib import Path

import pytest

from app.oci.reference import Digest, compute_file_digest
from app.store import admin
from app.store.blobs import ContentInfo
from app.store.errors import StoreError
from app.store.storage import VerifyResult
from app.store.store import Store
from tests.unit.store.parts import (
    REGISTRY,
    Stores,
    digest_of,
    faults,
    put_files,
    read,
    rows,
)

DATA = [bytes([number]) * (1000 + number) for number in range(4)]
DIGESTS = [digest_of(data) for data in DATA]


def filled(stores: Stores) -> Store:
    store = stores.open()
    for data in DATA:
        store.keep(data, REGISTRY, digest_of(data), "text/plain")
    return store


def where(stores: Stores, number: int, registry: str = REGISTRY) -> Path:
    name = DIGESTS[number].partition(":")[2]
    return stores.directory / "content" / registry / "sha256" / name[:2] / name


def test_verify_finds_what_is_wrong(stores: Stores) -> None:
    """A flipped bit goes; so does an entry without a file; the rest stays, with its media type."""
    store = filled(stores)
    data = bytearray(DATA[1])
    data[500] ^= 1
    where(stores, 1).write_bytes(data)
    where(stores, 2).unlink()
    found = {checked.digest: checked.fault for checked in store.admin.verify()}
    assert found == {
        DIGESTS[0]: "",
        DIGESTS[1]: "the bytes are wrong",
        DIGESTS[2]: "the file is missing",
        DIGESTS[3]: "",
    }
    assert [store.stat(REGISTRY, digest) is not None for digest in DIGESTS] == [
        True,
        False,
        False,
        True,
    ]
    content = store.open(REGISTRY, DIGESTS[0])
    assert content is not None
    content.blob.close()
    assert content.media_type == "text/plain"
    assert faults(stores.directory) == []
    assert {checked.fault for checked in store.admin.verify()} == {""}


def test_verify_finds_files_without_entries(stores: Stores) -> None:
    """What is right becomes one, what is wrong goes."""
    store = filled(stores)
    for number, data in ((0, DATA[0]), (1, b"wrong")):
        where(stores, number, "ghcr.io").parent.mkdir(parents=True)
        where(stores, number, "ghcr.io").write_bytes(data)
    found = [checked for checked in store.admin.verify() if checked.fault]
    assert sorted(found, key=lambda checked: checked.fault) == [
        VerifyResult("ghcr.io", DIGESTS[0], 1000, "it had no entry"),
        VerifyResult("ghcr.io", DIGESTS[1], 5, "the bytes are wrong"),
    ]
    assert read(store, DIGESTS[0], "ghcr.io") == DATA[0]
    assert faults(stores.directory) == []


def test_verify_mends_a_size(stores: Stores) -> None:
    """The bytes say how large an entry is."""
    store = filled(stores)
    rows(stores.directory, "UPDATE entries SET size = 7 WHERE digest = ?", DIGESTS[0])
    faulty = [checked.fault for checked in store.admin.verify() if checked.fault]
    assert faulty == ["its entry had another size"]
    assert read(store, DIGESTS[0]) == DATA[0]
    assert faults(stores.directory) == []


def test_verify_while_others_work(stores: Stores) -> None:
    """What goes or comes meanwhile is no fault."""
    store, other = filled(stores), stores.open()
    found = []
    for checked in store.admin.verify():
        found.append(checked.fault)
        for digest in DIGESTS[1:]:
            other.delete(REGISTRY, digest)
        other.keep(b"new", REGISTRY, digest_of(b"new"), "")
    assert set(found) == {""}
    assert faults(stores.directory) == []


def test_more_than_one_batch(stores: Stores) -> None:
    """Very many entries are gone through in parts."""
    put_files(stores.directory, [f"{number:010}".encode() for number in range(600)])
    store = stores.open()
    assert sum(1 for _ in store.admin.verify()) == 600
    assert store.admin.remove_older(0) == 600
    assert faults(stores.directory) == []


def begun(stores: Stores, direction: str, number: int, owner: str) -> None:
    content = ContentInfo(
        registry=REGISTRY,
        digest=DIGESTS[number],
        size=len(DATA[number]),
        media_type="text/plain",
    )
    rows(
        stores.directory,
        "INSERT INTO moving(owner, direction, registry, digest, size, media_type) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        owner,
        direction,
        content.registry,
        content.digest,
        content.size,
        content.media_type,
    )


@pytest.mark.parametrize("folder", [True, False], ids=["with its folder", "its folder is gone"])
def test_what_dead_processes_had_begun(stores: Stores, *, folder: bool) -> None:
    """What has come becomes an entry; what did not come, or not whole, is forgotten."""
    filled(stores)
    rows(stores.directory, "DELETE FROM entries WHERE digest != ?", DIGESTS[3])
    where(stores, 1).write_bytes(DATA[1][:-1])
    where(stores, 2).unlink()
    if folder:
        (stores.directory / "aside" / "dead").mkdir()
        (stores.directory / "aside" / "dead" / "half").write_bytes(b"half of a manifest")
    for number in range(4):
        begun(stores, "in", number, "dead")
    begun(stores, "out", 1, "dead")
    begun(stores, "out", 3, "dead")
    store = stores.open()
    assert read(store, DIGESTS[0]) == DATA[0]
    assert read(store, DIGESTS[3]) == DATA[3]
    assert store.stat(REGISTRY, DIGESTS[1]) is None
    assert store.stat(REGISTRY, DIGESTS[2]) is None
    assert not (stores.directory / "aside" / "dead").exists()
    assert faults(stores.directory) == []


def test_what_living_ones_have_begun_is_theirs(stores: Stores) -> None:
    """Another worker's start touches nothing of it."""
    store = filled(stores)
    owner = store._staging.get_owner()  # noqa: SLF001
    half = store._staging.build_path()  # noqa: SLF001
    half.write_bytes(b"half of a manifest")
    begun(stores, "in", 0, owner)
    stores.open()
    assert half.read_bytes() == b"half of a manifest"
    assert len(rows(stores.directory, "SELECT * FROM moving")) == 1
    store.close()
    stores.open()
    assert not half.exists()
    assert rows(stores.directory, "SELECT * FROM moving") == []


def test_a_start_that_cannot_tidy(stores: Stores) -> None:
    """What is kept can be read all the same, and it is said what is wrong."""
    filled(stores)
    begun(stores, "out", 0, "dead")
    with sqlite3.connect(stores.directory / "index.sqlite") as writer:
        writer.execute("BEGIN IMMEDIATE")
        store = stores.open(patience=0)
        assert read(store, DIGESTS[1]) == DATA[1]
        writer.rollback()
    writer.close()
    assert [error.errno for error in store.survived_errors.drain()] == [errno.EBUSY]
    store.admin.recover()
    assert rows(stores.directory, "SELECT * FROM moving") == []


def test_a_directory_that_cannot_be_used(tmp_path: Path, stores: Stores) -> None:
    """It is said at the start."""
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(StoreError, match="cache"):
        stores.open()


def test_what_is_evicted_while_it_is_verified(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither told nor brought back, whether its bytes or its name were looked at."""
    store, other = filled(stores), stores.open()

    def evicted_meanwhile(file: FileIO, digest: Digest) -> str:
        found = compute_file_digest(file, digest)
        if digest in DIGESTS[:2]:
            other.delete(REGISTRY, digest)
        return found

    monkeypatch.setattr(admin, "compute_file_digest", evicted_meanwhile)
    told = {checked.digest: checked.fault for checked in store.admin.verify()}
    assert told == {DIGESTS[2]: "", DIGESTS[3]: ""}
    assert faults(stores.directory) == []


def test_what_is_evicted_before_its_turn(stores: Stores) -> None:
    """An entry that was read from the index, and has gone since with its file, is no fault."""
    store, other = filled(stores), stores.open()
    where(stores, 0).unlink()
    verifying = store.admin.verify()
    told = []
    for checked in verifying:
        if checked.fault:  # all entries were read by now
            for digest in DIGESTS:
                other.delete(REGISTRY, digest)
        told.append(checked.fault)
    assert told == ["", "", "", "the file is missing"]
    assert faults(stores.directory) == []
