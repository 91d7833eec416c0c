"""Many readers of one process, each with a blob, a range and a patience of its own.

python -m tests.unit.spools.crowd <directory> <seed> <rounds>    as a process of its own
"""

import random
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from app.spools.fetches import Fetches, Spool
from app.spools.lead import CompleteBlob, FetchLease, FetchOptions, UnreadLimits
from app.spools.reading import SpoolBody
from tests.unit.spools.parts import Body, FakeAsk, blob_of, digest_of, fill

READERS = 50
SIZE = 300_000
BLOBS = [blob_of(SIZE, seed) for seed in range(4)]


@dataclass
class Crowd:
    """The readers, and what went wrong."""

    processes: list[Fetches]
    failures: list[str] = field(default_factory=list)

    def gather(self, first: int) -> None:
        """Let fifty of them read at once."""
        threads = [
            threading.Thread(target=self.run, args=[one], daemon=True)
            for one in range(first, first + READERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        if any(thread.is_alive() for thread in threads):
            self.failures.append("some never end")

    def run(self, number: int) -> None:
        """Read once, and compare."""
        chance = random.Random(number)  # noqa: S311 - no secret
        data = chance.choice(BLOBS)
        spool = self._spool(chance.choice(self.processes), data)
        start = chance.choice([0, chance.randrange(len(data))])
        end = chance.choice([len(data), chance.randrange(start, len(data)) + 1])
        stays = chance.random() < 0.7
        reading = SpoolBody(spool, start, end, FakeAsk(data))
        got = bytearray()
        for piece in reading:
            got += piece
            if not stays and chance.random() < 0.2:
                break
        reading.close()
        if data[start : start + len(got)] != got or (stays and len(got) != end - start):
            self.failures.append(f"{number}: {start}-{end} got {len(got)}")

    def _spool(self, fetches: Fetches, data: bytes) -> Spool:
        entered = fetches.acquire_or_join(digest_of(data), None)
        if not isinstance(entered, FetchLease):
            return entered
        body = Body(data[entered.offset :], piece=7000)
        body.let_all()
        entered.start(len(data))
        spool = fetches.join(digest_of(data))
        assert spool is not None
        fill(entered, body)
        return spool


def _forget(whole: CompleteBlob) -> None:
    if digest_of(whole.path.read_bytes()) != whole.digest:
        sys.exit("what is kept is wrong")
    whole.path.unlink()


def _main(directory: str, seed: str, rounds: str) -> None:
    terms = FetchOptions(
        adopt=_forget, make_room=lambda _: None, unread_limits=UnreadLimits.fixed(50_000)
    )
    crowd = Crowd([Fetches(Path(directory) / "spools" / "docker.io", terms)])
    for number in range(int(rounds)):
        crowd.gather(int(seed) + number * READERS)
        print(number, flush=True)  # noqa: T201 - tells that it goes on
    if crowd.failures:
        sys.exit("\n".join(crowd.failures))


if __name__ == "__main__":
    _main(*sys.argv[1:])
