"""Refusals: what counts against the answer to an older question, and for how long."""

from app.store.members import PLAIN
from app.store.refusals import LIFETIME
from app.store.store import Store
from tests.unit.store.parts import REGISTRY, FakeClock, Stores, digest_of, rows

ALPINE = "library/alpine"
DIGEST = digest_of(b"hello")


def granted(store: Store, caller: str, asked: float, repository: str = ALPINE) -> bool:
    """Have a yes written, and tell whether it was."""
    return store.grants.grant(caller, REGISTRY, repository, 60, asked=asked)


def test_a_refusal_is_of_one_subject(store: Store, clock: FakeClock) -> None:
    """A caller's is nobody else's, and says nothing of what everybody may read or of content."""
    asked = clock.time
    clock.time += 1
    store.grants.revoke("alice", REGISTRY, ALPINE)
    assert not granted(store, "alice", asked)
    assert granted(store, "bob", asked)
    assert granted(store, "alice", asked, "library/nginx")
    assert store.grants.make_public(REGISTRY, ALPINE, asked=asked)
    store.members.record(REGISTRY, ALPINE, DIGEST, PLAIN, asked=asked)
    assert store.members.lookup(REGISTRY, ALPINE, DIGEST) == PLAIN
    assert not granted(store, "alice", clock.time)
    assert granted(store, "alice", clock.time + 0.001)


def test_no_answer_takes_a_day(store: Store, clock: FakeClock) -> None:
    """When a refusal is forgotten, the answer to an older question is none any more."""
    clock.time += LIFETIME
    assert not granted(store, "alice", clock.time - LIFETIME)
    assert not store.grants.make_public(REGISTRY, ALPINE, asked=clock.time - LIFETIME)
    store.members.record(REGISTRY, ALPINE, DIGEST, PLAIN, asked=clock.time - LIFETIME)
    assert store.members.lookup(REGISTRY, ALPINE, DIGEST) is None
    assert granted(store, "alice", clock.time - LIFETIME + 1)


def test_old_ones_do_not_accumulate(stores: Stores) -> None:
    """Each new one removes some, and a start those of an earlier boot."""
    store = stores.open()
    for number in range(30):
        store.grants.revoke(f"caller {number}", REGISTRY, ALPINE)
    stores.clock.time += LIFETIME
    for _ in range(4):
        store.grants.revoke("alice", REGISTRY, ALPINE)
    assert rows(stores.directory, "SELECT subject FROM refusals") == [("caller alice",)]
    stores.clock.boot = "second"
    stores.open()
    assert rows(stores.directory, "SELECT subject FROM refusals") == []


def test_a_full_table_forgets_no_refusal(stores: Stores) -> None:
    """What is older than its oldest row may be older than one that went."""
    store, clock = stores.open(), stores.clock
    rows(stores.directory, "UPDATE counts SET most = 3 WHERE name = 'refusals'")
    asked = clock.time
    for number in range(5):
        clock.time += 1
        store.grants.revoke(f"caller {number}", REGISTRY, ALPINE)
    for caller in ("caller 0", "caller 4", "alice"):
        assert not granted(store, caller, asked)
    assert not granted(store, "caller 4", asked + 4)
    assert granted(store, "caller 0", asked + 4)
