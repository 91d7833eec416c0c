"""What operators see and remove, in every storage; what is true of a directory alone is apart."""

import pytest

from app.oci.reference import Digest
from app.store.blobs import RegistryUsage
from app.store.ledger import Member, MemberContent
from app.store.storage import Statistics, Storage
from tests.unit.store.parts import (
    REGISTRY,
    digest_of,
    grant,
    has_grant,
    lookup_member,
    make_public,
    public_age,
    record_member,
    revoke,
)

DATA = [b"zero", b"one", b"two"]
ZERO, ONE, TWO = DIGESTS = [digest_of(data) for data in DATA]


def filled(storage: Storage) -> None:
    """Keep all data, and have two repositories share some; another registry has a namesake."""
    for data in DATA:
        storage.blobs.keep(data, REGISTRY, digest_of(data), "text/plain")
    for registry, repository, digest in (
        (REGISTRY, "a", ZERO),
        (REGISTRY, "a", ONE),
        (REGISTRY, "b", ONE),
        (REGISTRY, "b", TWO),
        ("ghcr.io", "a", TWO),
    ):
        hold(storage, repository, digest, registry)


def hold(storage: Storage, repository: str, digest: Digest, registry: str = REGISTRY) -> None:
    record_member(
        storage.ledger,
        registry,
        repository,
        digest,
        Member(f"of/{repository}", is_public=False),
        asked=storage.ledger.now(),
    )


def kept(storage: Storage) -> list[bool]:
    return [storage.blobs.stat(REGISTRY, digest) is not None for digest in DIGESTS]


def test_statistics(storage: Storage) -> None:
    """Entries and bytes of each registry, and the records of whatever else there is."""
    for data in DATA:
        storage.blobs.keep(data, REGISTRY, digest_of(data), "")
    storage.blobs.keep(b"two", "ghcr.io", TWO, "")
    storage.blobs.keep(b"zero", "quay.io", ZERO, "")
    storage.blobs.delete("quay.io", ZERO)
    hold(storage, "a", ZERO)
    revoke(storage.ledger, "alice", REGISTRY, "a")
    storage.ledger.tags.record("tag", "x", "1", 60)
    assert storage.admin.statistics() == Statistics(
        {REGISTRY: RegistryUsage(3, 10), "ghcr.io": RegistryUsage(1, 3)},
        dict.fromkeys(("members", "refusals", "tags"), 1)
        | dict.fromkeys(("grants", "publics", "notes", "tokens", "lists"), 0),
    )


def test_what_a_repository_holds(storage: Storage) -> None:
    """As the registry calls it there; what is not kept is not told."""
    filled(storage)
    hold(storage, "a", digest_of(b"not kept"))
    found = sorted(storage.admin.list_content(REGISTRY, "a"), key=lambda one: one.size)
    assert found == [MemberContent(ONE, "of/a", 3), MemberContent(ZERO, "of/a", 4)]
    assert storage.admin.list_content("ghcr.io", "a") == []


def test_what_it_lets_go(storage: Storage) -> None:
    """What another one holds stays, and so does what it never held."""
    filled(storage)
    assert storage.admin.remove_members(REGISTRY, "a", [ZERO, ONE, TWO]) == 1
    assert kept(storage) == [False, True, True]
    assert storage.admin.list_content(REGISTRY, "a") == []
    assert storage.admin.remove_members(REGISTRY, "b", [ONE]) == 1
    assert kept(storage) == [False, False, True]


def test_reading(storage: Storage) -> None:
    """What is not there, is too long or cannot be kept is nothing."""
    filled(storage)
    assert storage.admin.read(REGISTRY, ZERO, 4) == b"zero"
    assert storage.admin.read(REGISTRY, ZERO, 3) == b""
    assert storage.admin.read(REGISTRY, digest_of(b"else"), 10) == b""
    assert storage.admin.read("../..", ZERO, 10) == b""


def test_verify(storage: Storage) -> None:
    """Each piece of content has a result, and what is right has no fault."""
    filled(storage)
    found = list(storage.admin.verify())
    assert {one.digest: one.size for one in found} == {ZERO: 4, ONE: 3, TWO: 3}
    assert {one.fault for one in found} == {""}


def test_remove_a_repository(storage: Storage) -> None:
    """What another repository holds too stays for that; nobody may read it here any more."""
    filled(storage)
    for repository in ("a", "b"):
        grant(storage.ledger, "alice", REGISTRY, repository, 60, asked=storage.ledger.now())
        make_public(storage.ledger, REGISTRY, repository, requested_at=storage.ledger.now())
    assert storage.admin.remove_repository(REGISTRY, "a") == 1
    assert kept(storage) == [False, True, True]
    assert lookup_member(storage.ledger, REGISTRY, "a", ONE) is None
    assert lookup_member(storage.ledger, REGISTRY, "b", ONE) is not None
    assert not has_grant(storage.ledger, "alice", REGISTRY, "a")
    assert public_age(storage.ledger, REGISTRY, "a") is None
    assert has_grant(storage.ledger, "alice", REGISTRY, "b")
    assert public_age(storage.ledger, REGISTRY, "b") == 0
    assert lookup_member(storage.ledger, "ghcr.io", "a", TWO) is not None


def test_remove_by_age(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored so long ago; 0 seconds is everything."""
    for age, data in enumerate(DATA):
        monkeypatch.setattr("time.time", lambda age=age: 10_000.0 - 100 * age)
        storage.blobs.keep(data, REGISTRY, digest_of(data), "")
    monkeypatch.setattr("time.time", lambda: 10_000.0)
    assert storage.admin.remove_older(150) == 1
    assert kept(storage) == [True, True, False]
    assert storage.admin.remove_older(0) == 2
    assert kept(storage) == [False, False, False]


def test_remove_unused(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used so long ago, however long ago it was stored."""
    monkeypatch.setattr("time.time", lambda: 10_000.0)
    for data in DATA:
        storage.blobs.keep(data, REGISTRY, digest_of(data), "")
    monkeypatch.setattr("time.time", lambda: 10_200.0)
    content = storage.blobs.open(REGISTRY, ONE)
    assert content is not None
    content.blob.close()
    assert storage.admin.remove_unused(300) == 0
    assert storage.admin.remove_unused(100) == 2
    assert kept(storage) == [False, True, False]


def test_remove_all(storage: Storage) -> None:
    """Refusals stay: an answer that is still on its way may be older than one of them."""
    filled(storage)
    asked = storage.ledger.now()
    grant(storage.ledger, "alice", REGISTRY, "a", 60, asked=asked)
    revoke(storage.ledger, "bob", REGISTRY, "a")
    storage.ledger.tags.record("tag", "x", "1", 60)
    assert storage.admin.remove_all() == 3
    assert kept(storage) == [False, False, False]
    rows = storage.admin.statistics().table_rows
    assert {name for name, number in rows.items() if number} == {"refusals"}
    assert not grant(storage.ledger, "bob", REGISTRY, "a", 60, asked=asked)


def test_any_manifest(storage: Storage) -> None:
    """The ledger names one that is kept, and no blob and no other repository's."""
    assert storage.ledger.find_manifest(REGISTRY, "a") is None
    filled(storage)
    hold(storage, "c", digest_of(b"not kept"))
    record_member(storage.ledger, REGISTRY, "d", ONE, asked=storage.ledger.now())
    found = storage.ledger.find_manifest(REGISTRY, "b")
    assert found in {MemberContent(ONE, "of/b", 3), MemberContent(TWO, "of/b", 3)}
    for repository in ("c", "d", "e"):
        assert storage.ledger.find_manifest(REGISTRY, repository) is None
