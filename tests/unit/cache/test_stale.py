"""A registry that is away: whoever can be served does not wait, and it is found when it is back."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

from app.background import BackgroundPool
from app.cache import stale as room
from app.cache.stale import StaleIfError, is_outage
from app.oci.errors import (
    AccountRefused,
    ClientGone,
    Denied,
    NameUnknown,
    OutboundProxyFails,
    RegistryError,
    TooManyRequests,
    Unauthorized,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnreachable,
    UpstreamUnresolved,
    UpstreamUntrusted,
)
from app.source import Reply, Request, build_reply
from tests.servers import wait_until
from tests.unit.cache.world import World, executor
from tests.unit.upstream.clock import Clock

KEPT = Reply(status=200, headers=[("X", "kept")])


class Asked:
    """Counts what is asked, and answers what it is told to."""

    def __init__(self, world: World) -> None:
        self.answer: RegistryError | int = 200
        self.questions = 0
        self.asked = Request(method="GET")
        self.during: Callable[[], object] = lambda: None
        """Happens while a question is being answered."""
        self.tries = threading.Event()
        self.is_back = False
        disk = executor(world.storages.open())
        self.away = StaleIfError(world.row.name, disk, self._reach)
        self._nobody = world.caller()

    def _reach(self) -> None:
        self.tries.set()
        if not self.is_back:
            raise UpstreamDown

    def _question(self, request: Request) -> Reply:
        self.questions += 1
        self.asked = request
        self.during()
        if isinstance(self.answer, RegistryError):
            raise self.answer
        return build_reply(self.answer, [], b"")

    def __call__(
        self, name: str = "a", kept: Reply | None = KEPT, *, lasting: bool = True
    ) -> Reply:
        """Ask for something of a repository, of which this is kept."""
        return self.away.fetch_or_serve_stale(
            self._nobody,
            name,
            Request(method="GET"),
            self._question,
            lambda _: kept,
            lasting=lasting,
        )


@pytest.fixture
def asked(world: World) -> Asked:
    """Return a registry that can be away."""
    return Asked(world)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the time that passes for what is known of outages."""
    clock = Clock()
    monkeypatch.setattr(room, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (UpstreamUnreachable(), True),
        (UpstreamDown(), True),
        (UpstreamTimeout(), True),
        (UpstreamUntrusted(), True),
        (OutboundProxyFails(), True),
        (UpstreamMisbehaved(), True),
        (UpstreamForbidden(), True),
        (TooManyRequests(), True),
        (AccountRefused(), False),
        (Denied(), False),
        (Unauthorized(), False),
        (NameUnknown(), False),
        (ClientGone(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_away(error: RegistryError, *, away: bool) -> None:
    """No answer, or one that says nothing of who may read what."""
    assert is_outage(error) is away


def test_nobody_waits_twice(asked: Asked) -> None:
    """Whatever repository is asked for; who cannot be served asks."""
    asked.answer = UpstreamUnreachable("away")
    for name in "aabc":
        assert asked(name) is KEPT
    assert asked.questions == 1
    with pytest.raises(UpstreamUnreachable):
        asked("a", kept=None)
    assert asked.questions == 2


def test_it_is_told(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    """What stands for an answer leaves a line, with the status of the one that it stands for."""
    asked.answer = 503
    assert asked() is KEPT
    assert asked() is KEPT
    asked.answer = 200
    assert asked("b").status == 200
    told = [
        record.__dict__["fields"]
        for record in caplog.records
        if record.getMessage() == "Serving stale content."
    ]
    assert told == [{"registry": "r.example", "status": 503}, {"registry": "r.example"}]


def test_a_client_finds_out(asked: Asked, clock: Clock) -> None:
    """One that is refused costs nothing: the first request after a pause is the probe."""
    asked.answer = UpstreamUnreachable("away")
    assert asked() is KEPT
    for probes in (2, 3):
        clock.pass_by(1.99)
        assert asked() is KEPT
        assert asked.questions == probes - 1
        clock.pass_by(0.02)
        assert asked() is KEPT
        assert asked.questions == probes
    asked.answer = 200
    clock.pass_by(2)
    assert asked("b") is not KEPT
    assert asked("a", lasting=False) is not KEPT
    assert not asked.tries.is_set(), "no ping is needed"


def test_one_client_at_a_time(asked: Asked, clock: Clock) -> None:
    """While one finds out, the others are served; after three seconds another one asks as well."""
    asked.answer = UpstreamUnreachable("away")
    assert asked() is KEPT
    clock.pass_by(2)
    meanwhile = []

    def during() -> None:
        asked.during = lambda: None
        for seconds in (0, 2.9, 0.1):
            clock.pass_by(seconds)
            before = asked.questions
            assert asked("b") is KEPT
            meanwhile.append(asked.questions - before)

    asked.during = during
    assert asked() is KEPT
    assert meanwhile == [0, 0, 1]


@pytest.mark.parametrize("answer", [ClientGone(), 429, 401], ids=["left", "429", "401"])
def test_a_probe_that_tells_nothing_blocks_nobody(
    asked: Asked, clock: Clock, answer: RegistryError | int
) -> None:
    """Another one may ask at once."""
    asked.answer = UpstreamUnreachable("away")
    assert asked() is KEPT
    clock.pass_by(2)
    asked.answer = answer
    with suppress(ClientGone):
        asked()
    asked.answer = 200
    assert asked() is not KEPT


def test_the_breaker_paces_the_probes(asked: Asked, clock: Clock) -> None:
    """It refuses at once, so each request may find out whether it lets one pass again."""
    asked.answer = UpstreamUnreachable("away")
    assert asked() is KEPT
    clock.pass_by(2)
    asked.answer = UpstreamDown("left alone")
    for questions in (2, 3, 4):
        assert asked() is KEPT
        assert asked.questions == questions
    asked.answer = 200
    assert asked() is not KEPT


@pytest.mark.parametrize("error", [UpstreamTimeout, UpstreamUnresolved])
def test_nobody_waits_for_one_that_is_silent(
    asked: Asked, clock: Clock, error: type[RegistryError]
) -> None:
    """Whether it is back is found out by a ping, behind those who are served meanwhile."""
    asked.answer = error("away")
    assert asked() is KEPT
    for answer in (UpstreamDown("left alone"), error("away")):
        asked.answer = answer
        clock.pass_by(2)
        asked.tries.clear()
        assert asked() is KEPT
        assert asked.tries.wait(10)
        wait_until(lambda: not any(one.name == "probe" for one in threading.enumerate()))
        assert asked.questions == 1
    asked.answer, asked.is_back = 200, True
    clock.pass_by(2)
    wait_until(lambda: asked() is not KEPT)


def test_a_probe_that_finds_no_room(asked: Asked, clock: Clock) -> None:
    """It is dropped, and the next request probes."""
    asked.answer = UpstreamTimeout("away")
    assert asked() is KEPT
    clock.pass_by(2)
    has_room, asked.away._background = asked.away._background, BackgroundPool("", capacity=0)  # noqa: SLF001 - full
    assert asked() is KEPT
    assert not asked.tries.is_set()
    asked.away._background = has_room  # noqa: SLF001 - it has room again
    assert asked() is KEPT
    assert asked.tries.wait(10)
    assert asked.questions == 1


def test_whoever_has_something_kept_need_not_wait(asked: Asked) -> None:
    """The upstream learns so when an attempt has failed, and what was looked at is closed."""
    closed = []
    kept = replace(KEPT, close=lambda: closed.append("kept"))
    for answer, has_fallback in ((kept, True), (None, False)):
        asked("a", answer)
        assert asked.asked.has_fallback is not None
        assert closed == []
        assert asked.asked.has_fallback() is has_fallback
        assert closed == ["kept"] * has_fallback
        closed.clear()


def test_one_that_can_be_asked_is_back(asked: Asked) -> None:
    """Whoever gets an answer tells all."""
    asked.answer = UpstreamUnreachable("away")
    assert asked() is KEPT
    asked.answer = 200
    assert asked("b", kept=None).status == 200
    assert asked().status == 200
    assert asked() is not KEPT


def test_one_repository_fails(asked: Asked, clock: Clock) -> None:
    """The others are asked, and so is this one some seconds later."""
    asked.answer = 503
    assert asked("a") is KEPT
    assert asked("a") is KEPT
    assert asked.questions == 1
    asked.answer = 200
    assert asked("b").status == 200
    assert asked("b") is not KEPT
    assert asked("a") is KEPT
    clock.pass_by(2)
    assert asked("a") is not KEPT


def test_one_answer_that_cannot_be_passed_on(asked: Asked) -> None:
    """The others are asked: what is wrong with one repository is its own, whoever asks for it."""
    asked.answer = UpstreamMisbehaved()
    assert asked("a") is KEPT
    assert asked("a") is KEPT
    assert asked.questions == 1
    asked.answer = 200
    assert asked("b") is not KEPT
    assert asked.questions == 2


@pytest.mark.parametrize("error", [UpstreamUnreachable, UpstreamTimeout])
def test_an_outage_of_long_ago(asked: Asked, clock: Clock, error: type[RegistryError]) -> None:
    """Whoever comes first after hours is not told what a tag meant then."""
    asked.answer = error("away")
    assert asked() is KEPT
    asked.answer = 200
    clock.pass_by(3600)
    assert asked() is not KEPT


def test_what_may_have_changed_is_asked_for(asked: Asked) -> None:
    """As long as the registry answers at all."""
    asked.answer = 503
    for _ in range(2):
        assert asked(lasting=False) is KEPT
    assert asked.questions == 2
    asked.answer = 404
    assert asked(lasting=False).status == 404
    asked.answer = UpstreamUnreachable("away")
    for _ in range(2):
        assert asked(lasting=False) is KEPT
    assert asked.questions == 4


def test_429_is_no_outage(asked: Asked) -> None:
    """It is somebody's, and others may ask."""
    asked.answer = 429
    for _ in range(3):
        assert asked() is KEPT
    assert asked.questions == 3
    assert asked(kept=None).status == 429


@pytest.mark.parametrize("status", [200, 206, 304, 401, 403, 404, 501])
def test_answers_go_on(asked: Asked, status: int) -> None:
    """What the registry says counts."""
    asked.answer = status
    assert asked().status == status


def test_an_error_of_the_clients_goes_on(asked: Asked) -> None:
    """It is not about the registry."""
    asked.answer = ClientGone()
    with pytest.raises(ClientGone):
        asked()
