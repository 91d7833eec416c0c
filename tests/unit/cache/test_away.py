"""A registry that is away: nobody waits for it who can be served, and it is not forgotten."""

import threading
import time
from collections.abc import Callable

import pytest

from app.cache import away as room
from app.cache.away import Away, is_away
from app.cache.disk import Disk
from app.content import Reply, replied
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
    UpstreamUntrusted,
)
from tests.servers import wait_until
from tests.unit.cache.world import World

KEPT = Reply(status=200, headers=[("X", "kept")])


class Asked:
    """Counts what is asked, and answers what it is told to."""

    def __init__(self, world: World) -> None:
        self.answer: RegistryError | int = 200
        self.questions = 0
        self.tries = threading.Event()
        self.is_back = False
        disk = Disk(world.stores.open())
        self.away = Away(world.row.name, disk, self._reach)
        self._nobody = world.caller()

    def _reach(self) -> None:
        self.tries.set()
        if not self.is_back:
            raise UpstreamDown

    def _question(self) -> Reply:
        self.questions += 1
        if isinstance(self.answer, RegistryError):
            raise self.answer
        return replied(self.answer, [], b"")

    def __call__(
        self, name: str = "a", kept: Reply | None = KEPT, *, lasting: bool = True
    ) -> Reply:
        """Ask for something of a repository, of which this is kept."""
        return self.away.ask(self._nobody, name, self._question, lambda _: kept, lasting=lasting)


@pytest.fixture
def asked(world: World) -> Asked:
    """Return a registry that can be away."""
    return Asked(world)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what sets the pause."""

    def hurry(seconds: float) -> None:
        monkeypatch.setattr(room, "_PAUSE", seconds)

    return hurry


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
    assert is_away(error) is away


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
        if record.getMessage() == "What is kept is served."
    ]
    assert told == [{"registry": "r.example", "status": 503}, {"registry": "r.example"}]


def test_it_is_tried_meanwhile(asked: Asked, hurry: Callable[[float], None]) -> None:
    """And asked again once it is back, by nobody who had to wait for that."""
    hurry(0)
    asked.answer = UpstreamUnreachable("away")
    assert asked() is KEPT
    assert asked() is KEPT
    assert asked.tries.wait(10)
    asked.answer, asked.is_back = 200, True
    wait_until(lambda: asked() is not KEPT)
    assert asked() is not KEPT


def test_one_that_can_be_asked_is_back(asked: Asked) -> None:
    """Whoever gets an answer tells all."""
    asked.answer = UpstreamUnreachable("away")
    assert asked() is KEPT
    asked.answer = 200
    assert asked("b", kept=None).status == 200
    assert asked().status == 200
    assert asked() is not KEPT


def test_one_repository_fails(asked: Asked, hurry: Callable[[float], None]) -> None:
    """The others are asked, and so is this one some seconds later."""
    asked.answer = 503
    assert asked("a") is KEPT
    assert asked("a") is KEPT
    assert asked.questions == 1
    asked.answer = 200
    assert asked("b").status == 200
    assert asked("b") is not KEPT
    hurry(0)
    asked.answer = 503
    assert asked("c") is KEPT
    asked.answer = 200
    assert asked("c") is not KEPT


def test_one_answer_that_cannot_be_passed_on(asked: Asked) -> None:
    """The others are asked: what is wrong with one repository is its own, whoever asks for it."""
    asked.answer = UpstreamMisbehaved()
    assert asked("a") is KEPT
    assert asked("a") is KEPT
    assert asked.questions == 1
    asked.answer = 200
    assert asked("b") is not KEPT
    assert asked.questions == 2


def test_an_outage_of_long_ago(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes first after hours is not told what a tag meant then."""
    asked.answer = UpstreamUnreachable("away")
    assert asked() is KEPT
    asked.answer = 200
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600)
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


@pytest.mark.parametrize("status", [200, 206, 304, 401, 403, 404])
def test_answers_go_on(asked: Asked, status: int) -> None:
    """What the registry says counts."""
    asked.answer = status
    assert asked().status == status


def test_an_error_of_the_clients_goes_on(asked: Asked) -> None:
    """It is not about the registry."""
    asked.answer = ClientGone()
    with pytest.raises(ClientGone):
        asked()
