"""Many readers of one process, each with a blob, a range and a patience of its own.

python -m tests.unit.transfer.crowd <directory> <seed> <rounds>    as a process of its own
"""

import random
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from app.transfer.chunk_map import CHUNK
from app.transfer.shared_blob import CompleteBlob
from app.transfer.watch import UnreadLimits
from tests.unit.transfer.parts import Cache, Origin, blob_of, digest_of

READERS = 50
SIZE = 3 * CHUNK + 5
BLOBS = [blob_of(SIZE, seed) for seed in range(4)]
LIMITS = UnreadLimits.fixed(50_000)


@dataclass
class Crowd:
    """The readers, and what went wrong."""

    processes: list[Cache]
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
        origin = Origin(chance.choice(BLOBS), piece=7000)
        start = chance.choice([0, chance.randrange(SIZE)])
        end = chance.choice([SIZE, chance.randrange(start, SIZE) + 1])
        stays = chance.random() < 0.7
        body = chance.choice(self.processes).open(origin, (start, end))
        got = bytearray()
        for piece in body:
            got += piece
            if not stays and chance.random() < 0.2:
                break
        body.close()
        if origin.data[start : start + len(got)] != got or (stays and len(got) != end - start):
            self.failures.append(f"{number}: {start}-{end} got {len(got)}")


def forget(complete: CompleteBlob) -> None:
    """Take a blob, and keep nothing of it, so that it is fetched again."""
    if digest_of(complete.path.read_bytes()) != complete.digest:
        sys.exit("what is kept is wrong")
    complete.path.unlink()


def _main(directory: str, seed: str, rounds: str) -> None:
    crowd = Crowd([Cache(Path(directory), adopt=forget, unread_limits=LIMITS)])
    for number in range(int(rounds)):
        crowd.gather(int(seed) + number * READERS)
        print(number, flush=True)  # noqa: T201 - tells that it goes on
    if crowd.failures:
        sys.exit("\n".join(crowd.failures))


if __name__ == "__main__":
    _main(*sys.argv[1:])
