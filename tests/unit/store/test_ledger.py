"""What every ledger does, whatever its engine: in a directory, and in memory."""

import json
from collections.abc import Callable, Hashable

import pytest

from app.store.errors import StoreError
from app.store.ledger import (
    ANONYMOUS_TOKENS_KIND,
    MAX_NOTE_LENGTH,
    PLAIN_BLOB,
    REFUSAL_LIFETIME,
    Access,
    Confirmation,
    Denial,
    Evidence,
    Ledger,
    Member,
    Note,
    Recorded,
    build_tag_subject,
)
from app.store.memory_ledger import MemoryLedger
from tests.servers import wait_until
from tests.unit.store.parts import (
    REGISTRY,
    FakeClock,
    Stores,
    digest_of,
    grant,
    has_grant,
    lookup_member,
    make_private,
    make_public,
    public_age,
    record_member,
    remove_member,
    revoke,
)

ALPINE = "library/alpine"
DIGEST = digest_of(b"hello")


@pytest.fixture(params=["directory", "memory"])
def ledger(request: pytest.FixtureRequest, stores: Stores) -> Ledger:
    """Return a ledger of each kind, by the tests' clock."""
    return stores.open().ledger if request.param == "directory" else MemoryLedger(stores.clock)


def test_a_grant_is_a_callers_for_a_repository(ledger: Ledger) -> None:
    """Nobody else has it, and nothing else is opened by it."""
    grant(ledger, "alice", REGISTRY, ALPINE, 60, asked=ledger.now())
    assert has_grant(ledger, "alice", REGISTRY, ALPINE)
    assert not has_grant(ledger, "bob", REGISTRY, ALPINE)
    assert not has_grant(ledger, "", REGISTRY, ALPINE)
    assert not has_grant(ledger, "alice", REGISTRY, "library")
    assert not has_grant(ledger, "alice", REGISTRY, ALPINE + "/x")
    assert not has_grant(ledger, "alice", "ghcr.io", ALPINE)


def test_it_ends(ledger: Ledger, clock: FakeClock) -> None:
    """Not a moment later than was said."""
    grant(ledger, "alice", REGISTRY, ALPINE, 60, asked=ledger.now())
    clock.time += 59.9
    assert has_grant(ledger, "alice", REGISTRY, ALPINE)
    clock.time += 0.1
    assert not has_grant(ledger, "alice", REGISTRY, ALPINE)


def test_a_new_grant_counts_and_not_the_longer_one(ledger: Ledger, clock: FakeClock) -> None:
    """A token that lives shorter gives less, whatever an older one gave."""
    grant(ledger, "alice", REGISTRY, ALPINE, 600, asked=ledger.now())
    grant(ledger, "alice", REGISTRY, ALPINE, 10, asked=ledger.now())
    clock.time += 11
    assert not has_grant(ledger, "alice", REGISTRY, ALPINE)


@pytest.mark.parametrize("seconds", [0, -5])
def test_no_time_is_no_grant(ledger: Ledger, seconds: float) -> None:
    """A token that has expired lets nobody in."""
    grant(ledger, "alice", REGISTRY, ALPINE, 60, asked=ledger.now())
    grant(ledger, "alice", REGISTRY, ALPINE, seconds, asked=ledger.now())
    assert not has_grant(ledger, "alice", REGISTRY, ALPINE)


def test_a_clock_that_goes_back_ends_it(ledger: Ledger, clock: FakeClock) -> None:
    """A restored snapshot of a machine, or another time namespace: what is unclear is refused."""
    grant(ledger, "alice", REGISTRY, ALPINE, 60, asked=ledger.now())
    make_public(ledger, REGISTRY, ALPINE, requested_at=ledger.now())
    clock.time -= 100
    assert not has_grant(ledger, "alice", REGISTRY, ALPINE)
    assert public_age(ledger, REGISTRY, ALPINE) is None


def test_public(ledger: Ledger, clock: FakeClock) -> None:
    """How long ago, until the registry says otherwise."""
    assert public_age(ledger, REGISTRY, ALPINE) is None
    make_public(ledger, REGISTRY, ALPINE, requested_at=ledger.now())
    clock.time += 7
    assert public_age(ledger, REGISTRY, ALPINE) == 7
    assert public_age(ledger, REGISTRY, "library/nginx") is None
    make_public(ledger, REGISTRY, ALPINE, requested_at=ledger.now())
    assert public_age(ledger, REGISTRY, ALPINE) == 0
    make_private(ledger, REGISTRY, ALPINE)
    assert public_age(ledger, REGISTRY, ALPINE) is None
    assert not has_grant(ledger, "", REGISTRY, ALPINE)


def test_a_member_is_one_repositorys(ledger: Ledger) -> None:
    """Knowing a digest opens it nowhere else."""
    record_member(
        ledger,
        REGISTRY,
        "library/alpine",
        DIGEST,
        Member("a/b", is_public=False),
        asked=ledger.now(),
    )
    assert lookup_member(ledger, REGISTRY, "library/alpine", DIGEST) == Member(
        "a/b", is_public=False
    )
    assert lookup_member(ledger, REGISTRY, "mallory/alpine", DIGEST) is None
    assert lookup_member(ledger, "ghcr.io", "library/alpine", DIGEST) is None
    assert lookup_member(ledger, REGISTRY, "library/alpine", digest_of(b"other")) is None


def test_the_registry_takes_it_back(ledger: Ledger) -> None:
    """Only there."""
    record_member(ledger, REGISTRY, "library/alpine", DIGEST, asked=ledger.now())
    record_member(ledger, REGISTRY, "mallory/alpine", DIGEST, asked=ledger.now())
    remove_member(ledger, REGISTRY, "mallory/alpine", DIGEST)
    assert lookup_member(ledger, REGISTRY, "mallory/alpine", DIGEST) is None
    assert lookup_member(ledger, REGISTRY, "library/alpine", DIGEST) is not None


def test_what_is_shown_to_nobody_in_particular(ledger: Ledger) -> None:
    """Once it is, it stays so, whoever is let read it then; and each repository has its own."""
    record_member(
        ledger,
        REGISTRY,
        "library/alpine",
        DIGEST,
        Member("a/b", is_public=False),
        asked=ledger.now(),
    )
    record_member(
        ledger,
        REGISTRY,
        "mallory/alpine",
        DIGEST,
        Member("", is_public=True),
        asked=ledger.now(),
    )
    assert lookup_member(ledger, REGISTRY, "library/alpine", DIGEST) == Member(
        "a/b", is_public=False
    )
    record_member(
        ledger,
        REGISTRY,
        "library/alpine",
        DIGEST,
        Member("", is_public=True),
        asked=ledger.now(),
    )
    record_member(ledger, REGISTRY, "library/alpine", DIGEST, asked=ledger.now())
    assert lookup_member(ledger, REGISTRY, "library/alpine", DIGEST) == Member(
        "a/b", is_public=True
    )


def granted(ledger: Ledger, caller: str, asked: float, repository: str = ALPINE) -> bool:
    """Have a yes written, and tell whether it was."""
    return grant(ledger, caller, REGISTRY, repository, 60, asked=asked)


def test_a_refusal_is_of_one_subject(ledger: Ledger, clock: FakeClock) -> None:
    """A caller's is nobody else's, and says nothing of what everybody may read or of content."""
    asked = clock.time
    clock.time += 1
    revoke(ledger, "alice", REGISTRY, ALPINE)
    assert not granted(ledger, "alice", asked)
    assert granted(ledger, "bob", asked)
    assert granted(ledger, "alice", asked, "library/nginx")
    assert make_public(ledger, REGISTRY, ALPINE, requested_at=asked)
    record_member(ledger, REGISTRY, ALPINE, DIGEST, PLAIN_BLOB, asked=asked)
    assert lookup_member(ledger, REGISTRY, ALPINE, DIGEST) == PLAIN_BLOB
    assert not granted(ledger, "alice", clock.time)
    assert granted(ledger, "alice", clock.time + 0.001)


def test_no_answer_takes_a_day(ledger: Ledger, clock: FakeClock) -> None:
    """When a refusal is forgotten, the answer to an older question is none any more."""
    clock.time += REFUSAL_LIFETIME
    assert not granted(ledger, "alice", clock.time - REFUSAL_LIFETIME)
    assert not make_public(ledger, REGISTRY, ALPINE, requested_at=clock.time - REFUSAL_LIFETIME)
    record_member(ledger, REGISTRY, ALPINE, DIGEST, PLAIN_BLOB, asked=clock.time - REFUSAL_LIFETIME)
    assert lookup_member(ledger, REGISTRY, ALPINE, DIGEST) is None
    assert granted(ledger, "alice", clock.time - REFUSAL_LIFETIME + 1)


def test_a_note_gets_stale_and_stays(ledger: Ledger, clock: FakeClock) -> None:
    """Whoever wants to may still use it, and knows how old it is."""
    ledger.notes.record("tag", "alpine:3", "sha256:1", 60)
    assert ledger.notes.lookup("tag", "alpine:3") == Note("sha256:1", 60, 0)
    clock.time += 45
    assert ledger.notes.lookup("tag", "alpine:3") == Note("sha256:1", 15, 45)
    clock.time += 45
    assert ledger.notes.lookup("tag", "alpine:3") == Note("sha256:1", 0, 90)


def test_after_a_reboot(ledger: Ledger, clock: FakeClock) -> None:
    """Nobody knows how long the machine was off."""
    ledger.notes.record("tag", "alpine:3", "sha256:1", 60)
    clock.boot, clock.time = "second", 2000
    assert ledger.notes.lookup("tag", "alpine:3") == Note("sha256:1", 0, None)


def test_a_clock_that_goes_back(ledger: Ledger, clock: FakeClock) -> None:
    """What seems to come from the future is stale."""
    ledger.notes.record("tag", "alpine:3", "sha256:1", 60)
    clock.time -= 1
    assert ledger.notes.lookup("tag", "alpine:3") == Note("sha256:1", 0, None)


def test_kinds_are_apart(ledger: Ledger) -> None:
    """A key is one of its kind."""
    ledger.notes.record("tag", "x", "1", 60)
    ledger.notes.record("token", "x", "2\x00\U0001f40b", 60)
    assert ledger.notes.lookup("tag", "x") == Note("1", 60, 0)
    assert ledger.notes.lookup("token", "x") == Note("2\x00\U0001f40b", 60, 0)
    ledger.notes.delete("tag", "x")
    assert ledger.notes.lookup("tag", "x") is None
    assert ledger.notes.lookup("token", "x") is not None


def test_what_is_too_long(ledger: Ledger) -> None:
    """It leaves what was there."""
    ledger.notes.record("tag", "x", "v" * MAX_NOTE_LENGTH, 60)
    with pytest.raises(StoreError, match="65537 characters"):
        ledger.notes.record("tag", "x", "v" * (MAX_NOTE_LENGTH + 1), 60)
    assert ledger.notes.lookup("tag", "x") == Note("v" * MAX_NOTE_LENGTH, 60, 0)


def test_keys_that_begin_so(ledger: Ledger) -> None:
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
        ledger.notes.record(kind, key, key.upper(), 10)
    assert ledger.notes.lookup_prefix("tag", "a:1 ") == {
        "a:1 x": "A:1 X",
        "a:1 \u00e9": "A:1 \u00c9",
        "a:1 ": "A:1 ",
    }
    assert ledger.notes.lookup_prefix("tag", "%:1") == {"%:1 x": "%:1 X"}
    assert len(ledger.notes.lookup_prefix("tag", "")) == 7
    assert ledger.notes.lookup_prefix("nothing", "") == {}


def test_lists_are_apart(ledger: Ledger) -> None:
    """They have a table of their own, and the latest of those that begin alike can be kept."""
    ledger.notes.record("list", "a x", "note", 60)
    for key in ("a 1", "a 2", "ab 1", "b 1", "a 3", "a 1"):
        ledger.lists.record("list", key, key, 60)
    ledger.lists.record("other", "a 1", "x", 60)
    ledger.lists.keep_latest("list", "a ", 2)
    assert sorted(ledger.lists.lookup_prefix("list", "")) == ["a 1", "a 3", "ab 1", "b 1"]
    assert ledger.lists.lookup("other", "a 1") is not None
    assert ledger.notes.lookup("list", "a x") == Note("note", 60, 0)
    assert ledger.lists.lookup("list", "a x") is None


def confirmed(ledger: Ledger, asked: float | None = None) -> Confirmation:
    """Return what a registry says to an anonymous caller who was given a manifest."""
    return Confirmation(
        registry=REGISTRY,
        repository=ALPINE,
        requested_at=ledger.now() if asked is None else asked,
        caller="nobody's token",
        grant_seconds=60,
        is_public=True,
        digest=DIGEST,
        member=Member("a/manifest", is_public=True),
    )


def test_one_answer_and_one_question(ledger: Ledger, clock: FakeClock) -> None:
    """All that a registry has said at once is known at once."""
    note = json.dumps({"names": [ALPINE], "shared": "key"})
    nothing = ledger.lookup("nobody's token", REGISTRY, ALPINE, DIGEST)
    assert nothing == Access()
    assert ledger.record(confirmed(ledger)) == Recorded(has_grant=True, is_public=True)
    ledger.tokens.record(ANONYMOUS_TOKENS_KIND, "nobody's token", note, 30)
    clock.time += 10
    assert ledger.lookup("nobody's token", REGISTRY, ALPINE, DIGEST) == Access(
        seconds_left=50,
        public_age=10,
        member=Member("a/manifest", is_public=True),
        anonymous_token=note,
    )
    clock.time += 20
    known = ledger.lookup("nobody's token", REGISTRY, ALPINE)
    assert known == Access(seconds_left=30, public_age=30)
    assert ledger.lookup("alice", REGISTRY, "library/nginx", DIGEST) == nothing


def test_each_part_is_refused_for_itself(ledger: Ledger, clock: FakeClock) -> None:
    """What is older than a refusal of it is not written, and all else is."""
    asked = ledger.now()
    clock.time += 1
    ledger.refuse(Denial(registry=REGISTRY, repository=ALPINE, caller="nobody's token"))
    assert ledger.record(confirmed(ledger, asked)) == Recorded(has_grant=False, is_public=True)
    ledger.refuse(Denial(registry=REGISTRY, repository=ALPINE, is_public=True, absent=DIGEST))
    assert ledger.lookup("", REGISTRY, ALPINE, DIGEST) == Access()
    assert ledger.record(confirmed(ledger, asked)) == Recorded()
    assert ledger.lookup("nobody's token", REGISTRY, ALPINE, DIGEST) == Access()
    clock.time += 1
    assert ledger.record(confirmed(ledger)) == Recorded(has_grant=True, is_public=True)
    assert lookup_member(ledger, REGISTRY, ALPINE, DIGEST) is not None


def test_what_is_public_is_as_old_as_the_last_question(ledger: Ledger, clock: FakeClock) -> None:
    """An answer that arrives late makes it no older."""
    asked = ledger.now()
    clock.time += 5
    for moment in (ledger.now(), asked):
        assert make_public(ledger, REGISTRY, ALPINE, requested_at=moment)
    assert public_age(ledger, REGISTRY, ALPINE) == 0


def test_a_member_becomes_public(ledger: Ledger) -> None:
    """If it is one."""
    ledger.mark_public(REGISTRY, ALPINE, DIGEST)
    assert lookup_member(ledger, REGISTRY, ALPINE, DIGEST) is None
    record_member(
        ledger, REGISTRY, ALPINE, DIGEST, Member("a/b", is_public=False), asked=ledger.now()
    )
    ledger.mark_public(REGISTRY, ALPINE, DIGEST)
    assert lookup_member(ledger, REGISTRY, ALPINE, DIGEST) == Member("a/b", is_public=True)


def test_a_transaction_is_one(ledger: Ledger) -> None:
    """It sees what it has written; if it fails, nothing was, and all goes on."""

    def write_and_fail() -> None:
        with ledger.transaction():
            ledger.record(confirmed(ledger))
            ledger.tags.record("tag", "x", "1", 60)
            assert has_grant(ledger, "nobody's token", REGISTRY, ALPINE)
            assert ledger.tags.lookup("tag", "x") is not None
            ledger.tags.record("tag", "x", "v" * (MAX_NOTE_LENGTH + 1), 60)

    with pytest.raises(StoreError):
        write_and_fail()
    assert not has_grant(ledger, "nobody's token", REGISTRY, ALPINE)
    assert ledger.tags.lookup("tag", "x") is None
    with ledger.transaction():
        ledger.record(confirmed(ledger))
        with ledger.transaction():
            ledger.tags.record("tag", "x", "1", 60)
    assert has_grant(ledger, "nobody's token", REGISTRY, ALPINE)
    assert ledger.tags.lookup("tag", "x") is not None


@pytest.mark.parametrize(
    "write",
    [
        lambda ledger: grant(ledger, "alice", REGISTRY, ALPINE, 60, asked=ledger.now()),
        lambda ledger: revoke(ledger, "alice", REGISTRY, ALPINE),
        lambda ledger: ledger.tags.record("tag", "x", "1", 60),
        lambda ledger: ledger.tags.delete_refused("tag", "x", (REGISTRY, ALPINE, "tag x")),
    ],
    ids=["grant", "refusal", "note", "no tag"],
)
def test_a_write_changes_the_version(ledger: Ledger, write: Callable[[Ledger], object]) -> None:
    """Reading does not."""

    def settled() -> Hashable:
        wait_until(lambda: ledger.read_version() is not None, what="a version to be trusted")
        return ledger.read_version()

    record_member(ledger, REGISTRY, ALPINE, DIGEST, asked=ledger.now())
    before = settled()
    ledger.lookup("alice", REGISTRY, ALPINE, DIGEST)
    assert ledger.read_version() == before
    write(ledger)
    assert ledger.read_version() != before
    assert settled() != before


def test_a_version_is_not_used_twice() -> None:
    """What a transaction that failed has shown is not what the next one shows."""
    ledger = MemoryLedger(clock=FakeClock())
    seen = list[Hashable]()

    def write_and_fail() -> None:
        with ledger.transaction():
            seen.append(ledger.read_version())
            raise LookupError

    with pytest.raises(LookupError):
        write_and_fail()
    ledger.tags.record("tag", "x", "1", 60)
    assert ledger.read_version() not in seen


def test_several_notes(ledger: Ledger) -> None:
    """Those that there are."""
    for key in ("x", "y"):
        ledger.tags.record("tag", key, key, 60)
    ledger.tags.record("other", "z", "z", 60)
    assert ledger.tags.lookup_all("tag", ["y", "z", "x"]) == {
        "x": Note("x", 60, 0),
        "y": Note("y", 60, 0),
    }
    assert ledger.tags.lookup_all("tag", []) == {}


def test_a_note_that_was_overtaken(ledger: Ledger, clock: FakeClock) -> None:
    """By the answer to a later question, or by a refusal; another subject's changes nothing."""
    subject = (REGISTRY, ALPINE, build_tag_subject("3"))
    older = Evidence(subject, ledger.now())
    clock.time += 1
    newer = Evidence(subject, ledger.now())
    ledger.tags.record("tag", "3", "newer", 60, newer)
    ledger.tags.record("tag", "3", "older", 60, older)
    assert ledger.tags.lookup("tag", "3") == Note("newer", 60, 0)
    ledger.tags.delete_refused("tag", "3", subject)
    ledger.tags.record("tag", "3", "newer", 60, newer)
    assert ledger.tags.lookup("tag", "3") is None
    ledger.tags.record("tag", "4", "older", 60, Evidence((REGISTRY, ALPINE, "tag 4"), 999))
    assert ledger.tags.lookup("tag", "4") is not None
    clock.time += 1
    ledger.tags.record("tag", "3", "again", 60, Evidence(subject, ledger.now()))
    assert ledger.tags.lookup("tag", "3") == Note("again", 60, 0)


def test_a_set_grows(ledger: Ledger) -> None:
    """One of too many members gets no more, and shows that."""
    for members in (["b"], ["a", "b"]):
        ledger.tags.add_to_set("set", "x", members, 2, 60)
    assert ledger.tags.lookup("set", "x") == Note('["a", "b"]', 60, 0)
    for members in (["d", "c"], ["0"]):
        ledger.tags.add_to_set("set", "x", members, 2, 60)
    assert ledger.tags.lookup("set", "x") == Note('["a", "b", "c"]', 60, 0)
