"""Notes: fresh, stale, of an earlier boot."""

import json
from concurrent.futures import ThreadPoolExecutor

from app.store.ledger import MAX_NOTE_LENGTH, Note
from app.store.store import Store
from tests.unit.store.parts import Stores, faults, rows


def test_nothing_is_told_of_strange_rows(store: Store) -> None:
    """An index that somebody has written in gives no fresh note."""
    store.ledger.notes.record("tag", "x", "1", 60)
    rows(store.admin._layout.directory, "UPDATE notes SET boot = ''")  # noqa: SLF001
    assert store.ledger.notes.lookup("tag", "x") == Note("1", 0, None)


def test_tables_have_only_so_many_bytes(stores: Stores) -> None:
    """The oldest go first, however many there may be; and each table has its own bytes."""
    store = stores.open()
    rows(stores.directory, "UPDATE sizes SET most = 100000 WHERE name IN ('tokens', 'lists')")
    store.ledger.tags.record("tag", "x", "v", 60)
    for table in (store.ledger.tokens, store.ledger.lists):
        for number in range(200):
            table.record("kind", f"{number}", "\u00fc" * 1000, 60)
        held = [number for number in range(200) if table.lookup("kind", f"{number}")]
        assert held == list(range(200 - len(held), 200))
        assert 30 < len(held) < 50
        table.record("kind", "large", "v" * MAX_NOTE_LENGTH, 60)
        table.record("kind", "large", "v" * (MAX_NOTE_LENGTH // 2), 60)
        assert table.lookup("kind", "large") is not None
    assert store.ledger.tags.lookup("tag", "x") is not None
    sizes = rows(stores.directory, "SELECT bytes FROM sizes WHERE name IN ('tokens', 'lists')")
    assert all(size <= 100_000 for (size,) in sizes)
    assert not faults(stores.directory)


def test_tokens_that_have_expired_leave(stores: Stores) -> None:
    """Each new one takes some of them along, and a start all of them; other notes stay."""
    store, clock = stores.open(), stores.clock
    for number in range(20):
        store.ledger.tokens.record("kind", f"{number}", "v", 60)
        store.ledger.tags.record("kind", f"{number}", "v", 60)
    clock.time += 60
    store.ledger.tokens.record("kind", "new", "v", 60)
    assert rows(stores.directory, "SELECT count(*) FROM tokens") == [(5,)]
    store.ledger.tokens.record("kind", "new", "v", 60)
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
            threads.submit(worker.ledger.tags.add_to_set, "set", "x", [f"{number:02}"], 100, 60)
    note = store.ledger.tags.lookup("set", "x")
    assert note is not None
    assert json.loads(note.value) == [f"{number:02}" for number in range(24)]
    for _ in range(2):
        store.ledger.tags.add_to_set("set", "y", ["c", "b", "a"], 1, 60)
    assert store.ledger.tags.lookup("set", "y") == Note('["a", "b"]', 60, 0)
