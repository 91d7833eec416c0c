"""A host that does not answer is left alone, and one at a time finds out when it is back."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events import Event
from app.oci.errors import (
    ClientGone,
    RegistryError,
    UpstreamDown,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from app.upstream.http.backoff import CircuitBreaker, CircuitBreakers
from app.upstream.http.urls import Origin, parse_origin
from tests.unit.observing import Remembering
from tests.unit.upstream.clock import Clock
from tests.unit.upstream.hurry import hurried, listening
from tests.unit.upstream.server import PATIENCE

HOST = "r.example"


def ask(breaker: CircuitBreaker, error: type[BaseException] | None = None) -> None:
    """Ask for something, which goes so."""
    with breaker.guard(HOST):
        if error is not None:
            raise error


def failing(
    breaker: CircuitBreaker, times: int, error: type[RegistryError] = UpstreamTimeout
) -> None:
    """Fail so often."""
    for _ in range(times):
        with pytest.raises(error):
            ask(breaker, error)


def open_up(breaker: CircuitBreaker, clock: Clock) -> None:
    """Fail often enough, and for long enough."""
    failing(breaker, 4)
    clock.pass_by(3)
    failing(breaker, 1)


def refused(breaker: CircuitBreaker) -> int:
    """Return the Retry-After of a refusal; see that nothing was asked."""
    with pytest.raises(UpstreamDown) as caught, breaker.guard(HOST):
        pytest.fail("it was asked")
    assert str(caught.value).startswith(f"{HOST}: ")
    return int(caught.value.extra_headers["Retry-After"])


@pytest.fixture
def breaker() -> CircuitBreaker:
    """Return a breaker of a host of which nothing is known."""
    return CircuitBreaker()


@pytest.fixture
def opened(breaker: CircuitBreaker, clock: Clock) -> CircuitBreaker:
    """Return one that is open, for a second."""
    open_up(breaker, clock)
    return breaker


@pytest.mark.parametrize("error", [UpstreamTimeout, UpstreamUnreachable])
def test_it_opens(breaker: CircuitBreaker, clock: Clock, error: type[RegistryError]) -> None:
    """Five connections in a row that were not made, or not answered on."""
    failing(breaker, 4, error)
    clock.pass_by(3)
    ask(breaker)
    failing(breaker, 4, error)
    clock.pass_by(3)
    failing(breaker, 1, error)
    assert refused(breaker) == 1


def test_many_at_once(breaker: CircuitBreaker, clock: Clock) -> None:
    """One short failure is met by all that come meanwhile, and opens nothing."""
    failing(breaker, 50, UpstreamUnreachable)
    clock.pass_by(2.9)
    failing(breaker, 50, UpstreamUnreachable)
    ask(breaker)


def test_silence_counts_from_its_beginning(breaker: CircuitBreaker, clock: Clock) -> None:
    """Five that waited for five seconds, all at the same time."""
    waiting = [breaker.guard(HOST) for _ in range(5)]
    for one in waiting:
        one.__enter__()
    clock.pass_by(5)
    for one in waiting:
        one.__exit__(UpstreamTimeout, UpstreamTimeout(), None)
    assert refused(breaker) == 1


def test_an_answer_meanwhile_counts(breaker: CircuitBreaker, clock: Clock) -> None:
    """Six heads never come, and all else is answered: the host is there."""
    waiting = [breaker.guard(HOST) for _ in range(6)]
    for one in waiting:
        one.__enter__()
    clock.pass_by(4)
    ask(breaker)
    for one in waiting:
        one.__exit__(UpstreamTimeout, UpstreamTimeout(), None)
    ask(breaker)


@pytest.mark.parametrize("error", [UpstreamUnavailable, UpstreamMisbehaved, ClientGone])
def test_what_does_not_open_it(breaker: CircuitBreaker, error: type[RegistryError]) -> None:
    """A host that cuts connections, or answers nonsense, is there; a client may leave any time."""
    failing(breaker, 50, error)
    ask(breaker)


def test_a_probe_that_goes_well(opened: CircuitBreaker, clock: Clock) -> None:
    """All may ask again."""
    clock.pass_by(0.9)
    assert refused(opened) == 1
    clock.pass_by(0.2)
    with opened.guard(HOST):
        assert refused(opened) == 1, "one at a time"
    for _ in range(3):
        ask(opened)
    failing(opened, 4)
    ask(opened)
    clock.pass_by(1)


def test_a_probe_that_fails(opened: CircuitBreaker, clock: Clock) -> None:
    """The next one waits for longer, but never for long."""
    pauses = [1.0]
    for _ in range(8):
        clock.pass_by(pauses[-1] + 0.01)
        failing(opened, 1, UpstreamUnreachable)
        pauses.append(float(refused(opened)))
    assert pauses == [1, 2, 3, 3, 3, 3, 3, 3, 3]
    clock.pass_by(3.01)
    ask(opened)
    open_up(opened, clock)
    assert refused(opened) == 1, "a host that was back is like any other"


def test_a_probe_that_says_nothing(opened: CircuitBreaker, clock: Clock) -> None:
    """Its client left: another one may be the probe at once."""
    clock.pass_by(1.01)
    failing(opened, 1, ClientGone)
    with opened.guard(HOST):
        refused(opened)


@pytest.mark.parametrize("error", [UpstreamUnavailable, UpstreamMisbehaved])
def test_a_probe_that_is_cut(
    opened: CircuitBreaker, clock: Clock, error: type[RegistryError]
) -> None:
    """Whoever cuts a connection is there."""
    clock.pass_by(1.01)
    failing(opened, 1, error)
    with opened.guard(HOST):
        ask(opened)


@pytest.mark.parametrize("opening", [True, False])
def test_what_the_log_says(breaker: CircuitBreaker, clock: Clock, *, opening: bool) -> None:
    """One line when a host is given up, and one when it is back; none for a passing failure."""
    with listening() as lines:
        if opening:
            open_up(breaker, clock)
        else:
            failing(breaker, 4)
        clock.pass_by(1.01)
        ask(breaker)
        ask(breaker)
    assert [line.partition(" host=")[0] for line in lines] == (
        ["WARNING Circuit breaker opened.", "WARNING Circuit breaker closed."] if opening else []
    )


@pytest.mark.parametrize("error", [RuntimeError, OSError, SystemExit])
def test_a_probe_that_breaks(
    opened: CircuitBreaker, clock: Clock, error: type[BaseException]
) -> None:
    """Whatever happens, a host is asked again."""
    clock.pass_by(1.01)
    with pytest.raises(error):
        ask(opened, error)
    clock.pass_by(60)
    ask(opened)


def test_who_began_before(breaker: CircuitBreaker, clock: Clock) -> None:
    """A request that was under way when the host was given up brings it back by going well."""
    with breaker.guard(HOST):
        open_up(breaker, clock)
        refused(breaker)
    ask(breaker)


def test_one_probe_among_many(opened: CircuitBreaker, clock: Clock) -> None:
    """Of twenty at the same moment, one asks and the others hear 503."""
    clock.pass_by(1.01)
    asked: list[str] = []
    all_here, all_told = threading.Barrier(20), threading.Event()
    refusals = []

    def come() -> None:
        all_here.wait(PATIENCE)
        try:
            with opened.guard(HOST):
                asked.append("probe")
                assert all_told.wait(PATIENCE)
        except UpstreamDown:
            refusals.append("refused")
            if len(refusals) == 19:
                all_told.set()

    with ThreadPoolExecutor(20) as pool:
        for done in [pool.submit(come) for _ in range(20)]:
            done.result(PATIENCE)
    assert (len(asked), len(refusals)) == (1, 19)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 20),
            st.sampled_from([None, UpstreamTimeout, UpstreamUnreachable, UpstreamUnavailable]),
        ),
        max_size=60,
    )
)
def test_it_is_never_given_up(story: list[tuple[float, type[RegistryError] | None]]) -> None:
    """Whatever went before, no refusal names more than three seconds, and keeps to it."""
    breaker = CircuitBreaker()
    with hurried() as clock:
        for seconds, error in story:
            clock.pass_by(seconds)
            try:
                ask(breaker, error)
            except UpstreamDown as down:
                told = int(down.extra_headers["Retry-After"])
                assert 1 <= told <= 3
                clock.pass_by(told)
                with contextlib.suppress(UpstreamTimeout):
                    ask(breaker, UpstreamTimeout)
            except RegistryError:
                pass
        clock.pass_by(3.01)
        ask(breaker)


def at(number: int) -> Origin:
    """Return one of many origins."""
    return parse_origin(f"https://r{number}.example/")


def test_each_origin_has_its_own() -> None:
    """Another scheme, host or port is another server."""
    breakers = CircuitBreakers()
    urls = [
        "https://r.example/a",
        "http://r.example/",
        "https://s.example/",
        "https://r.example:5/",
    ]
    found = [breakers.get_breaker(parse_origin(url)) for url in urls]
    assert len({id(breaker) for breaker in found}) == 4
    assert breakers.get_breaker(parse_origin("https://r.example:443/b?c")) is found[0]


def test_memory_is_bounded() -> None:
    """What a registry sends us to may be many hosts; the least lately used are forgotten."""
    breakers = CircuitBreakers()
    kept, lost = breakers.get_breaker(at(0)), breakers.get_breaker(at(1))
    for number in range(2, 257):
        breakers.get_breaker(at(0))
        breakers.get_breaker(at(number))
    assert breakers.get_breaker(at(0)) is kept
    assert breakers.get_breaker(at(1)) is not lost


def test_what_is_forgotten_is_not_left_alone(clock: Clock) -> None:
    """As many are told to have closed as have opened, whatever becomes of them then."""
    observer = Remembering()
    breakers = CircuitBreakers(observer)
    first, second = breakers.get_breaker(at(0)), breakers.get_breaker(at(1))
    open_up(first, clock)
    assert observer.amounts == {Event.CIRCUIT_OPENED: 1}
    for number in range(2, 258):
        breakers.get_breaker(at(number))
    assert observer.amounts == {Event.CIRCUIT_OPENED: 1, Event.CIRCUIT_CLOSED: 1}
    # Whoever still asks by them is not counted.
    clock.pass_by(2)
    ask(first)
    open_up(second, clock)
    assert observer.amounts == {Event.CIRCUIT_OPENED: 1, Event.CIRCUIT_CLOSED: 1}
