"""Rights of two workers over one directory: whatever overtakes what, the last word counts."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cache.authz.callers import Caller, CallerKind
from app.cache.authz.grants import RecentRefusals, RegistryGrants
from app.cache.policy import CachePolicy
from app.oci.reference import RepositoryName
from app.source import Reply
from app.store.errors import StoreError
from app.store.ledger import Access, Ledger
from app.store.memory_ledger import MemoryLedger
from tests.unit.cache.conftest import TICK
from tests.unit.cache.world import NAME
from tests.unit.store.parts import FakeClock, FarLedger, Stores

REGISTRY = "r.example"
ALICE, NOBODY = Caller("alice", CallerKind.CREDENTIALS), Caller("", CallerKind.ANONYMOUS)
WORKERS = (0, 1, 0)
"""Who asks each of three questions."""


def orders() -> list[tuple[int, ...]]:
    """Return every order in which three questions are asked and answered.

    A number that comes first is a question, and its second time is the answer.
    """
    return sorted(set(itertools.permutations((0, 0, 1, 1, 2, 2))))


def plays() -> Iterator[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """Return every order, with every combination of answers."""
    return itertools.product(orders(), itertools.product((True, False), repeat=len(WORKERS)))


def fail(*_: object, **__: object) -> None:
    """Be a disk that takes nothing."""
    raise StoreError(28, "no space")


@contextmanager
def full(ledger: Ledger) -> Iterator[None]:
    """Let the disk of one worker take nothing."""
    names = ("record", "refuse")
    for name in names:
        setattr(ledger, name, fail)
    try:
        with suppress(StoreError):
            yield
    finally:
        for name in names:
            delattr(ledger, name)


@dataclass
class Play:
    """Three questions about one repository, and what is to be true after each event."""

    ledgers: list[Ledger]
    rights: list[RegistryGrants]
    caller: Caller
    name: RepositoryName
    fails: bool
    """Whether no refusal can be written."""

    def run(self, order: tuple[int, ...], answers: tuple[bool, ...]) -> None:
        """Ask and answer, and check who may read each time."""
        asked = dict[int, float]()
        agreed, refused = 0.0, 0.0
        for number in order:
            worker = WORKERS[number]
            ledger, rights = self.ledgers[worker], self.rights[worker]
            if number not in asked:
                asked[number] = ledger.now()
                continue
            if answers[number]:
                rights.record_success(self.caller, self.name, asked[number])
                agreed = max(agreed, asked[number])
            else:
                self.refuse(ledger, rights)
                refused = ledger.now()
            self.check(may_read=agreed > refused)

    def refuse(self, ledger: Ledger, rights: RegistryGrants) -> None:
        """Let the registry refuse, whether the disk takes that or not."""
        reply = Reply(status=403)
        if self.fails:
            with full(ledger):
                rights.record_refusal(self.caller, self.name, reply)
        else:
            rights.record_refusal(self.caller, self.name, reply)

    def check(self, *, may_read: bool) -> None:
        """See that both workers say the same of who may read."""
        for rights in self.rights:
            standing = rights.lookup(self.caller, self.name)
            permitted, public = standing.seconds_left > 0, rights.was_public(standing)
            # A refusal that could not be written may count for longer than it should.
            assert permitted == may_read or (self.fails and not permitted)
            is_due = may_read and self.caller is NOBODY
            assert public == is_due or (self.fails and not public)


@pytest.mark.parametrize("fails", [False, True], ids=["written", "not written"])
@pytest.mark.parametrize("caller", [ALICE, NOBODY], ids=["somebody", "nobody"])
def test_every_order(tmp_path: Path, caller: Caller, *, fails: bool) -> None:
    """Who may read is told by the question that began last, not by the answer that came last."""
    opened = Stores(tmp_path / "cache", FakeClock(tick=TICK))
    ledgers: list[Ledger] = [opened.open().ledger for _ in range(2)]
    rights = [RegistryGrants(REGISTRY, ledger, CachePolicy()) for ledger in ledgers]
    for number, (order, answers) in enumerate(plays()):
        name = RepositoryName.parse(f"team/app{number}")
        Play(ledgers, rights, caller, name, fails).run(order, answers)
        if fails:  # what could not be written is, as soon as something can be
            for one in rights:
                one.record_success(
                    Caller("sweeper", CallerKind.CREDENTIALS), name, opened.clock.now()
                )
    opened.close()


@pytest.mark.parametrize("engine", [MemoryLedger, FarLedger])
@pytest.mark.parametrize("caller", [ALICE, NOBODY], ids=["somebody", "nobody"])
def test_every_order_in_memory(caller: Caller, engine: type[MemoryLedger]) -> None:
    """What is right does not depend on the ledger's engine."""
    for order, answers in plays():
        ledgers: list[Ledger] = [engine(FakeClock(tick=TICK))] * 2
        rights = [RegistryGrants(REGISTRY, ledger, CachePolicy()) for ledger in ledgers]
        Play(ledgers, rights, caller, NAME, fails=False).run(order, answers)


@pytest.mark.parametrize("is_known", [False, True], ids=["new", "known"])
@pytest.mark.parametrize("caller", [ALICE, NOBODY], ids=["somebody", "nobody"])
def test_a_refusal_in_the_middle_of_a_yes(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, *, is_known: bool
) -> None:
    """It counts, also where a worker's question and its answer are no transaction."""
    ledger = FarLedger(FakeClock(tick=TICK))
    ours, theirs = (RegistryGrants(REGISTRY, ledger, CachePolicy()) for _ in range(2))
    if is_known:
        ours.record_success(caller, NAME, ledger.now())
    asked, lookup = ledger.now(), ledger.lookup

    def be_overtaken(*args: Any) -> Access:
        found = lookup(*args)
        monkeypatch.undo()
        theirs.record_refusal(caller, NAME, Reply(status=403))
        return found

    monkeypatch.setattr(ledger, "lookup", be_overtaken)
    ours.record_success(caller, NAME, asked)
    for rights in (ours, theirs):
        standing = rights.lookup(caller, NAME)
        assert (standing.seconds_left, standing.public_age) == (0, None)


class Uncommitted(MemoryLedger):
    """A ledger whose transactions fail at their end, as long as it `fails`."""

    fails = False

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Take everything, and then write nothing of it."""
        with super().transaction() as state:
            yield state
            if self.fails:
                fail()


def test_a_yes_that_was_not_committed() -> None:
    """A worker remembers it only when the ledger has it, and a refusal until then."""
    ledger = Uncommitted(FakeClock(tick=TICK))
    rights = RegistryGrants(REGISTRY, ledger, CachePolicy())
    for caller in (ALICE, NOBODY):
        rights.record_success(caller, NAME, ledger.now())
    ledger.fails = True
    for caller in (ALICE, NOBODY):
        with pytest.raises(StoreError):
            rights.record_refusal(caller, NAME, Reply(status=403))
    with pytest.raises(StoreError):
        rights.record_success(Caller("bob", CallerKind.CREDENTIALS), NAME, ledger.now())
    for caller in (ALICE, NOBODY):
        assert rights.lookup(caller, NAME).seconds_left == 0
        assert rights.lookup(caller, NAME).public_age is None
    ledger.fails = False
    rights.record_success(Caller("bob", CallerKind.CREDENTIALS), NAME, ledger.now())
    assert rights._refusals.list_unwritten() == []  # noqa: SLF001
    for caller in (ALICE, NOBODY):
        assert ledger.lookup(caller.name, REGISTRY, NAME).seconds_left == 0
        rights.record_success(caller, NAME, ledger.now())
        assert rights.lookup(caller, NAME).seconds_left > 0
    assert rights.lookup(NOBODY, NAME).public_age is not None


def test_refusals_that_take_nothing_away_are_few(tmp_path: Path) -> None:
    """Clients choose how many there are; one that takes a grant away stays among all of them."""
    stores = Stores(tmp_path / "cache", FakeClock(tick=TICK))
    store, other = stores.open(), stores.open()
    ours, theirs = (RegistryGrants(REGISTRY, one.ledger, CachePolicy()) for one in (store, other))
    ours.record_success(ALICE, NAME, stores.clock.now())
    assert theirs.lookup(ALICE, NAME).seconds_left > 0
    store.ledger.refuse = fail  # type: ignore[method-assign]
    for caller in (
        ALICE,
        *(Caller(f"stranger {number}", CallerKind.CREDENTIALS) for number in range(1200)),
    ):
        with suppress(StoreError):
            ours.record_refusal(caller, NAME, Reply(status=403))
    assert len(ours._refusals.list_unwritten()) == 1001  # noqa: SLF001
    assert theirs.lookup(ALICE, NAME).seconds_left == 0
    stores.close()


def test_a_refusal_at_the_very_moment_of_a_question_counts() -> None:
    """Which of them was first cannot be told, so the worker is as strict as the ledger is."""
    refusals = RecentRefusals("callers", 60, MemoryLedger(FakeClock()))
    at = refusals.record("alice", NAME, revokes=False)
    assert refusals.was_refused_since("alice", NAME, moment=at)
    assert not refusals.was_refused_since("alice", NAME, moment=at + TICK)
