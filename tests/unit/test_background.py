"""What no client waits for: bounded, in order, and no work ends another."""

import subprocess
import sys
import threading
from contextvars import ContextVar
from functools import partial

import pytest

from app.background import BackgroundPool
from tests.servers import ROOT, wait_until

NAME = "work of a test"


def pool(threads: int = 1, capacity: int = 16) -> BackgroundPool:
    """Return a pool whose threads are found by their name."""
    return BackgroundPool(NAME, threads=threads, capacity=capacity)


def threads() -> int:
    """Return how many threads do something in the background."""
    return sum(one.name == NAME for one in threading.enumerate())


def test_the_background() -> None:
    """So many threads, so much that waits; the threads end, and begin again."""
    background = pool(threads=2, capacity=3)
    gate, done = threading.Event(), list[str]()

    def wait(name: str) -> None:
        gate.wait(20)
        done.append(name)

    for name in "ab":
        assert background.submit(partial(wait, name))
        wait_until(lambda: not background._waiting, what="a thread that takes it")  # noqa: SLF001
    for name in "cde":
        assert background.submit(partial(done.append, name))
    assert not background.submit(partial(done.append, "too much"))
    assert threads() == 2
    gate.set()
    wait_until(lambda: threads() == 0, what="their end")
    assert sorted(done) == [*"abcde"]
    assert background.submit(partial(done.append, "again"))
    wait_until(lambda: done[-1] == "again", what="another thread")


def test_what_is_delayed_leaves_room() -> None:
    """It waits long, and what could be done now would find none."""
    background = pool(threads=0, capacity=4)
    assert [background.submit(_nothing, 20) for _ in range(3)] == [True, True, False]
    assert [background.submit(_nothing) for _ in range(3)] == [True, True, False]


def _nothing() -> None:
    pass


def test_nothing_in_the_background_belongs_to_a_request() -> None:
    """What is asked there is not counted for the client that is being served."""
    seen = list[str]()
    here: ContextVar[str] = ContextVar("here", default="nobody's")
    here.set("a request's")
    assert pool().submit(lambda: seen.append(here.get()))
    wait_until(lambda: seen == ["nobody's"], what="the work")
    wait_until(lambda: threads() == 0, what="the end")


def test_what_is_done_later() -> None:
    """What is due first is done first, also if it came last."""
    background = pool()
    done = list[str]()
    assert background.submit(lambda: done.append("later"), delay=0.3)
    assert background.submit(lambda: done.append("now"))
    wait_until(lambda: len(done) == 2, what="both")
    assert done == ["now", "later"]
    wait_until(lambda: threads() == 0, what="the end")


def test_an_error_ends_no_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged as any thread's, and what waits behind it is done."""
    failures = list[type[BaseException] | None]()
    monkeypatch.setattr(threading, "excepthook", lambda failure: failures.append(failure.exc_type))
    background, go_on, done = pool(), threading.Event(), list[str]()

    def fail() -> None:
        assert go_on.wait(20)
        raise LookupError

    assert background.submit(fail)
    assert background.submit(lambda: done.append("next"))
    go_on.set()
    wait_until(lambda: done == ["next"], what="the next work")
    wait_until(lambda: threads() == 0, what="the end")
    assert failures == [LookupError]


def test_no_work_is_forgotten() -> None:
    """Also if it comes just when a thread finds nothing to do, and ends."""
    background, done = pool(), threading.Semaphore(0)
    for _ in range(500):
        assert background.submit(done.release)
        assert done.acquire(timeout=20)


_PATCHED = """
from gevent import monkey
monkey.patch_all()
import threading
from gevent.monkey import get_original
from app.background import BackgroundPool

native = get_original("_thread", "get_ident")
pool, begun, go_on, done = BackgroundPool("work"), threading.Event(), threading.Event(), []


def work():
    begun.set()
    go_on.wait(30)
    done.append(native())


assert pool.submit(work)
assert pool.submit(work)
begun.wait(30)
assert not done
go_on.set()
while len(done) < 2:
    threading.Event().wait(0.01)
print(set(done) == {native()})
"""


def test_under_gevent() -> None:
    """The threads are greenlets of the event loop, which goes on meanwhile."""
    ran = subprocess.run(
        [sys.executable, "-c", _PATCHED],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert ran.stdout.strip() == "True"
