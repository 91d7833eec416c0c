"""Members: what a repository holds is its own."""

from app.store.members import Member
from app.store.store import Store
from tests.unit.store.parts import REGISTRY, Stores, digest_of, rows

DIGEST = digest_of(b"hello")


def test_a_member_is_one_repositorys(store: Store) -> None:
    """Knowing a digest opens it nowhere else."""
    store.members.record(
        REGISTRY, "library/alpine", DIGEST, Member("a/b", is_public=False), asked=store.clock.now()
    )
    assert store.members.lookup(REGISTRY, "library/alpine", DIGEST) == Member(
        "a/b", is_public=False
    )
    assert store.members.lookup(REGISTRY, "mallory/alpine", DIGEST) is None
    assert store.members.lookup("ghcr.io", "library/alpine", DIGEST) is None
    assert store.members.lookup(REGISTRY, "library/alpine", digest_of(b"other")) is None


def test_media_types_are_each_repositorys(store: Store) -> None:
    """Somebody who has the same bytes says nothing about those of others."""
    store.members.record(
        REGISTRY,
        "library/alpine",
        DIGEST,
        Member("an/index", is_public=False),
        asked=store.clock.now(),
    )
    store.members.record(
        REGISTRY,
        "mallory/alpine",
        DIGEST,
        Member("a/manifest", is_public=False),
        asked=store.clock.now(),
    )
    store.keep(b"hello", REGISTRY, DIGEST, "a/manifest")
    assert store.members.lookup(REGISTRY, "library/alpine", DIGEST) == Member(
        "an/index", is_public=False
    )
    store.members.record(REGISTRY, "library/alpine", DIGEST, asked=store.clock.now())
    assert store.members.lookup(REGISTRY, "library/alpine", DIGEST) == Member(
        "an/index", is_public=False
    )
    store.members.record(
        REGISTRY,
        "library/alpine",
        DIGEST,
        Member("another/index", is_public=False),
        asked=store.clock.now(),
    )
    assert store.members.lookup(REGISTRY, "library/alpine", DIGEST) == Member(
        "another/index", is_public=False
    )


def test_it_goes_with_the_content(stores: Stores) -> None:
    """What is fetched again has to be learned again, so that rows do not gather."""
    store = stores.open()
    store.members.record(REGISTRY, "library/alpine", DIGEST, asked=store.clock.now())
    store.keep(b"hello", REGISTRY, DIGEST, "")
    store.keep(b"hello", REGISTRY, DIGEST, "")
    assert store.members.lookup(REGISTRY, "library/alpine", DIGEST) is not None
    store.delete(REGISTRY, DIGEST)
    assert store.members.lookup(REGISTRY, "library/alpine", DIGEST) is None


def test_the_registry_takes_it_back(store: Store) -> None:
    """Only there."""
    store.members.record(REGISTRY, "library/alpine", DIGEST, asked=store.clock.now())
    store.members.record(REGISTRY, "mallory/alpine", DIGEST, asked=store.clock.now())
    store.members.remove(REGISTRY, "mallory/alpine", DIGEST)
    assert store.members.lookup(REGISTRY, "mallory/alpine", DIGEST) is None
    assert store.members.lookup(REGISTRY, "library/alpine", DIGEST) is not None


def test_there_are_only_so_many(stores: Stores) -> None:
    """What was learned first is forgotten first."""
    store = stores.open()
    rows(stores.directory, "UPDATE counts SET most = 2")
    for number in range(4):
        store.members.record(REGISTRY, f"repository-{number}", DIGEST, asked=store.clock.now())
    found = [store.members.lookup(REGISTRY, f"repository-{n}", DIGEST) for n in range(4)]
    assert found == [None, None, Member("", is_public=False), Member("", is_public=False)]


def test_what_is_shown_to_nobody_in_particular(store: Store) -> None:
    """Once it is, it stays so, whoever is let read it then; and each repository has its own."""
    store.members.record(
        REGISTRY, "library/alpine", DIGEST, Member("a/b", is_public=False), asked=store.clock.now()
    )
    store.members.record(
        REGISTRY, "mallory/alpine", DIGEST, Member("", is_public=True), asked=store.clock.now()
    )
    assert store.members.lookup(REGISTRY, "library/alpine", DIGEST) == Member(
        "a/b", is_public=False
    )
    store.members.record(
        REGISTRY, "library/alpine", DIGEST, Member("", is_public=True), asked=store.clock.now()
    )
    store.members.record(REGISTRY, "library/alpine", DIGEST, asked=store.clock.now())
    assert store.members.lookup(REGISTRY, "library/alpine", DIGEST) == Member("a/b", is_public=True)
