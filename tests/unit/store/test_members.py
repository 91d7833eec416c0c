"""Members: what a repository holds is its own."""

from app.store.ledger import Member
from app.store.store import Store
from tests.unit.store.parts import (
    REGISTRY,
    Stores,
    digest_of,
    lookup_member,
    record_member,
    rows,
)

DIGEST = digest_of(b"hello")


def test_media_types_are_each_repositorys(store: Store) -> None:
    """Somebody who has the same bytes says nothing about those of others."""
    record_member(
        store.ledger,
        REGISTRY,
        "library/alpine",
        DIGEST,
        Member("an/index", is_public=False),
        asked=store.clock.now(),
    )
    record_member(
        store.ledger,
        REGISTRY,
        "mallory/alpine",
        DIGEST,
        Member("a/manifest", is_public=False),
        asked=store.clock.now(),
    )
    store.keep(b"hello", REGISTRY, DIGEST, "a/manifest")
    assert lookup_member(store.ledger, REGISTRY, "library/alpine", DIGEST) == Member(
        "an/index", is_public=False
    )
    record_member(store.ledger, REGISTRY, "library/alpine", DIGEST, asked=store.clock.now())
    assert lookup_member(store.ledger, REGISTRY, "library/alpine", DIGEST) == Member(
        "an/index", is_public=False
    )
    record_member(
        store.ledger,
        REGISTRY,
        "library/alpine",
        DIGEST,
        Member("another/index", is_public=False),
        asked=store.clock.now(),
    )
    assert lookup_member(store.ledger, REGISTRY, "library/alpine", DIGEST) == Member(
        "another/index", is_public=False
    )


def test_it_goes_with_the_content(stores: Stores) -> None:
    """What is fetched again has to be learned again, so that rows do not gather."""
    store = stores.open()
    record_member(store.ledger, REGISTRY, "library/alpine", DIGEST, asked=store.clock.now())
    store.keep(b"hello", REGISTRY, DIGEST, "")
    store.keep(b"hello", REGISTRY, DIGEST, "")
    assert lookup_member(store.ledger, REGISTRY, "library/alpine", DIGEST) is not None
    store.delete(REGISTRY, DIGEST)
    assert lookup_member(store.ledger, REGISTRY, "library/alpine", DIGEST) is None


def test_there_are_only_so_many(stores: Stores) -> None:
    """What was learned first is forgotten first."""
    store = stores.open()
    rows(stores.directory, "UPDATE counts SET most = 2")
    for number in range(4):
        record_member(
            store.ledger, REGISTRY, f"repository-{number}", DIGEST, asked=store.clock.now()
        )
    found = [lookup_member(store.ledger, REGISTRY, f"repository-{n}", DIGEST) for n in range(4)]
    assert found == [None, None, Member("", is_public=False), Member("", is_public=False)]
