"""Several workers with real threads under gevent, some of them killed, on one directory."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers import ROOT, clean_environment
from tests.unit.store.parts import REGISTRY, Stores, digest_of, faults, rows

WORKING = Path(__file__).with_name("working.py")
MAX_SIZE = 200_000


class Worker:
    """A running working.py."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", WORKING, directory, str(seed)],
            env=clean_environment(PYTHONPATH=str(ROOT)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def line(self) -> str:
        """Wait for the next thing that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def rest(self) -> str:
        """Return all else that it says until it ends."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def stop(self) -> str:
        """Let it end, and return what it said last."""
        said, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, said
        return said

    def kill(self) -> None:
        """End it as the kernel does when memory is short."""
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.soak)])
def test_workers_that_are_killed(stores: Stores, kills: int) -> None:
    """Nobody ever reads a wrong byte, and what the killed ones had begun is ended by others."""
    workers = [Worker(stores.directory, seed) for seed in range(3)]
    try:
        for seed in range(3, 3 + kills):
            for worker in workers:
                line = worker.line()
                assert line.strip().isdigit(), line + worker.rest()
            workers.pop(0).kill()
            workers.append(Worker(stores.directory, seed))
        for worker in workers:
            assert worker.line().strip().isdigit()
        for worker in workers:
            worker.stop()
    finally:
        for worker in workers:
            worker.kill()
    store = stores.open()
    assert faults(stores.directory) == []
    ((held,),) = rows(stores.directory, "SELECT sum(bytes) FROM totals")
    assert held <= MAX_SIZE  # nothing at all, where the last one has made room for that much
    digest = digest_of(b"kept")
    store.keep(b"kept", REGISTRY, digest, "text/plain")
    content = store.open(REGISTRY, digest)
    assert content is not None
    with closing(content.blob) as blob:
        assert blob.read() == b"kept"


def test_the_event_loop_goes_on(stores: Stores) -> None:
    """What works on a store on real threads holds nothing else up for long."""
    worker = Worker(stores.directory, 1)
    try:
        for _ in range(3):
            assert worker.line().strip().isdigit()
        longest, open_files = worker.stop().splitlines()[-1].split()
    finally:
        worker.kill()
    assert float(longest) < 2, "the loop stood still"
    assert int(open_files) < 50, "descriptors are lost"
