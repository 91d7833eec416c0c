"""Notes: fresh, stale, of an earlier boot."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.store.errors import StoreError
from app.store.notes import LONGEST, Note
from app.store.store import Store
from tests.unit.store.parts import FakeClock, Stores, faults, rows


def test_a_note_gets_stale_and_stays(store: Store, clock: FakeClock) -> None:
    """Whoever wants to may still use it, and knows how old it is."""
    store.notes.record("tag", "alpine:3", "sha256:1", 60)
    assert store.notes.lookup("tag", "alpine:3") == Note("sha256:1", 60, 0)
    clock.time += 45
    assert store.notes.lookup("tag", "alpine:3") == Note("sha256:1", 15, 45)
    clock.time += 45
    assert store.notes.lookup("tag", "alpine:3") == Note("sha256:1", 0, 90)


def test_after_a_reboot(store: Store, clock: FakeClock) -> None:
    """Nobody knows how long the machine was off."""
    store.notes.record("tag", "alpine:3", "sha256:1", 60)
    clock.boot, clock.time = "second", 2000
    assert store.notes.lookup("tag", "alpine:3") == Note("sha256:1", 0, None)


def test_a_clock_that_goes_back(store: Store, clock: FakeClock) -> None:
    """What seems to come from the future is stale."""
    store.notes.record("tag", "alpine:3", "sha256:1", 60)
    clock.time -= 1
    assert store.notes.lookup("tag", "alpine:3") == Note("sha256:1", 0, None)


def test_kinds_are_apart(store: Store) -> None:
    """A key is one of its kind."""
    store.notes.record("tag", "x", "1", 60)
    store.notes.record("token", "x", "2\x00\U0001f40b", 60)
    assert store.notes.lookup("tag", "x") == Note("1", 60, 0)
    assert store.notes.lookup("token", "x") == Note("2\x00\U0001f40b", 60, 0)
    store.notes.delete("tag", "x")
    assert store.notes.lookup("tag", "x") is None
    assert store.notes.lookup("token", "x") is not None


def test_what_is_too_long(store: Store) -> None:
    """It leaves what was there."""
    store.notes.record("tag", "x", "v" * LONGEST, 60)
    with pytest.raises(StoreError, match="65537 characters"):
        store.notes.record("tag", "x", "v" * (LONGEST + 1), 60)
    assert store.notes.lookup("tag", "x") == Note("v" * LONGEST, 60, 0)


def test_nothing_is_told_of_strange_rows(store: Store) -> None:
    """An index that somebody has written in gives no fresh note."""
    store.notes.record("tag", "x", "1", 60)
    rows(store.maintenance._layout.directory, "UPDATE notes SET boot = ''")  # noqa: SLF001
    assert store.notes.lookup("tag", "x") == Note("1", 0, None)


def test_keys_that_begin_so(store: Store) -> None:
    """Whatever else there is: nothing is taken for a pattern."""
    for kind, key in (
        ("tag", "a:1 x"),
        ("tag", "a:1 \u00e9"),
        ("tag", "a:1 "),
        ("tag", "a:1"),
        ("tag", "a:10 x"),
        ("tag", "A:1 x"),
        ("tag", "%:1 x"),
        ("other", "a:1 x"),
    ):
        store.notes.record(kind, key, key.upper(), 10)
    assert store.notes.lookup_prefix("tag", "a:1 ") == {
        "a:1 x": "A:1 X",
        "a:1 \u00e9": "A:1 \u00c9",
        "a:1 ": "A:1 ",
    }
    assert store.notes.lookup_prefix("tag", "%:1") == {"%:1 x": "%:1 X"}
    assert len(store.notes.lookup_prefix("tag", "")) == 7
    assert store.notes.lookup_prefix("nothing", "") == {}


def test_lists_are_apart(store: Store) -> None:
    """They have a table of their own, and the latest of those that begin alike can be kept."""
    store.notes.record("list", "a x", "note", 60)
    for key in ("a 1", "a 2", "ab 1", "b 1", "a 3", "a 1"):
        store.lists.record("list", key, key, 60)
    store.lists.record("other", "a 1", "x", 60)
    store.lists.keep_latest("list", "a ", 2)
    assert list(store.lists.lookup_prefix("list", "")) == ["a 1", "a 3", "ab 1", "b 1"]
    assert store.lists.lookup("other", "a 1") is not None
    assert store.notes.lookup("list", "a x") == Note("note", 60, 0)
    assert store.lists.lookup("list", "a x") is None


def test_tables_have_only_so_many_bytes(stores: Stores) -> None:
    """The oldest go first, however many there may be; and each table has its own bytes."""
    store = stores.open()
    rows(stores.directory, "UPDATE sizes SET most = 100000 WHERE name IN ('tokens', 'lists')")
    store.tags.record("tag", "x", "v", 60)
    for table in (store.tokens, store.lists):
        for number in range(200):
            table.record("kind", f"{number}", "\u00fc" * 1000, 60)
        held = [number for number in range(200) if table.lookup("kind", f"{number}")]
        assert held == list(range(200 - len(held), 200))
        assert 30 < len(held) < 50
        table.record("kind", "large", "v" * LONGEST, 60)
        table.record("kind", "large", "v" * (LONGEST // 2), 60)
        assert table.lookup("kind", "large") is not None
    assert store.tags.lookup("tag", "x") is not None
    sizes = rows(stores.directory, "SELECT bytes FROM sizes WHERE name IN ('tokens', 'lists')")
    assert all(size <= 100_000 for (size,) in sizes)
    assert not faults(stores.directory)


def test_tokens_that_have_expired_leave(stores: Stores) -> None:
    """Each new one takes some of them along, and a start all of them; other notes stay."""
    store, clock = stores.open(), stores.clock
    for number in range(20):
        store.tokens.record("kind", f"{number}", "v", 60)
        store.tags.record("kind", f"{number}", "v", 60)
    clock.time += 60
    store.tokens.record("kind", "new", "v", 60)
    assert rows(stores.directory, "SELECT count(*) FROM tokens") == [(5,)]
    store.tokens.record("kind", "new", "v", 60)
    assert rows(stores.directory, "SELECT key FROM tokens") == [("new",)]
    clock.boot, clock.time = "second", 5
    stores.open()
    assert rows(stores.directory, "SELECT count(*) FROM tokens") == [(0,)]
    assert rows(stores.directory, "SELECT count(*) FROM tags") == [(20,)]
    assert not faults(stores.directory)


def test_a_set_grows_by_all_workers(store: Store, stores: Stores) -> None:
    """None loses what another adds; one of too many members gets no more, and shows that."""
    other = stores.open()
    with ThreadPoolExecutor(8) as threads:
        for number in range(24):
            worker = (store, other)[number % 2]
            threads.submit(worker.tags.add_to_set, "set", "x", [f"{number:02}"], 100, 60)
    note = store.tags.lookup("set", "x")
    assert note is not None
    assert json.loads(note.value) == [f"{number:02}" for number in range(24)]
    for _ in range(2):
        store.tags.add_to_set("set", "y", ["c", "b", "a"], 1, 60)
    assert store.tags.lookup("set", "y") == Note('["a", "b"]', 60, 0)
