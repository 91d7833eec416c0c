"""A program for test_workers.py: a worker under gevent that does everything with a store at once.

It says a line for each hundred things done, and goes on until its standard input ends.
What it reads has to be right, always; the first thing that is not ends it.
"""

from gevent import monkey

monkey.patch_all()

import contextlib  # noqa: E402 - after the patching, as under gunicorn
import os  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from app.store.blobs import SizeLimits  # noqa: E402
from app.store.store import Store  # noqa: E402
from app.threads import NativeThreadPool, get_unpatched  # noqa: E402
from tests.unit.store.parts import (  # noqa: E402
    REGISTRY,
    described,
    digest_of,
    fetched_file,
    grant,
    has_grant,
    record_member,
)

MAX_SIZE = 200_000
DATA = [bytes([number]) * (number * 977 % 40_000) for number in range(60)]
REPOSITORIES = ["library/alpine", "library/nginx"]
GREENLETS = 8


def something(store: Store, directory: Path, choose: random.Random) -> None:
    """Do one thing of those that a cache does."""
    data = choose.choice(DATA)
    digest = digest_of(data)
    repository = choose.choice(REPOSITORIES)
    what = choose.random()
    if what < 0.5:
        content = store.open(REGISTRY, digest)
        if content is not None:
            with contextlib.closing(content.blob) as blob:
                assert blob.read() == data, "these are other bytes"
            assert content.media_type in {"", "text/plain"}
    elif what < 0.6:
        store.adopt(fetched_file(directory, data), described(data))
        record_member(store.ledger, REGISTRY, repository, digest, asked=store.clock.now())
    elif what < 0.7:
        store.keep(data, REGISTRY, digest, "text/plain")
    elif what < 0.75:
        store.make_room(choose.randrange(MAX_SIZE))
    elif what < 0.8:
        store.delete(REGISTRY, digest)
    elif what < 0.9:
        caller = f"caller {choose.randrange(100)}"
        grant(store.ledger, caller, REGISTRY, repository, 60, asked=store.clock.now())
        has_grant(store.ledger, caller, REGISTRY, repository)
    else:
        store.ledger.notes.record("tag", f"{choose.randrange(100)}", digest, 60)


class Worker:
    """Greenlets that all use one store, on real threads."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.seed = seed
        self.store = Store(directory, SizeLimits(max_size=MAX_SIZE, min_free=0))
        self.threads = NativeThreadPool(4)
        self.stop = threading.Event()
        self.faults: list[BaseException] = []
        self.done = 0
        self.longest = 0.0

    def work(self, number: int) -> None:
        """Do one thing after another."""
        choose = random.Random(self.seed * 1000 + number)  # noqa: S311 - no secret
        try:
            while not self.stop.is_set():
                self.threads.submit(something, self.store, self.directory, choose).result(60)
                self.done += 1
                if self.done % 100 == 0:
                    sys.stdout.write(f"{self.done}\n")
                    sys.stdout.flush()
        except BaseException as error:  # noqa: BLE001 - whatever it is
            self.faults.append(error)
            self.stop.set()

    def watch(self) -> None:
        """Measure how long the event loop is ever held up."""
        while not self.stop.is_set():
            before = time.monotonic()
            time.sleep(0.005)
            self.longest = max(self.longest, time.monotonic() - before - 0.005)

    def wait_for_end(self) -> None:
        """Stop all when nothing more comes in."""
        ended = NativeThreadPool(1).submit(get_unpatched("os", "read"), 0, 1)
        while not self.stop.is_set():
            with contextlib.suppress(TimeoutError):
                ended.result(0.05)
                self.stop.set()

    def run(self) -> None:
        """Work until told to stop; raise what was wrong."""
        greenlets = [threading.Thread(target=self.work, args=(one,)) for one in range(GREENLETS)]
        greenlets.append(threading.Thread(target=self.watch))
        for greenlet in greenlets:
            greenlet.start()
        self.wait_for_end()
        for greenlet in greenlets:
            greenlet.join()
        self.store.close()
        if self.faults:
            raise self.faults[0]


if __name__ == "__main__":
    worker = Worker(Path(sys.argv[1]), int(sys.argv[2]))
    worker.run()
    open_files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    sys.stdout.write(f"{worker.longest:.4f} {open_files}\n")
