"""Single-flight: one leads, the others wait for it, in whatever worker."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.cache.singleflight import CrossProcessSingleFlight
from tests.servers import ROOT

SECRET = bytes(32)


def test_one_leads(tmp_path: Path) -> None:
    """Of many in two workers; the others are told when it has landed."""
    workers = [
        CrossProcessSingleFlight(tmp_path, SECRET),
        CrossProcessSingleFlight(tmp_path, SECRET),
    ]
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


def test_other_keys_do_not_wait(tmp_path: Path) -> None:
    """Unless they share a lock, which is for a while."""
    flights = CrossProcessSingleFlight(tmp_path, SECRET)
    with flights.try_lead("one") as one, flights.try_lead("two") as two:
        assert one
        assert two
    with flights.try_lead("one") as again:
        assert again


def test_nobody_can_choose_who_waits(tmp_path: Path) -> None:
    """Keys that have one lock in one directory have different ones elsewhere.

    Locks are few, so that many keys share one with any other: whoever could compute which would
    hold up the pulls of others.
    """

    def shares(secret: bytes, directory: Path, key: str) -> bool:
        busy, other = (
            CrossProcessSingleFlight(directory, secret, 0.0),
            CrossProcessSingleFlight(directory, secret, 0.0),
        )
        with busy.try_lead("docker.io library/alpine"), other.try_lead(key) as leads:
            return not leads

    keys = (f"docker.io mallory/{number}" for number in range(20_000))
    found = next(key for key in keys if shares(SECRET, tmp_path, key))
    secrets = [bytes([number]) * 32 for number in range(1, 9)]
    assert not all(shares(secret, tmp_path, found) for secret in secrets)


def test_a_failure_lands_too(tmp_path: Path) -> None:
    """Whoever comes next leads."""
    flights = CrossProcessSingleFlight(tmp_path, SECRET)
    with pytest.raises(LookupError), flights.try_lead("key"):
        raise LookupError
    with flights.try_lead("key") as leads:
        assert leads


def test_patience_ends(tmp_path: Path) -> None:
    """Nobody waits for ever for another one, here or elsewhere."""
    first, second = (
        CrossProcessSingleFlight(tmp_path, SECRET, 0.05),
        CrossProcessSingleFlight(tmp_path, SECRET, 0.05),
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
    """Its lock goes with it."""
    seen = Seen()
    monkeypatch.setattr("app.cache.singleflight._NEVER", seen)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from app.cache.singleflight import CrossProcessSingleFlight\n"
        "with CrossProcessSingleFlight(Path(sys.argv[1]), bytes(32)).try_lead('key'):\n"
        "    print('leads', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline()

        def follow() -> bool:
            with CrossProcessSingleFlight(tmp_path, SECRET).try_lead("key") as leads:
                return leads

        with ThreadPoolExecutor(1) as pool:
            follower = pool.submit(follow)
            assert seen.waits.wait(20)
            worker.kill()
            assert not follower.result(20)
    with CrossProcessSingleFlight(tmp_path, SECRET).try_lead("key") as leads:
        assert leads


def test_no_directory(tmp_path: Path) -> None:
    """What cannot be locked is fetched by each worker for itself."""
    (tmp_path / "flights").touch()
    with CrossProcessSingleFlight(tmp_path, SECRET).try_lead("key") as leads:
        assert leads


def test_a_directory_that_is_deleted(tmp_path: Path) -> None:
    """It is made again, for nobody else's eyes."""
    flights = CrossProcessSingleFlight(tmp_path / "cache", SECRET)
    with flights.try_lead("key"):
        pass
    assert (tmp_path / "cache" / "flights").stat().st_mode & 0o777 == 0o700
    assert len(list((tmp_path / "cache" / "flights").iterdir())) == 1
