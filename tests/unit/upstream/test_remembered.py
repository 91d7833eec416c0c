"""Single-flight, and answers from memory; real threads, and events instead of time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from app.oci.errors import RegistryError, TooManyRequests, UpstreamUnavailable
from app.upstream.remembered import Recent, Remembered

PATIENCE = 10.0
"""Seconds until a test gives up on another thread; nothing waits so long when all is well."""


class Teacher:
    """What is asked: counts, and can be held back while it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: str | RegistryError = "fact"
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        self.ended = threading.Event()

    def __call__(self) -> str:
        """Be asked."""
        self.asked += 1
        self.began.set()
        assert self.may_end.wait(PATIENCE)
        self.ended.set()
        if isinstance(self.answer, RegistryError):
            raise self.answer
        return self.answer

    def hold(self) -> None:
        """Let the next asking wait."""
        self.began.clear()
        self.ended.clear()
        self.may_end.clear()


def until(happened: Callable[[], bool]) -> None:
    """Wait until something has happened; fail if it does not."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if happened():
            return
        pause.wait(0.005)
    pytest.fail("it did not happen")


def asked_at_once(ask: Callable[[], str], teacher: Teacher, callers: int = 8) -> list[Future[str]]:
    """Ask from many threads while the first asking is held back, then let it end."""
    waiting = threading.Semaphore(0)

    def one() -> str:
        waiting.release()
        return ask()

    teacher.hold()
    with ThreadPoolExecutor(callers) as pool:
        answers = [pool.submit(one) for _ in range(callers)]
        for _ in range(callers):
            assert waiting.acquire(timeout=PATIENCE)
        assert teacher.began.wait(PATIENCE)
        teacher.may_end.set()
    return answers


def test_a_fact_is_asked_once() -> None:
    """Then it is known."""
    teacher = Teacher()
    remembered = Remembered(teacher, 600)
    assert [remembered.get() for _ in range(3)] == ["fact"] * 3
    assert teacher.asked == 1


def test_single_flight() -> None:
    """Many who ask at once wait for one answer."""
    teacher = Teacher()
    remembered = Remembered(teacher, 600)
    answers = asked_at_once(remembered.get, teacher)
    assert {answer.result() for answer in answers} == {"fact"}
    assert teacher.asked == 1


def test_a_failure_is_shared() -> None:
    """Those who waited for the same asking get its error, and do not ask one after the other."""
    teacher = Teacher()
    teacher.answer = TooManyRequests()
    remembered = Remembered(teacher, 600)
    answers = asked_at_once(remembered.get, teacher)
    assert {type(answer.exception()) for answer in answers} == {TooManyRequests}
    assert teacher.asked < len(answers)


def test_a_failure_is_not_remembered() -> None:
    """Who comes later asks anew."""
    teacher = Teacher()
    teacher.answer = UpstreamUnavailable()
    remembered = Remembered(teacher, 600)
    with pytest.raises(UpstreamUnavailable):
        remembered.get()
    teacher.answer = "fact"
    assert remembered.get() == "fact"
    assert teacher.asked == 2


def test_an_old_fact_is_answered_while_it_is_refreshed() -> None:
    """Nobody waits twice for the same fact; one thread asks, however many come."""
    teacher = Teacher()
    remembered = Remembered(teacher, lifetime=0)
    assert remembered.get() == "fact"
    teacher.hold()
    teacher.answer = "newer"
    assert [remembered.get() for _ in range(5)] == ["fact"] * 5
    assert teacher.began.wait(PATIENCE)
    assert teacher.asked == 2
    teacher.may_end.set()
    until(lambda: remembered.get() == "newer")


def test_a_failed_refresh_keeps_the_fact() -> None:
    """A registry that is away is known all the same, and not asked by every caller."""
    teacher = Teacher()
    remembered = Remembered(teacher, lifetime=0)
    assert remembered.get() == "fact"
    teacher.hold()
    teacher.answer = UpstreamUnavailable()
    assert remembered.get() == "fact"
    assert teacher.began.wait(PATIENCE)
    teacher.may_end.set()
    assert teacher.ended.wait(PATIENCE)
    assert [remembered.get() for _ in range(5)] == ["fact"] * 5
    assert teacher.asked == 2


def test_what_is_no_registry_error_does_not_lock() -> None:
    """An error of ours is raised, and the next caller is not stuck behind it."""
    broken = [True]

    def learn() -> str:
        if broken.pop():
            message = "ours"
            raise ValueError(message)
        return "fact"

    broken.insert(0, False)
    remembered = Remembered(learn, 600)
    with pytest.raises(ValueError, match="ours"):
        remembered.get()
    assert remembered.get() == "fact"


@pytest.mark.parametrize("error", [None, UpstreamUnavailable()], ids=["success", "failure"])
def test_recent_acts_once(error: RegistryError | None) -> None:
    """Within its lifetime, everybody gets how it went."""
    acted: list[int] = []

    def act() -> None:
        acted.append(1)
        if error is not None:
            raise error

    recent = Recent(act, 600)
    for _ in range(3):
        if error is None:
            recent.get()
        else:
            with pytest.raises(UpstreamUnavailable):
                recent.get()
    assert len(acted) == 1


def test_recent_acts_again() -> None:
    """After its lifetime, what went wrong is tried once more."""
    outcomes: list[RegistryError | None] = [UpstreamUnavailable(), None]

    def act() -> None:
        if (error := outcomes.pop(0)) is not None:
            raise error

    recent = Recent(act, lifetime=0)
    with pytest.raises(UpstreamUnavailable):
        recent.get()
    recent.get()
    assert outcomes == []
