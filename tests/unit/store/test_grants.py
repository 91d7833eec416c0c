"""Grants: time that cannot be lengthened, callers and repositories that are kept apart."""

import time

import pytest

from app.store.clock import BootClock
from app.store.store import Store
from tests.unit.store.parts import REGISTRY, ROOMY, FakeClock, Stores, rows

ALPINE = "library/alpine"


def test_a_grant_is_a_callers_for_a_repository(store: Store) -> None:
    """Nobody else has it, and nothing else is opened by it."""
    grants = store.grants
    grants.grant("alice", REGISTRY, ALPINE, 60, asked=store.clock.now())
    assert grants.has_grant("alice", REGISTRY, ALPINE)
    assert not grants.has_grant("bob", REGISTRY, ALPINE)
    assert not grants.has_grant("", REGISTRY, ALPINE)
    assert not grants.has_grant("alice", REGISTRY, "library")
    assert not grants.has_grant("alice", REGISTRY, ALPINE + "/x")
    assert not grants.has_grant("alice", "ghcr.io", ALPINE)


def test_it_ends(store: Store, clock: FakeClock) -> None:
    """Not a moment later than was said."""
    store.grants.grant("alice", REGISTRY, ALPINE, 60, asked=store.clock.now())
    clock.time += 59.9
    assert store.grants.has_grant("alice", REGISTRY, ALPINE)
    clock.time += 0.1
    assert not store.grants.has_grant("alice", REGISTRY, ALPINE)


def test_a_new_grant_counts_and_not_the_longer_one(store: Store, clock: FakeClock) -> None:
    """A token that lives shorter gives less, whatever an older one gave."""
    store.grants.grant("alice", REGISTRY, ALPINE, 600, asked=store.clock.now())
    store.grants.grant("alice", REGISTRY, ALPINE, 10, asked=store.clock.now())
    clock.time += 11
    assert not store.grants.has_grant("alice", REGISTRY, ALPINE)


@pytest.mark.parametrize("seconds", [0, -5])
def test_no_time_is_no_grant(store: Store, seconds: float) -> None:
    """A token that has expired lets nobody in."""
    store.grants.grant("alice", REGISTRY, ALPINE, 60, asked=store.clock.now())
    store.grants.grant("alice", REGISTRY, ALPINE, seconds, asked=store.clock.now())
    assert not store.grants.has_grant("alice", REGISTRY, ALPINE)


@pytest.mark.parametrize("now", [5, 1000, 1010])
def test_a_reboot_ends_it(stores: Stores, now: float) -> None:
    """Whatever the clock of the new boot shows."""
    store = stores.open()
    store.grants.grant("alice", REGISTRY, ALPINE, 60, asked=store.clock.now())
    store.grants.make_public(REGISTRY, ALPINE, asked=store.clock.now())
    stores.clock.boot, stores.clock.time = "second", now
    for _ in range(2):
        assert not store.grants.has_grant("alice", REGISTRY, ALPINE)
        assert store.grants.public_age(REGISTRY, ALPINE) is None
        store = stores.open()
    assert rows(stores.directory, "SELECT * FROM grants") == []


def test_a_clock_that_goes_back_ends_it(store: Store, clock: FakeClock) -> None:
    """A restored snapshot of a machine, or another time namespace: what is unclear is refused."""
    store.grants.grant("alice", REGISTRY, ALPINE, 60, asked=store.clock.now())
    store.grants.make_public(REGISTRY, ALPINE, asked=store.clock.now())
    clock.time -= 100
    assert not store.grants.has_grant("alice", REGISTRY, ALPINE)
    assert store.grants.public_age(REGISTRY, ALPINE) is None


def test_a_wall_clock_that_is_set_changes_nothing(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's own clock counts from its start."""
    stores.clock = BootClock()  # type: ignore[assignment]
    store = stores.open()
    store.grants.grant("alice", REGISTRY, ALPINE, 60, asked=store.clock.now())
    store.grants.grant("bob", REGISTRY, ALPINE, 0, asked=store.clock.now())
    store.notes.record("tag", "x", "y", 60)
    for wrong in (0.0, time.time() + 10**6):
        monkeypatch.setattr("time.time", lambda wrong=wrong: wrong)
        assert store.grants.has_grant("alice", REGISTRY, ALPINE)
        assert not store.grants.has_grant("bob", REGISTRY, ALPINE)
        note = store.notes.lookup("tag", "x")
        assert note is not None
        assert 0 < note.seconds_left <= 60


def test_public(store: Store, clock: FakeClock) -> None:
    """How long ago, until the registry says otherwise."""
    assert store.grants.public_age(REGISTRY, ALPINE) is None
    store.grants.make_public(REGISTRY, ALPINE, asked=store.clock.now())
    clock.time += 7
    assert store.grants.public_age(REGISTRY, ALPINE) == 7
    assert store.grants.public_age(REGISTRY, "library/nginx") is None
    store.grants.make_public(REGISTRY, ALPINE, asked=store.clock.now())
    assert store.grants.public_age(REGISTRY, ALPINE) == 0
    store.grants.make_private(REGISTRY, ALPINE)
    assert store.grants.public_age(REGISTRY, ALPINE) is None
    assert not store.grants.has_grant("", REGISTRY, ALPINE)


def test_what_has_ended_does_not_gather(stores: Stores) -> None:
    """Each new grant takes some of the old ones away, and a start all of them."""
    store = stores.open(ROOMY)
    for number in range(50):
        store.grants.grant(f"caller {number}", REGISTRY, ALPINE, 10, asked=store.clock.now())
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
        store.grants.grant(f"caller {number}", REGISTRY, ALPINE, 60, asked=store.clock.now())
        store.grants.make_public(REGISTRY, f"repository-{number}", asked=store.clock.now())
        store.notes.record("tag", f"key {number}", "value", 60)
    store.grants.grant("caller 2", REGISTRY, ALPINE, 60, asked=store.clock.now())
    store.grants.grant("caller 5", REGISTRY, ALPINE, 60, asked=store.clock.now())
    told = [store.grants.has_grant(f"caller {number}", REGISTRY, ALPINE) for number in range(6)]
    assert told == [False, False, True, False, True, True]
    ages = [store.grants.public_age(REGISTRY, f"repository-{number}") for number in range(5)]
    assert ages == [None, None, 0, 0, 0]
    notes = [store.notes.lookup("tag", f"key {number}") is not None for number in range(5)]
    assert notes == [False, False, True, True, True]
