"""A registry that is down: its requests fail fast, it is found again, and nobody else suffers."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.hub import Hub
from tests.integration.survival import (
    INDEX,
    MANIFEST,
    LateServer,
    Surviving,
    Survivor,
    hanging_names,
    late_server,
)
from tests.servers import wait_until
from tests.wire.client import Answer

pytestmark = pytest.mark.integration

DOWN = "/v2/down.test/a/manifests/1"
LATELY = b"could not be reached recently"


@pytest.fixture
def late() -> Iterator[LateServer]:
    """Return a registry that is down."""
    with late_server() as server:
        yield server


def refused_fast(survivor: Survivor, times: int = 10) -> bool:
    """Tell whether so many requests in a row were refused without a question."""
    for _ in range(times):
        began = time.monotonic()
        answer = survivor.get(DOWN)
        assert answer.status == 503
        if LATELY not in answer.body:
            return False
        assert 1 <= int(answer.head.value("Retry-After")) <= 15
        assert time.monotonic() - began < 3
    return True


def well(survivor: Survivor, authorization: str) -> bool:
    """Tell whether the other registry of the table serves as ever."""
    began = time.monotonic()
    answer = survivor.get(MANIFEST, authorization, INDEX)
    return answer.status == 200 and time.monotonic() - began < 5


def test_down_and_up_again(surviving: Surviving, bad_day: Hub, late: LateServer) -> None:
    """503 at once with a Retry-After while it is down; seconds after it is back, 200."""
    del bad_day
    survivor = surviving(rows=(late.row("down.test"),), DOCXY_RETRY_BUDGET="0.3")
    authorization = survivor.login()
    assert survivor.get(DOWN).status == 503
    wait_until(lambda: refused_fast(survivor), 15, "both workers' breakers")
    assert well(survivor, authorization)
    late.open()
    wait_until(lambda: survivor.get(DOWN).status == 200, 20, "the registry that is back")
    wait_until(lambda: all(survivor.get(DOWN).status == 200 for _ in range(10)), 20)
    assert well(survivor, authorization)


def test_one_probe_at_a_time(surviving: Surviving, bad_day: Hub, late: LateServer) -> None:
    """While one request finds out, all the others hear 503."""
    del bad_day
    survivor = surviving(
        workers=1, rows=(late.row("down.test"),), DOCXY_RETRY_BUDGET="0.01", DOCXY_READ_TIMEOUT="9"
    )
    wait_until(lambda: refused_fast(survivor, 1), 15, "the breaker")
    late.gate = type(late.gate)()
    late.open()
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(ask_until_let_in, survivor)
        wait_until(lambda: late.gate.arrived == 1, 20, "the probe")
        assert refused_fast(survivor, 5)
        assert late.gate.arrived == 1
        late.gate.open()
        assert probe.result().status == 200
    assert [survivor.get(DOWN).status for _ in range(3)] == [200] * 3


def ask_until_let_in(survivor: Survivor) -> Answer:
    """Ask until it is no refusal."""
    while LATELY in (answer := survivor.get(DOWN)).body:
        assert answer.status == 503
    return answer


@dataclass(frozen=True)
class Hanging:
    """A Docxy, one registry of which has a name that no resolver answers for until it is told."""

    survivor: Survivor
    release: Callable[[], None]

    @contextlib.contextmanager
    def asked_at_once(self) -> Iterator[list[Future[Answer]]]:
        """Ask that registry twelve times: more than there are threads for names."""
        with ThreadPoolExecutor(12) as pool:
            try:
                yield [pool.submit(self.survivor.get, DOWN) for _ in range(12)]
            finally:
                self.release()


@pytest.fixture
def hanging(surviving: Surviving, bad_day: Hub, tmp_path: Path) -> Iterator[Hanging]:
    """Return a Docxy of a test's own: names that were once released do not hang again."""
    del bad_day
    with hanging_names(tmp_path) as (names, release):
        row: dict[str, object] = {"name": "down.test", "url": "https://r.hanging.test"}
        more = {"DOCXY_CONNECT_TIMEOUT": "0.5", "DOCXY_RETRY_BUDGET": "0.01"}
        yield Hanging(surviving(workers=1, rows=(row,), **more, **names), release)


def test_a_resolver_that_hangs(hanging: Hanging) -> None:
    """Another registry of the same process answers as ever."""
    authorization = hanging.survivor.login()
    with hanging.asked_at_once() as answers:
        wait_until(lambda: any(answer.done() for answer in answers), 15)
        assert all(well(hanging.survivor, authorization) for _ in range(5))
        assert {one.result().status for one in answers if one.done()} <= {503, 504}


def test_a_resolver_that_hangs_for_all(hanging: Hanging) -> None:
    """The timeout holds for every request of that registry, too."""
    with hanging.asked_at_once() as answers:
        wait_until(lambda: all(answer.done() for answer in answers), 4)
