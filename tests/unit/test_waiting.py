"""Single-flight: one leads, the others wait for it, in whatever worker; and waits for clients."""

import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.oci.errors import ClientGone
from app.store.leases import FileLeases, Leases, MemoryLeases
from app.waiting import SingleFlight, sleep, wait_for
from tests.servers import ROOT

SECRET = bytes(32)


@pytest.fixture(params=["directory", "memory"])
def leases(request: pytest.FixtureRequest, tmp_path: Path) -> Leases:
    """Return leases that several workers share."""
    return FileLeases(tmp_path, SECRET) if request.param == "directory" else MemoryLeases()


def test_one_leads(leases: Leases) -> None:
    """Of many in two workers; the others are told when it has landed."""
    workers = [SingleFlight(leases), SingleFlight(leases)]
    leading, go_on = threading.Event(), threading.Event()
    done = list[str]()

    def fly(number: int) -> bool:
        with workers[number % 2].lead("key") as leads:
            if leads:
                leading.set()
                go_on.wait(20)
                done.append("led")
            else:
                done.append("followed")
            return leads

    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(fly, 0)
        assert leading.wait(20)
        others = [pool.submit(fly, number) for number in range(19)]
        assert not any(one.done() for one in others)
        go_on.set()
        assert first.result(20)
        assert not any(one.result(20) for one in others)
    assert done[0] == "led"


def test_other_keys_do_not_wait(leases: Leases) -> None:
    """Unless they share a lock, which is for a while."""
    flights = SingleFlight(leases)
    with flights.lead("one") as one, flights.lead("two") as two:
        assert one
        assert two
    with flights.lead("one") as again:
        assert again


def test_a_failure_lands_too(leases: Leases) -> None:
    """Whoever comes next leads."""
    flights = SingleFlight(leases)
    with pytest.raises(LookupError), flights.lead("key"):
        raise LookupError
    with flights.lead("key") as leads:
        assert leads


def test_patience_ends(leases: Leases) -> None:
    """Nobody waits for ever for another one, here or elsewhere."""
    first, second = (
        SingleFlight(leases, patience=0.05),
        SingleFlight(leases, patience=0.05),
    )
    with first.lead("key"):
        for other in (first, second):
            with other.lead("key") as leads:
                assert not leads


class Seen(threading.Event):
    """Tells that somebody waits for it, which is never set."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Tell so, and wait."""
        self.waits.set()
        return super().wait(timeout)


def test_a_killed_worker_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease goes with it."""
    seen = Seen()
    monkeypatch.setattr("app.waiting._NEVER", seen)
    code = (
        "import sys, time; from pathlib import Path; from app.store.leases import FileLeases\n"
        "with FileLeases(Path(sys.argv[1]), bytes(32)).try_acquire('key'):\n"
        "    print('leads', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline()

        def follow() -> bool:
            with SingleFlight(FileLeases(tmp_path, SECRET)).lead("key") as leads:
                return leads

        with ThreadPoolExecutor(1) as pool:
            follower = pool.submit(follow)
            assert seen.waits.wait(20)
            worker.kill()
            assert not follower.result(20)
    with SingleFlight(FileLeases(tmp_path, SECRET)).lead("key") as leads:
        assert leads


class Waiter:
    """A client that can leave, and tells that somebody waits in its name."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        self.left = False

    def is_gone(self) -> bool:
        """Tell whether it has left."""
        self.waits.set()
        return self.left


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at clients more often than four times a second."""
    monkeypatch.setattr("app.waiting.CLIENT_CHECK", 0.01)


@pytest.mark.parametrize("client", [None, Waiter()], ids=["nobody", "a client"])
def test_a_wait_ends(client: Waiter | None) -> None:
    """With the event, or when its time is over."""
    event = threading.Event()
    assert not wait_for(event, 0, client)
    assert not wait_for(event, 0.01, client)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_for, event, float("inf"), client)
        event.set()
        assert waiting.result(20)
    assert wait_for(event, 0, client)


def test_nobody_waits_for_a_client_that_has_left() -> None:
    """Neither for an event nor for another caller, whom that does not disturb."""
    client, flights = Waiter(), SingleFlight[str]()
    client.left = True
    with pytest.raises(ClientGone):
        sleep(20, client)
    with flights.lead("key", client) as leads:
        assert leads, "who need not wait does not look"
        with pytest.raises(ClientGone), flights.lead("key", client):
            pass
        with flights.lead("key", patience=0) as also_leads:
            assert not also_leads


def test_nobody_waits_in_another_worker_for_a_client_that_has_left(leases: Leases) -> None:
    """The caller who gives up leaves nothing behind."""
    client, here = Waiter(), SingleFlight(leases)
    client.left = True
    with SingleFlight(leases).lead("key"):
        with pytest.raises(ClientGone), here.lead("key", client):
            pass
        with here.lead("key", patience=0) as leads:
            assert not leads
    with here.lead("key", client) as leads:
        assert leads


def test_who_leaves_the_queue_of_another_worker_ends_no_flight(leases: Leases) -> None:
    """The other callers go on waiting for the one who works there."""
    here, first, others = SingleFlight(leases), Waiter(), [Waiter() for _ in range(4)]
    with ThreadPoolExecutor(5) as pool:
        with SingleFlight(leases).lead("key"):
            leaving = pool.submit(_follow, here, first)
            assert first.waits.wait(20)
            followers = [pool.submit(_follow, here, client) for client in others]
            assert all(client.waits.wait(20) for client in others)
            first.left = True
            with pytest.raises(ClientGone):
                leaving.result(20)
            for client in others:
                client.waits.clear()
            assert all(client.waits.wait(20) for client in others)
            assert not any(one.done() for one in followers)
        assert not any(one.result(20) for one in followers)


def _follow(flights: SingleFlight[str], client: Waiter) -> bool:
    with flights.lead("key", client) as leads:
        return leads


def test_patience_ends_in_work() -> None:
    """Who waits no longer works without the lead."""
    flights = SingleFlight[str](patience=0.01)
    with flights.lead("key"):
        assert flights.get("key", lambda: None, lambda: "own") == "own"


class Flown:
    """Callers of one key, each on a thread of its own, of whom one at most works.

    `store` is where whoever works leaves the result, and where the others look.
    """

    def __init__(self) -> None:
        self.flights = SingleFlight[str]()
        self.store: str | None = None
        self.works = 0
        self.working = threading.Lock()
        self.leader: Waiter | None = None
        self.clients = list[Waiter]()
        self._leaders = SimpleQueue[Waiter]()
        self._outcomes = SimpleQueue[str | None]()
        self._pool = ThreadPoolExecutor(20)
        self._running = dict[Waiter, Future[str]]()

    def enter(self) -> None:
        """Let one more caller come; return when it works, waits or has its answer."""
        client = Waiter()
        busy = self.leader is not None
        done = self._running[client] = self._pool.submit(
            self.flights.get, "key", lambda: self.store, lambda: self._work(client), client
        )
        if self.store is not None:
            assert done.result(20) == self.store
            del self._running[client]
        elif busy:
            assert client.waits.wait(20)
            assert not done.done()
        else:
            self.leader = self._leaders.get(timeout=20)
            assert self.leader is client

    def _work(self, client: Waiter) -> str:
        assert self.working.acquire(blocking=False), "one works at a time"
        self.works += 1
        self._leaders.put(client)
        outcome = self._outcomes.get(timeout=20)
        self.working.release()
        if outcome is None:
            raise LookupError
        if outcome.startswith("kept"):
            self.store = outcome
        return outcome

    def land(self, outcome: str | None) -> None:
        """Let the one who works end: with what is kept, with what is not, or with an error."""
        leader = self.leader
        if leader is None:
            return
        self.leader, works = None, self.works
        self._outcomes.put(outcome)
        done = self._running.pop(leader)
        if outcome is None:
            with pytest.raises(LookupError):
                done.result(20)
        else:
            assert done.result(20) == outcome
        if outcome is not None and outcome.startswith("kept"):
            assert {one.result(20) for one in self._running.values()} <= {outcome}
            self._running.clear()
            assert self.works == works
        elif self._running:
            self.leader = self._leaders.get(timeout=20)
            assert self.works == works + 1

    def leave(self) -> None:
        """Let a client leave: its caller waits no longer, unless it works."""
        client = next(iter(self._running), None)
        if client is None:
            return
        client.left = True
        if client is not self.leader:
            with pytest.raises(ClientGone):
                self._running.pop(client).result(20)

    def forget(self) -> None:
        """Let what was kept grow old."""
        self.store = None

    def end(self) -> None:
        """Let all end; nothing stays behind."""
        while self._running:
            self.land("kept at last")
        self._pool.shutdown()
        assert self.flights._flights == {}  # noqa: SLF001 - that it does not grow


STEPS = {
    "enter": Flown.enter,
    "keep": lambda flown: flown.land("kept"),
    "keep nothing": lambda flown: flown.land("passing"),
    "fail": lambda flown: flown.land(None),
    "leave": Flown.leave,
    "forget": Flown.forget,
}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.just("enter"), st.sampled_from(sorted(STEPS))), max_size=16))
def test_any_order(steps: list[str]) -> None:
    """One works at a time; a result is everybody's, an error the one's who met it."""
    flown = Flown()
    try:
        for step in steps:
            STEPS[step](flown)
    finally:
        flown.end()
