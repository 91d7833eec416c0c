"""The index: broken, gone, of another schema, in use by others."""

import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.store import schema
from app.store.errors import StoreError
from app.store.store import Store
from tests.unit.store.parts import (
    REGISTRY,
    Stores,
    digest_of,
    faults,
    files,
    grant,
    has_grant,
    lookup_member,
    make_public,
    public_age,
    read,
    record_member,
    revoke,
    rows,
)

DATA = [bytes([n]) * (n * 1000 + 1) for n in range(20)]


def filled(stores: Stores) -> Store:
    """Return a store with content, and much else."""
    store = stores.open()
    for data in DATA:
        store.keep(data, REGISTRY, digest_of(data), "text/plain")
        record_member(
            store.ledger, REGISTRY, "library/alpine", digest_of(data), asked=store.clock.now()
        )
    grant(store.ledger, "alice", REGISTRY, "library/alpine", 60, asked=store.clock.now())
    make_public(store.ledger, REGISTRY, "library/alpine", requested_at=store.clock.now())
    store.ledger.notes.record("tag", "library/alpine:3", "sha256:0", 60)
    return store


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def holes(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        for offset in range(4096 * 2, size, 4096):
            file.seek(offset)
            file.write(b"\xff" * 4096)


def lost_row(path: Path) -> None:
    """Leave an index of a table without one of its rows."""
    with sqlite3.connect(path) as index:
        (where,) = index.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'entries_used'"
        ).fetchone()
    index.close()
    with path.open("r+b") as file:
        file.seek((where - 1) * 4096 + 3)
        number = int.from_bytes(file.read(2))
        file.seek((where - 1) * 4096 + 3)
        file.write((number - 1).to_bytes(2))


def older(path: Path) -> None:
    with sqlite3.connect(path) as index:
        index.execute("PRAGMA user_version = 0")
    index.close()


@pytest.mark.parametrize("ruin", [garbage, nothing, cut, holes, lost_row, older])
def test_a_broken_index_is_made_anew(stores: Stores, ruin: Callable[[Path], None]) -> None:
    """Content is found again by its files; whatever else was known has to be learned again."""
    filled(stores)
    stores.close()
    ruin(stores.directory / "index.sqlite")
    store = stores.open()
    (told,) = store.survived_errors.drain()
    assert "the index is broken, and made anew" in str(told)
    assert store.survived_errors.drain() == []
    assert [read(store, digest_of(data)) for data in DATA] == DATA
    assert lookup_member(store.ledger, REGISTRY, "library/alpine", digest_of(DATA[0])) is None
    assert not has_grant(store.ledger, "alice", REGISTRY, "library/alpine")
    assert public_age(store.ledger, REGISTRY, "library/alpine") is None
    assert store.ledger.notes.lookup("tag", "library/alpine:3") is None
    assert faults(stores.directory) == []
    assert (stores.directory / "index.sqlite.broken").exists()


@pytest.mark.parametrize("ruin", [garbage, nothing, holes])
def test_an_index_that_breaks_while_it_is_used(
    stores: Stores, ruin: Callable[[Path], None]
) -> None:
    """Reads say that nothing is here, never anything wrong; then it is made anew, once."""
    store, other = filled(stores), stores.open()
    assert read(other, digest_of(DATA[0])) == DATA[0]
    for one in (store, other):
        one._index.close()  # noqa: SLF001 - whatever is written is in the file then
    ruin(stores.directory / "index.sqlite")
    for _ in range(3):
        for one in (store, other):
            assert {read(one, digest_of(data)) for data in DATA} <= {None, *DATA}
    assert [read(store, digest_of(data)) for data in DATA] == DATA
    assert [read(other, digest_of(data)) for data in DATA] == DATA
    other.keep(b"more", REGISTRY, digest_of(b"more"), "")
    assert read(store, digest_of(b"more")) == b"more"
    assert faults(stores.directory) == []


def test_least_used_first_after_it_was_made_anew(stores: Stores) -> None:
    """The order in which files came is what is left of their use."""
    filled(stores)
    stores.close()
    times = {}
    for path in (stores.directory / "content").rglob("*"):
        if path.is_file():
            times[path] = path.stat().st_size
            os.utime(path, ns=(0, 10**18 - path.stat().st_size))  # the largest came first
    (stores.directory / "index.sqlite").unlink()
    store = stores.open()
    for data in sorted(DATA, key=len, reverse=True)[:3]:
        assert store.stat(REGISTRY, digest_of(data)) is not None
    ordered = rows(stores.directory, "SELECT size FROM entries ORDER BY used")
    assert [size for (size,) in ordered] == sorted(times.values(), reverse=True)
    assert store.admin.remove_unused(60) == 0  # when they were used is not known
    store.keep(b"new", REGISTRY, digest_of(b"new"), "")
    ((last,),) = rows(stores.directory, "SELECT digest FROM entries ORDER BY used DESC LIMIT 1")
    assert last == digest_of(b"new")


def test_what_is_no_content_is_no_entry(stores: Stores) -> None:
    """Files with other names, links and folders are nobody's: they are left alone."""
    filled(stores)
    stores.close()
    content = stores.directory / "content"
    digest = digest_of(b"elsewhere")
    good = digest.partition(":")[2]
    strange = [
        content / "file",
        content / REGISTRY / "sha256" / "zz" / good,
        content / REGISTRY / "sha256" / good[:2] / "short",
        content / REGISTRY / "md5" / "ab" / ("ab" * 16),
        content / ".hidden" / "sha256" / good[:2] / good,
        content / "UPPER" / "sha256" / good[:2] / good,
    ]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"elsewhere")
    link = content / "quay.io" / "sha256" / good[:2] / good
    link.parent.mkdir(parents=True)
    link.symlink_to(strange[0])
    (content / "gcr.io" / "sha256" / good[:2] / good).mkdir(parents=True)
    (stores.directory / "index.sqlite").unlink()
    store = stores.open()
    statistics = store.admin.statistics()
    assert {name: share.entries for name, share in statistics.registries.items()} == {
        REGISTRY: len(DATA)
    }
    assert all(path.exists() for path in strange)
    assert store.stat("quay.io", digest) is None


def test_the_state_changes_when_others_can_see_the_change(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they take from the index before must not look as new; SQLite writes its log first."""
    store, other = stores.open(), stores.open()
    seen = list[bool]()

    def touch(path: str) -> None:
        assert path.endswith("-wal")
        seen.append(has_grant(other.ledger, "alice", REGISTRY, "a/b"))

    monkeypatch.setattr("app.store.index.os.utime", touch)
    grant(store.ledger, "alice", REGISTRY, "a/b", 60, asked=store.clock.now())
    assert seen == [True]
    with store.ledger.transaction():
        pass
    assert seen == [True], "nothing was written"


def test_a_newer_schema_is_refused(stores: Stores) -> None:
    """The message says what to do, and nothing is changed."""
    filled(stores)
    stores.close()
    rows(stores.directory, f"PRAGMA user_version = {schema.VERSION + 1}")
    before = (stores.directory / "index.sqlite").read_bytes()
    message = rf"a newer Docxy \(schema {schema.VERSION + 1}, this one knows {schema.VERSION}\)"
    with pytest.raises(StoreError, match=message):
        stores.open()
    assert (stores.directory / "index.sqlite").read_bytes() == before
    assert not (stores.directory / "index.sqlite.broken").exists()
    assert len(files(stores.directory)) == len(DATA)


def test_a_newer_schema_that_comes_while_it_is_used(stores: Stores) -> None:
    """Nothing is read from what a newer Docxy has made, and nothing written to it."""
    store = filled(stores)
    store._index.close()  # noqa: SLF001
    rows(stores.directory, f"PRAGMA user_version = {schema.VERSION + 1}")
    assert read(store, digest_of(DATA[0])) is None
    assert not has_grant(store.ledger, "alice", REGISTRY, "library/alpine")
    with pytest.raises(StoreError, match="newer Docxy"):
        store.keep(b"more", REGISTRY, digest_of(b"more"), "")


def test_another_programs_database_is_refused(stores: Stores) -> None:
    """Whoever names the wrong directory keeps what is there."""
    stores.directory.mkdir()
    rows(stores.directory, "CREATE TABLE theirs(x)")
    with pytest.raises(StoreError, match="is not Docxy's"):
        stores.open()
    assert rows(stores.directory, "SELECT name FROM sqlite_schema") == [("theirs",)]


def test_all_is_deleted_under_its_feet(stores: Stores) -> None:
    """Nothing is here any more, and what comes is kept again."""
    store, other = filled(stores), stores.open()
    assert read(other, digest_of(DATA[0])) == DATA[0]
    shutil.rmtree(stores.directory)
    for one in (store, other):
        assert read(one, digest_of(DATA[0])) is None
        assert not has_grant(one.ledger, "alice", REGISTRY, "library/alpine")
    store.keep(b"more", REGISTRY, digest_of(b"more"), "text/plain")
    other.keep(b"other", REGISTRY, digest_of(b"other"), "text/plain")
    for one in (store, other):
        assert read(one, digest_of(b"more")) == b"more"
        assert read(one, digest_of(b"other")) == b"other"
    assert faults(stores.directory) == []


def test_only_the_index_is_deleted(stores: Stores) -> None:
    """What SQLite has beside it is of the old one, and would ruin the new one."""
    store = filled(stores)
    assert (stores.directory / "index.sqlite-wal").stat().st_size > 0
    (stores.directory / "index.sqlite").unlink()
    other = stores.open()
    assert [read(other, digest_of(data)) for data in DATA] == DATA
    assert lookup_member(other.ledger, REGISTRY, "library/alpine", digest_of(DATA[0])) is None
    assert [read(store, digest_of(data)) for data in DATA] == DATA
    assert faults(stores.directory) == []


def test_only_the_content_is_deleted(stores: Stores) -> None:
    """An entry without its file is none."""
    store = filled(stores)
    shutil.rmtree(stores.directory / "content")
    assert store.stat(REGISTRY, digest_of(DATA[0])) is None
    assert [read(store, digest_of(data)) for data in DATA] == [None] * len(DATA)
    assert rows(stores.directory, "SELECT * FROM entries") == []
    store.keep(DATA[0], REGISTRY, digest_of(DATA[0]), "text/plain")
    assert read(store, digest_of(DATA[0])) == DATA[0]


def test_a_write_waits_for_another_and_not_for_ever(stores: Stores) -> None:
    """Who holds the index too long is not waited for; reads go on meanwhile."""
    store, hasty = filled(stores), stores.open(patience=0.05)
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with store._index.transaction():  # noqa: SLF001
            holding.set()
            go_on.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert holding.wait(30)
        with pytest.raises(StoreError) as caught:
            revoke(hasty.ledger, "alice", REGISTRY, "library/alpine")
        assert caught.value.errno == errno.EBUSY
        assert read(hasty, digest_of(DATA[0])) == DATA[0]
        assert has_grant(hasty.ledger, "alice", REGISTRY, "library/alpine")
        waiting = threading.Thread(
            target=revoke, args=(store.ledger, "alice", REGISTRY, "library/alpine")
        )
        waiting.start()
    finally:
        go_on.set()
        holder.join(30)
    waiting.join(30)
    assert not has_grant(hasty.ledger, "alice", REGISTRY, "library/alpine")


def test_what_fails_within_a_change_changes_nothing(stores: Stores) -> None:
    """A transaction is all or nothing, and its connection can be used again."""
    store = filled(stores)
    index = store._index  # noqa: SLF001

    def fail(*statements: str) -> None:
        with index.transaction() as connection:
            for statement in statements:
                connection.execute(statement)
            raise LookupError

    with pytest.raises(LookupError):
        fail("DELETE FROM entries")
    with pytest.raises(StoreError, match="no such table"):
        fail("DELETE FROM entries", "DELETE FROM nowhere")
    assert read(store, digest_of(DATA[0])) == DATA[0]
    assert faults(stores.directory) == []


def test_a_child_uses_no_connection_of_its_parents(stores: Stores) -> None:
    """A process that was forked opens its own, and keeps its own folder."""
    store = filled(stores)
    assert read(store, digest_of(DATA[0])) == DATA[0]
    context = __import__("multiprocessing").get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child() -> None:
        store.keep(b"child", REGISTRY, digest_of(b"child"), "")
        data, theirs = read(store, digest_of(DATA[1])), store._index._inherited  # noqa: SLF001
        sender.send((data, store._staging.get_owner(), len(theirs)))  # noqa: SLF001
        os._exit(0)

    process = context.Process(target=child)
    process.start()
    assert receiver.poll(30)
    data, owner, unused = receiver.recv()
    process.join(30)
    assert unused == 1
    assert data == DATA[1]
    assert owner != store._staging.get_owner()  # noqa: SLF001
    assert read(store, digest_of(b"child")) == b"child"
    store.admin.recover()
    assert not (stores.directory / "aside" / owner).exists()
    assert faults(stores.directory) == []
