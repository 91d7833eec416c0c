"""When the next fetch of a blob begins, after some that have brought nothing."""

import pytest

from app.oci.errors import Denied, UpstreamDown
from app.source import BodyBroken
from app.transfer.connections import PartRefused
from app.transfer.patience import Patience, is_final
from tests.unit.transfer.parts import Clock

BROKEN = BodyBroken("it broke off")


@pytest.fixture
def clock() -> Clock:
    """Return a clock that goes on when it is told to."""
    return Clock()


@pytest.fixture
def patience(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Patience:
    """Return the patience of a minute, whose pauses are no game of chance."""
    monkeypatch.setattr("random.uniform", lambda _low, _high: 1.0)
    made = Patience(60, clock)
    made.record_start(0)
    return made


def measure_pause(patience: Patience, clock: Clock) -> float:
    """Return how many seconds the pause takes, to 50 ms."""
    began = clock.now
    while patience.is_pausing():
        clock.now += 0.05
    return round(clock.now - began, 2)


def end(
    patience: Patience, clock: Clock, failure: Exception | None = BROKEN, arrived: int = 0
) -> None:
    """Let a fetch end as soon as it begins, or as its bytes have come."""
    patience.record_end(failure, arrived=arrived, received_at=clock.now)


def is_over(patience: Patience) -> bool:
    """Return whether no further fetch begins."""
    try:
        patience.check()
    except BodyBroken:
        return True
    return False


def fail(patience: Patience, clock: Clock) -> list[float]:
    """Let fetches fail until no further one begins, and return the pauses."""
    pauses = list[float]()
    while not is_over(patience):
        end(patience, clock)
        pauses.append(measure_pause(patience, clock))
    return pauses


def test_the_pauses_grow(patience: Patience, clock: Clock) -> None:
    """Until a minute has passed."""
    pauses = fail(patience, clock)
    assert pauses == pytest.approx([0.05, 0.5, 1, 2, 4, *[8] * 6, 0], abs=0.06)


def test_bytes_begin_another_minute(patience: Patience, clock: Clock) -> None:
    """Whoever has brought them."""
    end(patience, clock)
    clock.now += 59
    end(patience, clock, arrived=1)
    assert not patience.is_pausing()
    clock.now += 59
    end(patience, clock, arrived=1)
    patience.check()
    assert measure_pause(patience, clock) == pytest.approx(0.05, abs=0.06)


def test_a_fetch_that_ends_well(patience: Patience, clock: Clock) -> None:
    """It says that all is well, though it has brought nothing."""
    fail(patience, clock)
    end(patience, clock, None)
    patience.check()
    assert not patience.is_pausing()


def test_a_new_reader_during_a_pause(patience: Patience, clock: Clock) -> None:
    """It waits as the others do, for up to a minute of its own."""
    end(patience, clock, PartRefused(429, 50))
    clock.now += 40
    patience.record_reader()
    assert patience.is_pausing()
    clock.now += 10
    assert not patience.is_pausing()
    end(patience, clock, PartRefused(429, 45))
    patience.check()


def test_a_new_reader_after_the_end(patience: Patience, clock: Clock) -> None:
    """The registry may answer by now."""
    fail(patience, clock)
    patience.record_reader()
    patience.check()
    assert not patience.is_pausing()


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(PartRefused(503, 20), id="a refusal"),
        pytest.param(UpstreamDown(headers={"Retry-After": "20"}), id="no request"),
    ],
)
@pytest.mark.parametrize("arrived", [0, 1])
def test_a_moment_that_was_told(
    patience: Patience, clock: Clock, failure: Exception, arrived: int
) -> None:
    """It counts, even if something has come."""
    end(patience, clock, failure, arrived)
    patience.check()
    assert measure_pause(patience, clock) == pytest.approx(20, abs=0.06)


@pytest.mark.parametrize("arrived", [0, 1])
def test_a_moment_that_is_too_late(patience: Patience, clock: Clock, arrived: int) -> None:
    """Nobody waits for it."""
    end(patience, clock, PartRefused(429, 61), arrived)
    assert not patience.is_pausing()
    with pytest.raises(BodyBroken, match="429"):
        patience.check()


def test_a_fetch_that_was_silent_for_long(patience: Patience, clock: Clock) -> None:
    """Its last byte counts, and not its end: it has tried to go on by itself."""
    clock.now = 60.0
    patience.record_end(BROKEN, arrived=1, received_at=1.0)
    patience.check()
    clock.now = 62.0
    patience.record_end(BROKEN, arrived=2, received_at=1.5)
    assert is_over(patience)


@pytest.mark.parametrize(
    ("failure", "final"),
    [
        (PartRefused(401, 0), True),
        (Denied(), True),
        (PartRefused(403, 0), False),
        (PartRefused(429, 0), False),
        (BROKEN, False),
    ],
)
def test_who_is_refused_for_good(failure: Exception, *, final: bool) -> None:
    """Whoever would have to log in again."""
    assert is_final(failure) == final
