"""Refusals: what counts against the answer to an older question, and for how long."""

from app.store.ledger import REFUSAL_LIFETIME
from tests.unit.store.parts import (
    REGISTRY,
    Stores,
    grant,
    revoke,
    rows,
)

ALPINE = "library/alpine"


def test_old_ones_do_not_accumulate(stores: Stores) -> None:
    """Each new one removes some, and a start those of an earlier boot."""
    store = stores.open()
    for number in range(30):
        revoke(store.ledger, f"caller {number}", REGISTRY, ALPINE)
    stores.clock.time += REFUSAL_LIFETIME
    for _ in range(4):
        revoke(store.ledger, "alice", REGISTRY, ALPINE)
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
        revoke(store.ledger, f"caller {number}", REGISTRY, ALPINE)
    for caller in ("caller 0", "caller 4", "alice"):
        assert not grant(store.ledger, caller, REGISTRY, ALPINE, 60, asked=asked)
    assert not grant(store.ledger, "caller 4", REGISTRY, ALPINE, 60, asked=asked + 4)
    assert grant(store.ledger, "caller 0", REGISTRY, ALPINE, 60, asked=asked + 4)
