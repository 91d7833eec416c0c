"""The client's connection, as worker.py hands it on: slow clients are served, stalled ones left.

tests/wire has the rest of worker.py, in a running gunicorn.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config

from server.request import get_head_timeout

ROOT = Path(__file__).resolve().parents[3]
SENDING = Path(__file__).with_name("sending.py")


def sent(
    timeout: float | None, size: int, behaviour: list[tuple[int | str, float]], kind: str = "ours"
) -> dict[str, Any]:
    """Send to a client that behaves so, in a process of its own, and return how it went."""
    arguments = [kind, json.dumps(timeout), str(size), json.dumps(behaviour)]
    run = subprocess.run(
        [sys.executable, str(SENDING), *arguments],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told: dict[str, Any] = json.loads(run.stdout)
    return told


KINDS = pytest.mark.parametrize("kind", ["ours", "file"])
"""Data, and a file that the kernel sends."""


@KINDS
@pytest.mark.parametrize("timeout", [None, 0.5], ids=["no timeout", "timeout"])
def test_a_client_that_takes_it_all(timeout: float | None, kind: str) -> None:
    """It gets everything in order, and the timeout is as it was."""
    told = sent(timeout, 3_000_000, [("all", 0)], kind)
    assert (told["outcome"], told["whole"], told["end"]) == ("", True, "ended")
    assert told["timeout_after"] == timeout


@KINDS
def test_a_client_that_takes_nothing(kind: str) -> None:
    """After the timeout, and not much later, it is reset: the kernel keeps nothing for it."""
    told = sent(0.6, 3_000_000, [], kind)
    assert (told["outcome"], told["end"]) == ("ConnectionResetError", "reset")
    assert 0.55 <= told["seconds"] < 4.5
    assert told["timeout_after"] == 0.6


@KINDS
def test_a_client_that_stops(kind: str) -> None:
    """What it took before gives it the whole timeout anew, and no more."""
    told = sent(0.6, 3_000_000, [(100 * 1024, 0.4)], kind)
    assert (told["outcome"], told["end"]) == ("ConnectionResetError", "reset")
    assert told["taken"] > 0
    assert told["beginning"]
    assert 0.4 + 0.55 <= told["seconds"] < 7.5
    assert told["timeout_after"] == 0.6


SLOW: list[tuple[int | str, float]] = [("all", 0.03)]


@KINDS
def test_a_slow_client(kind: str) -> None:
    """It takes several times the timeout for one write, and gets everything."""
    told = sent(0.5, 250_000, SLOW, kind)
    assert (told["outcome"], told["whole"], told["end"]) == ("", True, "ended")
    assert told["seconds"] > 1
    assert told["timeout_after"] == 0.5


def test_gevents_own_would_cut_a_slow_client() -> None:
    """The test of the test: what is so slow is too slow for a timeout of the whole write."""
    told = sent(0.5, 250_000, SLOW, kind="gevent")
    assert told["outcome"] == "TimeoutError"
    assert 0.45 <= told["seconds"] < 3


def test_a_client_that_begins_late_without_a_timeout() -> None:
    """Where nobody set one, nobody is cut."""
    told = sent(None, 500_000, [(4096, 1), ("all", 0)])
    assert (told["outcome"], told["whole"]) == ("", True)
    assert told["timeout_after"] is None


@pytest.mark.parametrize("timeout", [None, 0.6], ids=["no timeout", "timeout"])
def test_nobody_waits_for_ever(timeout: float | None) -> None:
    """A client that takes nothing is left after a time also if none is set for its answer."""
    told = sent(timeout, 3_000_000, [], kind="impatient")
    assert (told["outcome"], told["end"]) == ("ConnectionResetError", "reset")
    assert 0.55 <= told["seconds"] < 4.5
    assert told["timeout_after"] == timeout


@pytest.mark.parametrize(("keepalive", "seconds"), [(75, 15), (620, 15), (2, 2), (0, 15)])
def test_the_time_of_a_head(keepalive: int, seconds: int) -> None:
    """It is 15 seconds, however long a connection may be idle, unless that is less."""
    cfg = Config()
    cfg.set("keepalive", keepalive)
    assert get_head_timeout(cfg) == seconds


@KINDS
def test_a_client_that_leaves(kind: str) -> None:
    """Its end ends the write at once, and the timeout is as it was."""
    told = sent(30, 3_000_000, [("close", 0.1)], kind)
    assert told["outcome"] in {"ConnectionResetError", "BrokenPipeError"}
    assert told["seconds"] < 15
    assert told["timeout_after"] == 30
