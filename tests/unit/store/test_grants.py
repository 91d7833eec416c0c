"""Grants: time that cannot be lengthened, callers and repositories that are kept apart."""

import time

import pytest

from app.store.ledger import BootClock
from tests.unit.store.parts import (
    REGISTRY,
    ROOMY,
    Stores,
    grant,
    has_grant,
    make_public,
    public_age,
    rows,
)

ALPINE = "library/alpine"


@pytest.mark.parametrize("now", [5, 1000, 1010])
def test_a_reboot_ends_it(stores: Stores, now: float) -> None:
    """Whatever the clock of the new boot shows."""
    store = stores.open()
    grant(store.ledger, "alice", REGISTRY, ALPINE, 60, asked=store.clock.now())
    make_public(store.ledger, REGISTRY, ALPINE, requested_at=store.clock.now())
    stores.clock.boot, stores.clock.time = "second", now
    for _ in range(2):
        assert not has_grant(store.ledger, "alice", REGISTRY, ALPINE)
        assert public_age(store.ledger, REGISTRY, ALPINE) is None
        store = stores.open()
    assert rows(stores.directory, "SELECT * FROM grants") == []


def test_a_wall_clock_that_is_set_changes_nothing(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's own clock counts from its start."""
    stores.clock = BootClock()  # type: ignore[assignment]
    store = stores.open()
    grant(store.ledger, "alice", REGISTRY, ALPINE, 60, asked=store.clock.now())
    grant(store.ledger, "bob", REGISTRY, ALPINE, 0, asked=store.clock.now())
    store.ledger.notes.record("tag", "x", "y", 60)
    for wrong in (0.0, time.time() + 10**6):
        monkeypatch.setattr("time.time", lambda wrong=wrong: wrong)
        assert has_grant(store.ledger, "alice", REGISTRY, ALPINE)
        assert not has_grant(store.ledger, "bob", REGISTRY, ALPINE)
        note = store.ledger.notes.lookup("tag", "x")
        assert note is not None
        assert 0 < note.seconds_left <= 60


def test_what_has_ended_does_not_gather(stores: Stores) -> None:
    """Each new grant takes some of the old ones away, and a start all of them."""
    store = stores.open(ROOMY)
    for number in range(50):
        grant(store.ledger, f"caller {number}", REGISTRY, ALPINE, 10, asked=store.clock.now())
        stores.clock.time += 5
    ((present,),) = rows(stores.directory, "SELECT count(*) FROM grants")
    assert present <= 3
    stores.clock.time += 100
    stores.open()
    assert rows(stores.directory, "SELECT * FROM grants") == []


def test_there_are_only_so_many(stores: Stores) -> None:
    """The oldest go first, whatever was said of them."""
    store = stores.open()
    rows(stores.directory, "UPDATE counts SET most = 3")
    for number in range(5):
        grant(store.ledger, f"caller {number}", REGISTRY, ALPINE, 60, asked=store.clock.now())
        make_public(store.ledger, REGISTRY, f"repository-{number}", requested_at=store.clock.now())
        store.ledger.notes.record("tag", f"key {number}", "value", 60)
    grant(store.ledger, "caller 2", REGISTRY, ALPINE, 60, asked=store.clock.now())
    grant(store.ledger, "caller 5", REGISTRY, ALPINE, 60, asked=store.clock.now())
    told = [has_grant(store.ledger, f"caller {number}", REGISTRY, ALPINE) for number in range(6)]
    assert told == [False, False, True, False, True, True]
    ages = [public_age(store.ledger, REGISTRY, f"repository-{number}") for number in range(5)]
    assert ages == [None, None, 0, 0, 0]
    notes = [store.ledger.notes.lookup("tag", f"key {number}") is not None for number in range(5)]
    assert notes == [False, False, True, True, True]
