"""Retries before the first byte: what is asked again, when, and for how long."""

import io
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from app.oci.errors import (
    ClientGone,
    OutboundProxyFails,
    RegistryError,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
    UpstreamUnresolved,
    UpstreamUntrusted,
)
from app.oci.reference import Operation, RepositoryName, Tag
from app.registries import Registry
from app.source import Reply, Request, TokenRequest
from app.upstream.client import Upstream as Asked
from app.upstream.http.deadlines import NO_LIMIT, Call
from app.upstream.http.known_registries import KnownRegistries
from app.upstream.http.retries import Reliability, Retrier
from app.upstream.http.session import Session
from app.upstream.managed import ManagedSource
from app.waiting import sleep
from tests.unit.upstream.clock import Clock
from tests.unit.upstream.hurry import hurried, listening
from tests.unit.upstream.server import Server, answering, serving

URL = "https://user:pw@registry.example.com/v2/a?signature=s3cr3t"
Outcome = int | tuple[int, str] | type[RegistryError]


def answer(status: int, retry_after: str | None = None) -> requests.Response:
    """Return an answer whose body is unread."""
    response = requests.Response()
    response.status_code = status
    response.url = URL
    fields = {} if retry_after is None else {"Retry-After": retry_after}
    response.headers.update(fields)
    response.raw = urllib3.HTTPResponse(
        io.BytesIO(b"body"), fields, status, preload_content=False, request_method="GET"
    )
    return response


@dataclass
class Upstream:
    """Answers one after the other, and knows when it was asked; the last one for ever."""

    outcomes: list[Outcome]
    clock: Clock
    lasts: float = 0.0
    times: list[float] = field(default_factory=list)
    given: list[requests.Response] = field(default_factory=list)

    def __call__(self, call: Call) -> requests.Response:
        """Answer, or fail, after a while."""
        del call
        self.times.append(self.clock.now)
        self.clock.pass_by(self.lasts)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, type):
            raise outcome
        status, told = outcome if isinstance(outcome, tuple) else (outcome, None)
        self.given.append(answer(status, told))
        return self.given[-1]


@dataclass
class Leaving:
    """A client that leaves when it has been looked at so often."""

    looks: int

    def is_gone(self) -> bool:
        """Tell."""
        self.looks -= 1
        return self.looks < 0


def outcome_of(ask: Callable[[], requests.Response]) -> Outcome:
    """Return the status or the error in the end."""
    try:
        return ask().status_code
    except RegistryError as error:
        return type(error)


@pytest.mark.parametrize(
    ("outcomes", "expected", "count"),
    [
        pytest.param([200], 200, 1, id="good"),
        pytest.param([500, 200], 200, 2, id="500"),
        pytest.param([502, 200], 200, 2, id="502"),
        pytest.param([503, 200], 200, 2, id="503"),
        pytest.param([504, 404], 404, 2, id="504, 404"),
        pytest.param([500, 502, 503, 200], 200, 4, id="three"),
        pytest.param([500, 502, 503, 504], 504, 4, id="four"),
        pytest.param([503], 503, 4, id="for ever"),
        *(pytest.param([one], one, 1, id=str(one)) for one in (304, 400, 401, 403, 404, 429, 501)),
        pytest.param([UpstreamUnavailable, 200], 200, 2, id="cut"),
        pytest.param([UpstreamUnreachable, 200], 200, 2, id="refused"),
        pytest.param([UpstreamTimeout, 206], 206, 2, id="timeout"),
        pytest.param([OutboundProxyFails, 200], 200, 2, id="outbound proxy"),
        pytest.param([UpstreamTimeout, 503, UpstreamUnavailable, 200], 200, 4, id="all kinds"),
        pytest.param([UpstreamTimeout], UpstreamTimeout, 4, id="no answer for ever"),
        pytest.param([503, UpstreamUnavailable], UpstreamUnavailable, 4, id="cut for ever"),
        pytest.param([UpstreamUntrusted], UpstreamUntrusted, 1, id="untrusted"),
        pytest.param([UpstreamDown], UpstreamDown, 1, id="breaker"),
        pytest.param([503, UpstreamDown], UpstreamDown, 4, id="503, breaker"),
        pytest.param([UpstreamUnreachable, UpstreamDown, 200], 200, 3, id="breaker meanwhile"),
        pytest.param([UpstreamMisbehaved], UpstreamMisbehaved, 1, id="misbehaved"),
        pytest.param([UpstreamForbidden], UpstreamForbidden, 1, id="forbidden"),
        pytest.param([ClientGone], ClientGone, 1, id="client gone"),
        pytest.param([(503, "2"), 200], 200, 2, id="Retry-After 2"),
        pytest.param([(503, " 5 "), 200], 200, 2, id="Retry-After 5"),
        pytest.param([(503, "0"), 200], 200, 2, id="Retry-After 0"),
        pytest.param([(503, ""), 200], 200, 2, id="empty"),
        pytest.param([(503, "6"), 200], 503, 1, id="Retry-After 6"),
        pytest.param([(503, "9" * 400), 200], 503, 1, id="for ever and ever"),
        pytest.param([(503, "-1"), 200], 503, 1, id="negative"),
        pytest.param([(503, "Wed, 21 Oct 2099 07:28:00 GMT")], 503, 1, id="date"),
        pytest.param([(503, "\u0665")], 503, 1, id="another script's 5"),
    ],
)
def test_what_is_asked_again(outcomes: list[Outcome], expected: Outcome, count: int) -> None:
    """What may go well the next time, four times at the most; a long Retry-After is passed on."""
    with hurried() as clock:
        upstream = Upstream(outcomes, clock)
        assert outcome_of(lambda: Retrier(45)(upstream, NO_LIMIT)) == expected
    assert len(upstream.times) == count
    for response in upstream.given[: -1 if isinstance(expected, int) else None]:
        assert response.raw.closed, "an answer that nobody reads holds no connection"


@pytest.mark.parametrize(
    ("outcomes", "expected", "count"),
    [
        pytest.param([200], 200, 1, id="good"),
        pytest.param([404], 404, 1, id="404"),
        pytest.param([UpstreamUnreachable, 200], UpstreamUnreachable, 1, id="refused"),
        pytest.param([UpstreamTimeout, 200], UpstreamTimeout, 1, id="timeout"),
        pytest.param([UpstreamUnresolved, 200], UpstreamUnresolved, 1, id="no address"),
        pytest.param([OutboundProxyFails, 200], OutboundProxyFails, 1, id="outbound proxy"),
        pytest.param([UpstreamDown, 200], UpstreamDown, 1, id="breaker"),
        pytest.param([UpstreamUnavailable, 200], 200, 2, id="cut"),
        pytest.param([UpstreamUnavailable], UpstreamUnavailable, 2, id="cut for ever"),
        pytest.param([UpstreamUnavailable, UpstreamDown], UpstreamDown, 2, id="cut, breaker"),
        pytest.param([503, 200], 200, 2, id="503"),
        pytest.param([503], 503, 2, id="503 for ever"),
        pytest.param([(503, "1"), 200], 503, 1, id="Retry-After 1"),
    ],
)
def test_whoever_has_a_fallback_does_not_wait(
    outcomes: list[Outcome], expected: Outcome, count: int
) -> None:
    """One attempt where the host is not there, and another at once where that may mend it."""
    with hurried() as clock:
        upstream, began = Upstream(list(outcomes), clock), clock.now
        call = Call(has_fallback=lambda: True)
        assert outcome_of(lambda: Retrier(45)(upstream, call)) == expected
        assert clock.now - began < 0.1
    assert len(upstream.times) == count
    with hurried() as clock:
        alone, other = Upstream(list(outcomes), clock), Upstream(list(outcomes), clock)
        told = outcome_of(lambda: Retrier(45)(alone, NO_LIMIT))
        call = Call(has_fallback=lambda: False)
        assert outcome_of(lambda: Retrier(45)(other, call)) == told
    assert len(other.times) == len(alone.times)


def test_a_fallback_is_looked_for_after_a_failure_only() -> None:
    """It may cost a look at the disk."""
    looks = []

    def has_fallback() -> bool:
        looks.append("look")
        return True

    with hurried() as clock:
        upstream, call = (
            Upstream([200, 404, UpstreamMisbehaved], clock),
            Call(has_fallback=has_fallback),
        )
        for _ in range(3):
            outcome_of(lambda: Retrier(45)(upstream, call))
    assert looks == []


@pytest.mark.parametrize(
    ("outcome", "count"),
    [
        pytest.param(UpstreamUnreachable, 4, id="refused"),
        pytest.param(UpstreamUnresolved, 4, id="no address"),
        pytest.param(UpstreamUnavailable, 1, id="cut"),
        pytest.param(UpstreamTimeout, 1, id="timeout"),
        pytest.param(UpstreamDown, 1, id="breaker"),
        pytest.param(UpstreamUntrusted, 1, id="untrusted"),
        *(pytest.param(one, 1, id=str(one)) for one in (200, 429, 500, 502, 503, 504)),
    ],
)
def test_what_may_have_had_an_effect(outcome: Outcome, count: int) -> None:
    """A POST is sent again only where it cannot have been sent."""
    with hurried() as clock:
        upstream = Upstream([outcome], clock)
        assert outcome_of(lambda: Retrier(45).retry_connecting(upstream, NO_LIMIT)) == outcome
    assert len(upstream.times) == count


def test_a_connection_at_last() -> None:
    """Then the answer is the answer."""
    with hurried() as clock:
        upstream = Upstream([UpstreamUnreachable, UpstreamUnreachable, 503], clock)
        assert Retrier(45).retry_connecting(upstream, NO_LIMIT).status_code == 503


@given(
    outcomes=st.lists(
        st.sampled_from([503, (503, "3"), UpstreamTimeout, UpstreamUnreachable]),
        min_size=1,
        max_size=5,
    ),
    lasts=st.floats(0, 40),
    budget=st.floats(0.01, 60),
    connect=st.booleans(),
)
def test_the_budget(outcomes: list[Outcome], lasts: float, budget: float, *, connect: bool) -> None:
    """No attempt begins later than that after the first, however long each of them takes."""
    with hurried() as clock:
        upstream = Upstream(outcomes, clock, lasts)
        attempts = Retrier(budget)
        outcome_of(lambda: (attempts.retry_connecting if connect else attempts)(upstream, NO_LIMIT))
    assert upstream.times[-1] - upstream.times[0] <= budget + 1e-6
    assert 1 <= len(upstream.times) <= 4


@given(
    lasts=st.floats(0, 20),
    patience=st.floats(0.01, 60),
    whole=st.floats(0.01, 60),
    connect=st.booleans(),
)
def test_the_time_of_an_attempt(
    lasts: float, patience: float, whole: float, *, connect: bool
) -> None:
    """Each has its own, and no attempt goes on when the time of all is over."""
    given_up: list[tuple[float, float]] = []
    with hurried() as clock:
        began = clock.now

        def ask(call: Call) -> requests.Response:
            left = call.seconds_left(1000)
            given_up.append((clock.now, clock.now + left))
            clock.pass_by(min(lasts, left))
            raise UpstreamUnreachable

        attempts = Retrier(45, patience, whole)
        with pytest.raises((UpstreamUnreachable, TimeoutError)):
            (attempts.retry_connecting if connect else attempts)(ask, NO_LIMIT)
    for start, end in given_up:
        assert end - start <= patience + 1e-6
        assert end - began <= whole + 1e-6


def test_pings_and_tokens_end_before_their_clients_do() -> None:
    """Docker waits 15 seconds, whatever DOCXY_RETRY_BUDGET says."""
    with hurried() as clock:

        def ask(call: Call) -> requests.Response:
            clock.pass_by(call.seconds_left(30))
            raise UpstreamTimeout

        began = clock.now
        with pytest.raises(UpstreamTimeout):
            Retrier.for_quick_requests(45)(ask, NO_LIMIT)
        assert 6 < clock.now - began <= 12.1


def test_the_pauses_grow_and_differ() -> None:
    """Clients that failed together do not come back together."""
    seen = []
    for _ in range(20):
        with hurried() as clock:
            upstream = Upstream([503], clock)
            Retrier(45)(upstream, NO_LIMIT)
        times = upstream.times
        pauses = [later - sooner for sooner, later in pairwise(times)]
        assert 0.02 < pauses[0] < 0.1 < pauses[1] < 0.76
        assert 0.74 < pauses[2] < 2.26
        seen.append(tuple(pauses))
    assert len(set(seen)) == 20


@pytest.mark.parametrize("told", ["1", "3", "5"])
def test_a_short_retry_after_is_obeyed(told: str) -> None:
    """The upstream knows best."""
    with hurried() as clock:
        upstream = Upstream([(503, told), 200], clock)
        Retrier(45)(upstream, NO_LIMIT)
    assert upstream.times[1] - upstream.times[0] == pytest.approx(int(told), abs=0.01)


def test_nobody_waits() -> None:
    """A client that has left in a pause has nothing asked for it any more."""
    with hurried() as clock:
        upstream = Upstream([(503, "5"), 200], clock)
        with pytest.raises(ClientGone):
            Retrier(45)(upstream, Call(Leaving(looks=3)))
        assert clock.now - upstream.times[0] < 1
    assert len(upstream.times) == 1


def test_sleeping() -> None:
    """The client is looked at four times a second, and before anything else."""
    with hurried() as clock:
        began = clock.now
        sleep(2, Leaving(looks=100))
        assert clock.now - began == pytest.approx(2)
        with pytest.raises(ClientGone):
            sleep(2, Leaving(looks=0))
        assert clock.now - began == pytest.approx(2)


def test_each_is_told() -> None:
    """One warning for each answer that was not good enough, without the secrets of the URL."""
    with hurried() as clock, listening() as lines:
        Retrier(45)(Upstream([503, 502, 200], clock), NO_LIMIT)
    told = "Retrying an upstream request."
    where = "url=https://registry.example.com/v2/a"
    assert lines == [f"WARNING {told} status={status} {where}" for status in (503, 502)]


BROKEN_MANIFEST = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{"


def manifest_of(server: Server, session: Session) -> Reply:
    """Ask a server for a manifest, with the usual attempts."""
    row = Registry(name="r.example", url=server.url.rstrip("/"), token_url=server.url)
    upstream = Asked(row, session, KnownRegistries(), Reliability(retry_budget=45, resume_budget=0))
    return upstream.answer(
        Operation.manifest(RepositoryName("a/b"), Tag("latest")), Request(method="GET")
    )


@pytest.fixture
def at_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts follow each other at once."""
    monkeypatch.setattr("app.upstream.http.retries._PAUSES", (0, 0.001, 0.002))


def ping(row: Registry, asked: Asked, request: Request) -> None:
    """Ask as a client without a token."""
    del row
    asked.answer(Operation.ping(), request)


def token(row: Registry, asked: Asked, request: Request) -> None:
    """Ask for a token, where it is not known who gives them."""
    del row
    asked.token(TokenRequest(method="GET", parameters=[], has_fallback=request.has_fallback))


def managed(row: Registry, asked: Asked, request: Request) -> None:
    """Ask for a manifest with a token of this proxy's own."""
    ManagedSource(asked, row).answer(
        Operation.manifest(RepositoryName("a/b"), Tag("latest")), request
    )


@pytest.mark.usefixtures("at_no_pace")
@pytest.mark.parametrize("ask", [ping, token, managed])
@pytest.mark.parametrize(("has_fallback", "count"), [(lambda: True, 1), (lambda: False, 4)])
def test_questions_that_others_need_are_asked_once_too(
    session: Session,
    ask: Callable[[Registry, Asked, Request], None],
    has_fallback: Callable[[], bool],
    count: int,
) -> None:
    """What a registry asks for has to be known before its token service is, and before a token."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        row = Registry(name="r.example", url=f"http://127.0.0.1:{unheard.getsockname()[1]}")
        asked = Asked(
            row, session, KnownRegistries(), Reliability(retry_budget=45, resume_budget=0)
        )
        with listening() as lines, pytest.raises(UpstreamUnreachable):
            ask(row, asked, Request(method="GET", has_fallback=has_fallback))
    assert [line.partition(".")[0] for line in lines] == [
        "WARNING Upstream cannot be reached"
    ] * count


@pytest.mark.usefixtures("at_no_pace")
def test_a_manifest_that_breaks_is_told(session: Session) -> None:
    """Once an attempt, with the host; of the last one the request's line tells."""
    with serving(answering(BROKEN_MANIFEST)) as server, listening() as lines:
        with pytest.raises(UpstreamUnavailable, match="broke off"):
            manifest_of(server, session)
        assert len(server.peers) == 4
    said = 'WARNING Retrying an upstream request. error="127.0.0.1: the answer broke off"'
    assert lines == [said] * 3


@pytest.mark.usefixtures("at_no_pace")
def test_what_breaks_before_is_told_once(session: Session) -> None:
    """Where it is translated, and not once more here."""
    with serving(answering(b"")) as server, listening() as lines:
        with pytest.raises(UpstreamUnavailable):
            manifest_of(server, session)
        assert len(server.peers) == 4
    assert [line.partition(".")[0] for line in lines] == [
        "WARNING Upstream closed the connection before it responded"
    ] * 4


def test_a_host_that_is_left_alone_is_not_told_of() -> None:
    """Its breaker has said so, and nobody is asked."""
    with hurried() as clock, listening() as lines:
        Retrier(45)(Upstream([503, UpstreamDown, UpstreamTimeout, 200], clock), NO_LIMIT)
    told = "WARNING Retrying an upstream request."
    assert lines == [
        f"{told} status=503 url=https://registry.example.com/v2/a",
        f'{told} error="did not answer in time"',
    ]
