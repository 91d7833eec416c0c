"""Single-flight, and answers from memory; real threads, and events instead of time."""

import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from app.oci.errors import (
    ClientGone,
    RegistryError,
    TooManyRequests,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from app.upstream.auth.remembered import (
    OUTAGE_LIFETIME,
    PASSING_LIFETIME,
    RefreshingCache,
    ThrottledCheck,
)
from app.upstream.http.deadlines import NO_LIMIT, SHARED_LIMIT, Call
from tests.unit.upstream.clock import Clock
from tests.unit.upstream.gone import Gone

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
        self.asker = threading.current_thread()

    def __call__(self, call: Call) -> str:
        """Be asked."""
        del call
        self.asked += 1
        self.asker = threading.current_thread()
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


def lasts(fact: str) -> bool:
    """Tell whether something is worth keeping."""
    return fact != "passing"


def test_a_fact_is_asked_once(clock: Clock) -> None:
    """Then it is known, for its whole lifetime."""
    teacher = Teacher()
    remembered = RefreshingCache(teacher, lasts, 600)
    for _ in range(3):
        assert remembered.get() == "fact"
        clock.pass_by(199.9)
    assert teacher.asked == 1


def test_single_flight() -> None:
    """Many who ask at once wait for one answer."""
    teacher = Teacher()
    remembered = RefreshingCache(teacher, lasts, 600)
    answers = asked_at_once(remembered.get, teacher)
    assert {answer.result() for answer in answers} == {"fact"}
    assert teacher.asked == 1


def test_a_client_that_has_left_waits_no_longer() -> None:
    """The one who asks goes on, for the others."""
    teacher = Teacher()
    remembered = RefreshingCache(teacher, lasts, 600)
    teacher.hold()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(remembered.get, Call(Gone()))
        assert teacher.began.wait(PATIENCE)
        with pytest.raises(ClientGone):
            remembered.get(Call(Gone()))
        teacher.may_end.set()
        assert asking.result(PATIENCE) == "fact"


@pytest.mark.parametrize("answer", ["passing", UpstreamUnavailable()], ids=["fact", "failure"])
def test_what_passes_is_shared(answer: str | RegistryError) -> None:
    """Those who waited for the same asking get what it brought; none of them asks again."""
    teacher = Teacher()
    teacher.answer = answer
    remembered = RefreshingCache(teacher, lasts, 600)
    answers = asked_at_once(remembered.get, teacher)
    if isinstance(answer, RegistryError):
        errors = [one.exception() for one in answers]
        assert {type(error) for error in errors} == {UpstreamUnavailable}
        assert len({id(error) for error in [answer, *errors]}) == len(errors) + 1
    else:
        assert {one.result() for one in answers} == {"passing"}
    assert teacher.asked == 1


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        pytest.param("passing", PASSING_LIFETIME, id="fact"),
        pytest.param(TooManyRequests(), PASSING_LIFETIME, id="refusal"),
        pytest.param(UpstreamUnavailable(), OUTAGE_LIFETIME, id="outage"),
    ],
)
def test_what_passes_counts_for_some_seconds(
    clock: Clock, answer: str | RegistryError, seconds: float
) -> None:
    """It is no fact about a registry, but many may want to ask."""
    teacher = Teacher()
    teacher.answer = answer
    remembered = RefreshingCache(teacher, lasts, 600)

    def brings() -> str:
        try:
            return remembered.get()
        except RegistryError:
            return "failure"

    expected = "failure" if isinstance(answer, RegistryError) else "passing"
    assert brings() == expected
    teacher.answer = "fact"
    clock.pass_by(seconds - 0.1)
    assert brings() == expected
    assert teacher.asked == 1
    clock.pass_by(0.1)
    assert brings() == "fact"
    assert teacher.asked == 2
    clock.pass_by(599)
    assert brings() == "fact"
    assert teacher.asked == 2


def test_what_passes_gives_way_to_what_comes_after_it(clock: Clock) -> None:
    """As long as nothing lasting is known, the latest counts."""
    teacher = Teacher()
    remembered = RefreshingCache(teacher, lasts, 600)
    teacher.answer = UpstreamUnavailable("first")
    with pytest.raises(UpstreamUnavailable, match="first"):
        remembered.get()
    clock.pass_by(PASSING_LIFETIME)
    teacher.answer = "passing"
    assert remembered.get() == "passing"
    clock.pass_by(PASSING_LIFETIME)
    teacher.answer = UpstreamTimeout("third")
    for _ in range(2):
        with pytest.raises(UpstreamTimeout, match="third"):
            remembered.get()
    assert teacher.asked == 3


def test_a_failure_is_raised_afresh() -> None:
    """Nothing of the request that met it is kept alive, and no traceback grows."""
    teacher = Teacher()
    teacher.answer = UpstreamUnavailable("r.example: away", since=5)
    remembered = RefreshingCache(teacher, lasts, 600)
    raised = []
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable) as caught:
            remembered.get()
        raised.append(caught.value)
        assert (str(caught.value), caught.value.detail) == ("r.example: away", {"since": 5})
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
    assert len({id(error) for error in [teacher.answer, *raised]}) == 4
    assert len({len(list(traceback.walk_tb(error.__traceback__))) for error in raised}) == 1
    assert teacher.asked == 1


def test_an_old_fact_is_answered_while_it_is_refreshed() -> None:
    """Nobody waits twice for the same fact; one thread asks, however many come."""
    teacher = Teacher()
    remembered = RefreshingCache(teacher, lasts, lifetime=0)
    assert remembered.get() == "fact"
    teacher.hold()
    teacher.answer = "newer"
    assert [remembered.get() for _ in range(5)] == ["fact"] * 5
    assert teacher.began.wait(PATIENCE)
    assert teacher.asked == 2
    teacher.may_end.set()
    until(lambda: remembered.get() == "newer")


@pytest.mark.parametrize("answer", ["passing", UpstreamUnavailable()], ids=["passing", "failure"])
def test_a_failed_refresh_keeps_the_fact(clock: Clock, answer: str | RegistryError) -> None:
    """A registry that is away, or busy, is known all the same, and not asked by every caller."""
    teacher = Teacher()
    remembered = RefreshingCache(teacher, lasts, lifetime=600)
    assert remembered.get() == "fact"
    clock.pass_by(600)
    for asked in (2, 3):
        teacher.hold()
        teacher.answer = answer
        assert remembered.get() == "fact"
        assert teacher.began.wait(PATIENCE)
        teacher.may_end.set()
        assert teacher.ended.wait(PATIENCE)
        teacher.asker.join(PATIENCE)
        clock.pass_by(29.9)
        assert [remembered.get() for _ in range(5)] == ["fact"] * 5
        assert teacher.asked == asked
        clock.pass_by(0.1)
    teacher.hold()
    teacher.answer = "newer"
    assert remembered.get() == "fact"
    teacher.may_end.set()
    until(lambda: remembered.get() == "newer")
    assert teacher.asked == 4


def test_what_is_no_registry_error_does_not_lock() -> None:
    """An error of ours is raised, and the next caller is not stuck behind it."""
    broken = [True]

    def learn(call: Call) -> str:
        del call
        if broken.pop():
            message = "ours"
            raise ValueError(message)
        return "fact"

    broken.insert(0, False)
    remembered = RefreshingCache(learn, lasts, 600)
    with pytest.raises(ValueError, match="ours"):
        remembered.get()
    assert remembered.get() == "fact"


@pytest.mark.parametrize("error", [None, UpstreamUnavailable()], ids=["success", "failure"])
def test_recent_acts_once(error: RegistryError | None) -> None:
    """Within its lifetime, everybody gets how it went."""
    acted: list[int] = []

    def act(call: Call) -> None:
        del call
        acted.append(1)
        if error is not None:
            raise error

    recent = ThrottledCheck(act, 600)
    for _ in range(3):
        if error is None:
            recent.check()
        else:
            with pytest.raises(UpstreamUnavailable) as caught:
                recent.check()
            assert caught.value is not error
    assert len(acted) == 1


def test_recent_acts_again() -> None:
    """After its lifetime, what went wrong is tried once more."""
    outcomes: list[RegistryError | None] = [UpstreamUnavailable(), None]

    def act(call: Call) -> None:
        del call
        if (error := outcomes.pop(0)) is not None:
            raise error

    recent = ThrottledCheck(act, lifetime=0)
    with pytest.raises(UpstreamUnavailable):
        recent.check()
    recent.check()
    assert outcomes == []


def test_a_hurried_caller_hurries_nobody_else(clock: Clock) -> None:
    """A fact is learned in its own time; a timeout would be everybody's for some seconds."""
    del clock
    given: list[float | None] = []
    remembered = RefreshingCache(
        lambda call: given.append(call.seconds_left(None)), lambda _: True, 600
    )
    recent = ThrottledCheck(lambda call: given.append(call.seconds_left(None)), 600)
    call = NO_LIMIT.limit_time(0)
    with pytest.raises(TimeoutError):
        call.seconds_left(None)
    remembered.get(call)
    recent.check()
    assert given == [SHARED_LIMIT] * 2
