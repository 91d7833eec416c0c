"""Many readers at once, of whom many leave: no byte is another's."""

import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT, clean_environment
from tests.unit.transfer.crowd import BLOBS, LIMITS, READERS, Crowd, forget
from tests.unit.transfer.parts import Cache, Origin

ROUNDS = 4

_START = (
    "from gevent import monkey; monkey.patch_all(); import runpy; "
    "runpy.run_module('tests.unit.transfer.crowd', run_name='__main__', alter_sys=True)"
)


def test_fifty_readers(tmp_path: Path) -> None:
    """On real threads, as if they were of three processes."""
    processes = [Cache(tmp_path, adopt=forget, unread_limits=LIMITS) for _ in range(3)]
    crowd = Crowd(processes)
    for number in range(ROUNDS):
        crowd.gather(number * READERS)
    assert crowd.failures == []
    processes[0].wait_until_idle(*map(Origin, BLOBS))


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
