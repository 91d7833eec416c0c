"""Lines and counts of many requests at once."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from app.events import UNWATCHED, Download, Exchange
from app.routes.access_log import AccessLog, EndedRequest
from tests.servers import ROOT, wait_until


class Watcher:
    """Notes what it is told of."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.batches = 0

    def begin_download(self, exchange: Exchange, length: int | None) -> Download:
        """Watch nothing."""
        del exchange, length
        return UNWATCHED

    def record_end(self, exchanges: Sequence[Exchange]) -> None:
        """Note them."""
        self.batches += 1
        self.statuses += [exchange.status for exchange in exchanges]


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def afterwards(watcher: Watcher) -> AccessLog:
    return AccessLog(watcher)


def ended(number: int, at: float = 0.0) -> EndedRequest:
    """Return a request that can be told from others."""
    return EndedRequest(
        Exchange(status=number, started_at=1.0), {"status": number, "upstream_seconds": 0.0}, at
    )


def test_nobody_has_to_come_for_it(afterwards: AccessLog, watcher: Watcher) -> None:
    """It is told soon, in order, and so is what comes later."""
    for number in range(4):
        afterwards.add(ended(number))
    assert watcher.statuses == [0]
    wait_until(lambda: len(watcher.statuses) == 4, 5)
    afterwards.add(ended(4))
    wait_until(lambda: len(watcher.statuses) == 5, 5)
    assert watcher.statuses == [0, 1, 2, 3, 4]
    assert watcher.batches <= 4


def test_who_is_alone_does_not_wait(afterwards: AccessLog, watcher: Watcher) -> None:
    """And takes along who does."""
    for number, took in enumerate((0.1, 0.1001, 0.1002, 0.2, 0.3)):
        one = ended(number)
        one.exchange.duration = took
        afterwards.add(one)
        assert watcher.statuses == list(range(number + 1)) or number in {1, 2}
    assert watcher.batches == 3


def test_it_does_not_pile_up(afterwards: AccessLog, watcher: Watcher) -> None:
    """Who is very busy tells of a hundred or so at a time, and waits for no timer."""
    for number in range(2000):
        afterwards.add(ended(number))
        assert number - len(watcher.statuses) < 128
    afterwards.flush()
    assert watcher.statuses == list(range(2000))


def test_threads_lose_nothing(afterwards: AccessLog, watcher: Watcher) -> None:
    """Whoever adds and whoever tells, each is told once."""

    def add(first: int) -> None:
        for number in range(first, first + 1000):
            afterwards.add(ended(number))

    threads = [threading.Thread(target=add, args=[first]) for first in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    afterwards.flush()
    assert sorted(watcher.statuses) == list(range(3000))


def test_the_time_of_a_line_is_that_of_the_end(
    afterwards: AccessLog, caplog: pytest.LogCaptureFixture
) -> None:
    """And not of the writing."""
    caplog.set_level(logging.INFO)
    at = time.time() - 1000
    for number in range(2):
        afterwards.add(ended(number, at + number))
    afterwards.flush()
    assert [record.created for record in caplog.records] == [at, at + 1]


class Failing(Watcher):
    """Cannot count."""

    def record_end(self, exchanges: Sequence[Exchange]) -> None:
        """Fail."""
        super().record_end(exchanges)
        message = "no space"
        raise OSError(message)


def test_what_cannot_be_counted_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing comes for it again, so its line is written whatever else fails."""
    caplog.set_level(logging.INFO)
    with pytest.raises(OSError, match="no space"):
        AccessLog(Failing()).write([ended(number) for number in range(3)])
    assert [fields(record)["status"] for record in caplog.records] == [0, 1, 2]


def fields(record: logging.LogRecord) -> dict[str, int]:
    """Return what a line says beside its sentence."""
    found: dict[str, int] = record.__dict__["fields"]
    return found


def test_nothing_is_told_where_nothing_waits(afterwards: AccessLog, watcher: Watcher) -> None:
    """A timer comes for what a request that ended alone may have taken along."""
    afterwards.flush()
    assert watcher.batches == 0


def test_nothing_waits_where_nobody_looks(caplog: pytest.LogCaptureFixture) -> None:
    """Without counts and lines a request costs neither."""
    caplog.set_level(logging.WARNING)
    afterwards = AccessLog(UNWATCHED)
    afterwards.add(ended(200))
    caplog.set_level(logging.INFO)
    afterwards.flush()
    assert caplog.records == []


SCRIPT = """
import sys
if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
from app import logs
from app.events import Exchange, UNWATCHED
from app.routes.access_log import AccessLog, EndedRequest

class Watcher:
    begin_download = UNWATCHED.begin_download
    def record_end(self, exchanges):
        print("counted", len(exchanges))

logs.configure("json", "info")
afterwards = AccessLog(Watcher())
for number in range(3):
    fields = {"number": number, "upstream_seconds": 0.0}
    afterwards.add(EndedRequest(Exchange(started_at=1.0), fields, 0.0))
if sys.argv[2] == "SystemExit":
    sys.exit(3)
"""


@pytest.mark.parametrize("how", ["SystemExit", "the end"])
@pytest.mark.parametrize("threads", ["gevent", "threads"])
def test_the_end_of_the_process_waits(threads: str, how: str) -> None:
    """What has not been told is told then, before the time for it has come."""
    command = [sys.executable, "-c", SCRIPT, threads, how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert done.returncode == (3 if how == "SystemExit" else 0)
    assert done.stdout == b"counted 1\ncounted 2\n"
    assert [json.loads(line)["number"] for line in done.stderr.splitlines()] == [0, 1, 2]
