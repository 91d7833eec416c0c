"""Which workers gunicorn's master counts, and whom it tells what, when it reloads.

tests/integration/test_drain.py has the rest of arbiter.py, in a running gunicorn.
"""

import contextlib
import errno
import json
import logging
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from gunicorn.errors import HaltServer

from app import shared_memory
from server import arbiter as arbiter_module
from server.arbiter import Generations

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Temporary:
    """The file of a heartbeat."""

    closed: bool = False

    def close(self) -> None:
        """Remember it."""
        self.closed = True


@dataclass
class Worker:
    """A worker as its master sees it."""

    age: int
    alive: bool = True
    tmp: Temporary = field(default_factory=Temporary)


class Arbiter:
    """As much of gunicorn's as a reload needs, with ages for process ids."""

    def __init__(self, workers: int) -> None:
        self.num_workers = workers
        self.log = logging.getLogger("arbiter")
        self.can_boot = True
        self.has_processes = True
        self.halts = 0
        self.WORKERS: dict[int, Worker] = {}
        self.SIG_QUEUE: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.worker_age = 0
        self.killed: list[tuple[int, int]] = []
        self.waited_for: set[int] = set()
        self.signals: list[int] = []

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Return what came since it was last asked."""
        del timeout
        return self.signals

    def spawn_worker(self) -> None:
        """Give the next number to a worker."""
        self.worker_age += 1
        if not self.has_processes:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.WORKERS[self.worker_age] = Worker(self.worker_age)
        shared_memory.clear_booted(self.worker_age)
        if self.can_boot:
            shared_memory.mark_booted(self.worker_age)

    def reap_workers(self) -> None:
        """Find those that have not booted dead; gunicorn would end everything for each."""
        for pid in [pid for pid in self.WORKERS if not shared_memory.has_booted(pid)]:
            del self.WORKERS[pid]
            self.halts += 1
            reason = "Worker failed to boot."
            raise HaltServer(reason, 3)

    def kill_worker(self, pid: int, number: int) -> None:
        """Remember whom it told what."""
        self.killed.append((pid, number))

    def manage_workers(self) -> None:
        """Start what is missing, end what is too many."""
        for _ in range(self.num_workers - len(self.WORKERS)):
            self.spawn_worker()
        for pid in sorted(self.WORKERS)[: -self.num_workers]:
            self.kill_worker(pid, signal.SIGTERM)

    def reload(self) -> None:
        """Do as gunicorn does, but remember whom it waits for."""
        before = self.worker_age
        for _ in range(self.num_workers):
            self.spawn_worker()
        self.manage_workers()
        self.waited_for |= {pid for pid, worker in self.WORKERS.items() if worker.age <= before}


class Clock:
    """A clock that goes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def arbiter(clock: Clock) -> Arbiter:
    arbiter = Arbiter(2)
    arbiter.generations = Generations(arbiter, clock)  # type: ignore[attr-defined]
    arbiter.manage_workers()
    return arbiter


def test_a_reload_waits_for_nobody(arbiter: Arbiter) -> None:
    """The new ones are there, and the old ones were told to end, once."""
    arbiter.reload()
    assert set(arbiter.WORKERS) == {1, 2, 3, 4}
    assert arbiter.killed == [(1, signal.SIGTERM), (2, signal.SIGTERM)]
    assert arbiter.waited_for == set()
    arbiter.manage_workers()
    assert len(arbiter.killed) == 2


def test_old_workers_are_not_counted(arbiter: Arbiter) -> None:
    """A new one that died is replaced, though there are as many as there should be."""
    arbiter.reload()
    del arbiter.WORKERS[4]
    arbiter.manage_workers()
    assert set(arbiter.WORKERS) == {1, 2, 3, 5}


def test_one_reload_after_another(arbiter: Arbiter) -> None:
    """The second one tells all that are older than its own, also those of the first one."""
    arbiter.reload()
    arbiter.reload()
    assert set(arbiter.WORKERS) == {1, 2, 3, 4, 5, 6}
    assert {pid for pid, _ in arbiter.killed} == {1, 2, 3, 4}


def test_fewer_workers_after_a_reload(arbiter: Arbiter) -> None:
    """Of those that serve, the oldest ends; whoever ends already is no answer to that."""
    arbiter.reload()
    arbiter.num_workers = 1
    arbiter.manage_workers()
    assert arbiter.killed[2:] == [(3, signal.SIGTERM)]


def test_a_reload_that_fails_forgets_no_worker(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop after it finds all of them."""

    def fail() -> None:
        raise OSError

    monkeypatch.setattr(arbiter, "spawn_worker", fail)
    with pytest.raises(OSError):  # noqa: PT011 - it says nothing
        arbiter.reload()
    assert set(arbiter.WORKERS) == {1, 2}


def attempts(arbiter: Arbiter, clock: Clock, seconds: int) -> list[float]:
    """Let the master look once a second; return when it started workers, of which none lives."""
    started = []
    begin, before = clock.now, arbiter.worker_age
    while clock.now < begin + seconds:
        arbiter.manage_workers()
        if arbiter.worker_age > before:
            started.append(clock.now - begin)
        before = arbiter.worker_age
        arbiter.reap_workers()
        clock.now += 1
    return started


def test_a_worker_that_cannot_start_is_tried_after_growing_pauses(
    arbiter: Arbiter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one serves meanwhile, and the log has one line."""
    arbiter.can_boot = False
    del arbiter.WORKERS[1]
    assert attempts(arbiter, clock, 300) == [0, 2, 5, 10, 19, 36, 69, 130, 191, 252]
    assert set(arbiter.WORKERS) == {2}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert arbiter.halts == 10


def test_a_worker_that_can_start_again(
    arbiter: Arbiter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is started with the next attempt; what fails later has short pauses again."""
    arbiter.can_boot = False
    del arbiter.WORKERS[1]
    attempts(arbiter, clock, 60)
    arbiter.can_boot = True
    caplog.set_level(logging.INFO)
    assert attempts(arbiter, clock, 60) == [9]
    assert len(arbiter.WORKERS) == 2
    assert caplog.records[-1].message == "Workers can start again."
    arbiter.can_boot = False
    del arbiter.WORKERS[2]
    assert attempts(arbiter, clock, 10)[:3] == [0, 2, 5]


@pytest.mark.parametrize("failing", [0, 100], ids=["at once", "after long pauses"])
def test_the_end_when_nothing_serves(arbiter: Arbiter, clock: Clock, failing: int) -> None:
    """Three attempts in quick succession, then the process ends with gunicorn's status for it."""
    arbiter.can_boot = False
    del arbiter.WORKERS[1]
    attempts(arbiter, clock, failing)
    del arbiter.WORKERS[2]
    began = clock.now
    with pytest.raises(HaltServer) as ended:
        attempts(arbiter, clock, 60)
    assert ended.value.exit_status == 3
    assert clock.now - began < 10
    assert arbiter.WORKERS == {}


def test_old_downloads_keep_the_listener(
    arbiter: Arbiter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """While old workers finish theirs, new ones are tried at least every ten seconds."""
    arbiter.can_boot = False
    arbiter.reload()
    del arbiter.WORKERS[3], arbiter.WORKERS[4]
    assert attempts(arbiter, clock, 60) == [1, 4, 9, 18, 29, 40, 51]
    assert set(arbiter.WORKERS) == {1, 2}
    told = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert (
        len([message for message in told if message.startswith("No worker accepts connections")])
        == 1
    )
    arbiter.can_boot = True
    assert attempts(arbiter, clock, 10) != []
    arbiter.can_boot = False
    for pid in set(arbiter.WORKERS) - {1, 2}:
        del arbiter.WORKERS[pid]
    attempts(arbiter, clock, 30)
    told = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert (
        len([message for message in told if message.startswith("No worker accepts connections")])
        == 2
    )


def test_the_end_when_the_last_old_download_is_over(
    arbiter: Arbiter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log tells it before the process waits for anything."""
    arbiter.can_boot = False
    arbiter.reload()
    attempts(arbiter, clock, 30)
    del arbiter.WORKERS[1], arbiter.WORKERS[2]
    with pytest.raises(HaltServer):
        attempts(arbiter, clock, 30)
    last = caplog.records[-1]
    assert (last.levelno, last.message) == (
        logging.ERROR,
        "No worker is running and none can start; exiting.",
    )


def test_a_machine_without_processes(
    arbiter: Arbiter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that cannot even be forked is tried again like one that cannot start."""
    arbiter.has_processes = False
    del arbiter.WORKERS[1]
    assert attempts(arbiter, clock, 15) == [0, 2, 5, 10]
    assert set(arbiter.WORKERS) == {2}
    assert "Resource temporarily unavailable" in caplog.text
    arbiter.has_processes = True
    attempts(arbiter, clock, 15)
    assert len(arbiter.WORKERS) == 2


def test_a_reload_is_a_new_attempt(arbiter: Arbiter, clock: Clock) -> None:
    """Whatever the pause: an operator may have put right what was wrong."""
    arbiter.can_boot = False
    del arbiter.WORKERS[1]
    attempts(arbiter, clock, 60)
    arbiter.can_boot = True
    arbiter.reload()
    assert len([worker for worker in arbiter.WORKERS.values() if worker.age > 2]) == 2


@contextlib.contextmanager
def own_handlers() -> Iterator[None]:
    """Set back what a new worker does to its signals."""
    numbers = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_new_worker_heeds_a_signal(arbiter: Arbiter, number: signal.Signals, when: str) -> None:
    """Whether it came into the master's queue, or comes while there are no better handlers."""
    worker = Worker(9)
    generations: Generations = arbiter.generations  # type: ignore[attr-defined]
    with own_handlers():
        if when == "before":
            arbiter.SIG_QUEUE.put(signal.SIGCHLD)
            arbiter.SIG_QUEUE.put(number)
        generations.prepare_new_worker(worker)
        if when == "after":
            assert worker.alive
            os.kill(os.getpid(), number)
    assert not worker.alive


def test_a_new_worker_heeds_nothing_else(arbiter: Arbiter) -> None:
    """A child that ended and a reload are the master's."""
    worker = Worker(9)
    arbiter.SIG_QUEUE.put(signal.SIGCHLD)
    arbiter.SIG_QUEUE.put(signal.SIGHUP)
    with own_handlers():
        arbiter.generations.prepare_new_worker(worker)  # type: ignore[attr-defined]
    assert worker.alive


def test_a_new_worker_closes_what_it_has_of_old_ones(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their heartbeat files, which gunicorn closes only for those that it can see."""
    closed: list[set[int]] = []
    old = dict(arbiter.WORKERS)
    spawn = arbiter.spawn_worker

    def forking() -> None:
        with own_handlers():
            arbiter.generations.prepare_new_worker(Worker(9))  # type: ignore[attr-defined]
        closed.append({pid for pid, worker in old.items() if worker.tmp.closed})
        spawn()

    monkeypatch.setattr(arbiter, "spawn_worker", forking)
    arbiter.reload()
    assert closed == [{1, 2}] * 2


def test_what_an_import_prints_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The process of the check hands the settings over beside its standard output."""
    (tmp_path / "chardet.py").write_text('print("a library greets")\n__version__ = "5.2.0"\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(ROOT)
    checked = arbiter_module.check()
    assert (checked.status, checked.faults) == (0, "")
    assert json.loads(checked.settings) == {}


@pytest.mark.parametrize("kind", ["killed", "no process"])
def test_a_check_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """It accepts nothing, ends nothing by an exception, and blames the machine."""

    def run(*_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
        if kind == "no process":
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return subprocess.CompletedProcess([], -signal.SIGKILL, b"", b"")

    monkeypatch.setattr(subprocess, "run", run)
    checked = arbiter_module.check()
    assert checked.status == 3
    assert checked.faults.startswith("Docxy cannot start: the settings cannot be checked (")


MANY = "1" * 5000
"""More digits than Python reads."""
THREE = "\N{ARABIC-INDIC DIGIT THREE}"


def test_what_gunicorn_reads_as_a_number() -> None:
    """What it would end at with a traceback is found before."""
    ports = (
        "0",
        " 8000 ",
        "65535",
        "65536",
        "80000",
        "http",
        "-1",
        "8000x",
        "1.5",
        "",
        MANY,
        THREE,
    )
    assert [text for text in ports if arbiter_module.is_port(text)] == ["0", " 8000 ", "65535"]
    counts = ("1", "0", "65", "99999", "100000", "two", "-1", "1.5", "", MANY, THREE)
    assert [text for text in counts if arbiter_module.is_worker_count(text)] == [
        "1",
        "0",
        "65",
        "99999",
    ]


def test_the_master_imports_nothing_that_gevent_patches() -> None:
    """What is imported before the fork is not patched after it."""
    script = (
        "import sys; from server import arbiter; "
        "print({'gevent', 'ssl', 'socket', 'flask'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("came", "heeded"),
    [
        pytest.param([], [], id="none"),
        pytest.param([signal.SIGHUP], [signal.SIGHUP], id="one"),
        pytest.param(
            [signal.SIGHUP, signal.SIGCHLD, signal.SIGHUP, signal.SIGHUP],
            [signal.SIGCHLD, signal.SIGHUP],
            id="many reloads",
        ),
        pytest.param([signal.SIGTTIN] * 2, [signal.SIGTTIN] * 2, id="two workers more"),
        pytest.param(
            [signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT],
            [signal.SIGTERM, signal.SIGQUIT],
            id="stops",
        ),
    ],
)
def test_signals_that_came_together(came: list[int], heeded: list[int]) -> None:
    """A reload takes seconds: one does for all that wait, and none is begun before a stop."""
    arbiter = Arbiter(2)
    Generations(arbiter)
    arbiter.signals = came
    assert arbiter.wait_for_signals(timeout=1.0) == heeded
