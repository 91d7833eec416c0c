"""Rights of two workers over one directory: whatever overtakes what, the last word counts."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.cache.callers import Caller, Kind
from app.cache.policy import Policy
from app.cache.rights import Rights
from app.content import Reply
from app.store.errors import StoreError
from app.store.store import Store
from tests.unit.cache.conftest import TICK
from tests.unit.cache.world import NAME
from tests.unit.store.parts import FakeClock, Stores

REGISTRY = "r.example"
CALLERS = (Caller("alice", Kind.LOGIN), Caller("", Kind.NOBODY))
WORKERS = st.integers(0, 1)


@dataclass(frozen=True)
class Question:
    """What a worker has asked a registry, and has no answer to."""

    worker: int
    caller: Caller
    asked: float


def fail(*_: object, **__: object) -> None:
    """Be a disk that takes nothing."""
    raise StoreError(28, "no space")


class _Overtaking(RuleBasedStateMachine):
    """Asks now, and answers whenever: what each caller may read is what was asked last."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="docxy-rights-")
        self.stores = Stores(Path(self.folder.name) / "cache", FakeClock(tick=TICK))
        self.workers = [self.started() for _ in range(2)]
        self.open: list[Question] = []
        self.refused = {caller.name: 0.0 for caller in CALLERS}
        self.agreed = {caller.name: 0.0 for caller in CALLERS}

    def started(self) -> tuple[Store, Rights]:
        store = self.stores.open()
        return store, Rights(REGISTRY, store, Policy())

    def teardown(self) -> None:
        self.stores.close()
        self.folder.cleanup()

    @rule(worker=WORKERS, caller=st.sampled_from(CALLERS))
    def ask(self, worker: int, caller: Caller) -> None:
        self.open.append(Question(worker, caller, self.stores.clock.now()))

    @rule(which=st.integers(0), written=st.booleans())
    def answer_yes(self, which: int, *, written: bool) -> None:
        if not self.open:
            return
        one = self.open.pop(which % len(self.open))
        with self.disk(one.worker, written=written):
            self.workers[one.worker][1].yes(one.caller, NAME, one.asked)
        if written:
            self.agreed[one.caller.name] = max(self.agreed[one.caller.name], one.asked)

    @rule(which=st.integers(0), status=st.sampled_from([403, 404]), written=st.booleans())
    def answer_no(self, which: int, status: int, *, written: bool) -> None:
        if not self.open:
            return
        one = self.open.pop(which % len(self.open))
        with self.disk(one.worker, written=written):
            self.workers[one.worker][1].no(one.caller, NAME, Reply(status=status))
        self.refused[one.caller.name] = self.stores.clock.now()

    @rule(seconds=st.sampled_from([1.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.stores.clock.time += seconds

    @contextmanager
    def disk(self, worker: int, *, written: bool) -> Iterator[None]:
        """Let the disk take what this worker writes, or not."""
        grants = self.workers[worker][0].grants
        names = () if written else ("grant", "revoke", "make_public", "make_private")
        for name in names:
            setattr(grants, name, fail)
        try:
            with suppress(StoreError):
                yield
        finally:
            for name in names:
                delattr(grants, name)

    @invariant()
    def nobody_reads_after_the_last_no(self) -> None:
        for caller in CALLERS:
            if self.agreed[caller.name] <= self.refused[caller.name]:
                for _, rights in self.workers:
                    assert not rights.permits(caller, NAME)
                    assert caller.name or not rights.was_public(NAME)


TestOvertaking = _Overtaking.TestCase
TestOvertaking.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_refusals_that_take_nothing_away_are_few(tmp_path: Path) -> None:
    """Clients choose how many there are; one that takes a grant away stays among all of them."""
    stores = Stores(tmp_path / "cache", FakeClock(tick=TICK))
    store, other = stores.open(), stores.open()
    ours, theirs = (Rights(REGISTRY, one, Policy()) for one in (store, other))
    alice = CALLERS[0]
    ours.yes(alice, NAME, stores.clock.now())
    assert theirs.permits(alice, NAME)
    store.grants.revoke = fail  # type: ignore[method-assign]
    for caller in (alice, *(Caller(f"stranger {number}", Kind.LOGIN) for number in range(1200))):
        with suppress(StoreError):
            ours.no(caller, NAME, Reply(status=403))
    assert len(ours._refused.unwritten()) == 1001  # noqa: SLF001
    assert not theirs.permits(alice, NAME)
    stores.close()
