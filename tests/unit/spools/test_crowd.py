"""Many readers at once, of whom many leave: no byte is another's."""

import subprocess
import sys
from pathlib import Path

from app.spools.lead import UnreadLimits
from tests.servers import ROOT, clean_environment
from tests.unit.spools.crowd import BLOBS, READERS, Crowd
from tests.unit.spools.parts import Bench, digest_of, wait_for

ROUNDS = 4

_START = (
    "from gevent import monkey; monkey.patch_all(); "
    "import runpy; runpy.run_module('tests.unit.spools.crowd', run_name='__main__', alter_sys=True)"
)


def test_fifty_readers(bench: Bench) -> None:
    """On real threads, as if they were of three processes."""
    crowd = Crowd([bench.fetches(unread_limits=UnreadLimits.fixed(50_000)) for _ in range(3)])
    for number in range(ROUNDS):
        crowd.gather(number * READERS)
    assert crowd.failures == []
    wait_for(lambda: not any(bench.fetches().is_running(digest_of(blob)) for blob in BLOBS))


def crowd_on_gevent(directory: Path, seed: int, rounds: int) -> subprocess.Popen[bytes]:
    """Start fifty readers in a process of their own."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _START, str(directory), str(seed), str(rounds)],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_readers_of_processes_that_die(tmp_path: Path) -> None:
    """On gevent, in three processes, one of which is killed again and again."""
    staying = [crowd_on_gevent(tmp_path, 1_000_000 * (1 + number), 8) for number in range(2)]
    for number in range(6):
        victim = crowd_on_gevent(tmp_path, 10_000 * number, 1000)
        assert victim.stdout is not None
        victim.stdout.readline()  # it has been through once
        victim.kill()
        victim.communicate(timeout=60)
    for process in staying:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors.decode()[-2000:]) == (0, "")
