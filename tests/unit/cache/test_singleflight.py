"""Single-flight: one leads, the others wait for it, in whatever worker."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.cache.singleflight import CrossProcessSingleFlight
from app.store.leases import FileLeases, Leases, MemoryLeases
from tests.servers import ROOT

SECRET = bytes(32)


@pytest.fixture(params=["directory", "memory"])
def leases(request: pytest.FixtureRequest, tmp_path: Path) -> Leases:
    """Return leases that several workers share."""
    return FileLeases(tmp_path, SECRET) if request.param == "directory" else MemoryLeases()


def test_one_leads(leases: Leases) -> None:
    """Of many in two workers; the others are told when it has landed."""
    workers = [CrossProcessSingleFlight(leases), CrossProcessSingleFlight(leases)]
    leading, go_on = threading.Event(), threading.Event()
    done = list[str]()

    def fly(number: int) -> bool:
        with workers[number % 2].try_lead("key") as leads:
            if leads:
                leading.set()
                go_on.wait(20)
                done.append("led")
            else:
                done.append("followed")
            return leads

    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(fly, 0)
        assert leading.wait(20)
        others = [pool.submit(fly, number) for number in range(19)]
        assert not any(one.done() for one in others)
        go_on.set()
        assert first.result(20)
        assert not any(one.result(20) for one in others)
    assert done[0] == "led"


def test_other_keys_do_not_wait(leases: Leases) -> None:
    """Unless they share a lock, which is for a while."""
    flights = CrossProcessSingleFlight(leases)
    with flights.try_lead("one") as one, flights.try_lead("two") as two:
        assert one
        assert two
    with flights.try_lead("one") as again:
        assert again


def test_a_failure_lands_too(leases: Leases) -> None:
    """Whoever comes next leads."""
    flights = CrossProcessSingleFlight(leases)
    with pytest.raises(LookupError), flights.try_lead("key"):
        raise LookupError
    with flights.try_lead("key") as leads:
        assert leads


def test_patience_ends(leases: Leases) -> None:
    """Nobody waits for ever for another one, here or elsewhere."""
    first, second = (
        CrossProcessSingleFlight(leases, 0.05),
        CrossProcessSingleFlight(leases, 0.05),
    )
    with first.try_lead("key"):
        for other in (first, second):
            with other.try_lead("key") as leads:
                assert not leads


class Seen(threading.Event):
    """Tells that somebody waits for it, which is never set."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Tell so, and wait."""
        self.waits.set()
        return super().wait(timeout)


def test_a_killed_worker_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease goes with it."""
    seen = Seen()
    monkeypatch.setattr("app.cache.singleflight._NEVER", seen)
    code = (
        "import sys, time; from pathlib import Path; from app.store.leases import FileLeases\n"
        "with FileLeases(Path(sys.argv[1]), bytes(32)).try_acquire('key'):\n"
        "    print('leads', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline()

        def follow() -> bool:
            with CrossProcessSingleFlight(FileLeases(tmp_path, SECRET)).try_lead("key") as leads:
                return leads

        with ThreadPoolExecutor(1) as pool:
            follower = pool.submit(follow)
            assert seen.waits.wait(20)
            worker.kill()
            assert not follower.result(20)
    with CrossProcessSingleFlight(FileLeases(tmp_path, SECRET)).try_lead("key") as leads:
        assert leads
