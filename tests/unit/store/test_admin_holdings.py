"""What repositories hold, as an operator looks through it and lets it go."""

from app.store.admin import MemberContent
from app.store.ledger import Member
from app.store.store import Store
from tests.unit.store.parts import REGISTRY, Stores, digest_of, faults, record_member

DATA = [b"zero", b"one", b"two"]
ZERO, ONE, TWO = (digest_of(data) for data in DATA)


def filled(store: Store) -> None:
    for data in DATA:
        store.keep(data, REGISTRY, digest_of(data), "text/plain")
    for repository, digest in (("a", ZERO), ("a", ONE), ("b", ONE), ("b", TWO)):
        record_member(
            store.ledger,
            REGISTRY,
            repository,
            digest,
            Member(f"of/{repository}", is_public=False),
            asked=store.clock.now(),
        )
    record_member(
        store.ledger,
        "ghcr.io",
        "a",
        TWO,
        Member("of/another", is_public=False),
        asked=store.clock.now(),
    )


def test_what_a_repository_holds(store: Store) -> None:
    """As the registry calls it there; what is not kept is not told."""
    filled(store)
    record_member(
        store.ledger,
        REGISTRY,
        "a",
        digest_of(b"not kept"),
        Member("x/y", is_public=False),
        asked=store.clock.now(),
    )
    found = sorted(store.catalog.list_content(REGISTRY, "a"), key=lambda one: one.size)
    assert found == [MemberContent(ONE, "of/a", 3), MemberContent(ZERO, "of/a", 4)]
    assert store.catalog.list_content("ghcr.io", "a") == []


def test_what_it_lets_go(stores: Stores) -> None:
    """What another one holds stays, and so does what it never held."""
    store = stores.open()
    filled(store)
    assert store.catalog.remove_members(REGISTRY, "a", [ZERO, ONE, TWO]) == [ZERO]
    assert store.stat(REGISTRY, ZERO) is None
    assert store.stat(REGISTRY, ONE) is not None
    assert store.stat(REGISTRY, TWO) is not None
    assert store.catalog.list_content(REGISTRY, "a") == []
    assert store.catalog.remove_members(REGISTRY, "b", [ONE]) == [ONE]
    assert faults(stores.directory) == []


def test_reading(store: Store) -> None:
    """What is not there, is too long or cannot be kept is nothing."""
    filled(store)
    assert store.catalog.read(REGISTRY, ZERO, 4) == b"zero"
    assert store.catalog.read(REGISTRY, ZERO, 3) == b""
    assert store.catalog.read(REGISTRY, digest_of(b"else"), 10) == b""
    assert store.catalog.read("../..", ZERO, 10) == b""
