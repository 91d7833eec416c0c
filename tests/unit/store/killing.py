"""A program for test_killed.py: does something again and again, killed after each step of it.

A process of its own does it. Every call that may change something on the disk is a step; after the
n-th it kills itself, as an operator or the kernel does, without a word. Then the next process opens
the store, and looks at what is there. So for n = 1, 2 and on, until it is not killed.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from app.store.blobs import SizeLimits
from app.store.store import Store
from tests.unit.store.parts import (
    REGISTRY,
    ROOMY,
    FakeClock,
    described,
    digest_of,
    faults,
    fetched_file,
    files,
    put_files,
    read,
    rows,
)

STEPS = {
    *("open", "write", "chmod", "fchmod", "fsync", "rename", "unlink", "mkdir", "rmdir"),
    *("flock", "close", "connect", "execute", "executemany", "executescript"),
}
"""Functions written in C; whatever SQLite does is begun by one of them."""
OLD = [bytes([number]) * 1000 for number in range(3)]
NEW = b"new" * 1000
LIMITS = SizeLimits(max_size=5000, min_free=0)


def kill_at(step: int) -> None:
    """Kill this process when it has done so many steps."""
    left = step

    def count(frame: FrameType, event: str, function: Any) -> None:
        nonlocal left
        del frame
        if event in {"c_return", "c_exception"} and function.__name__ in STEPS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def take(directory: Path, store: Store) -> Iterator[None]:
    """Adopt a file, for which the oldest entry has to go."""
    path = fetched_file(directory, NEW)
    yield
    store.adopt(path, described(NEW))


def keep(directory: Path, store: Store) -> Iterator[None]:
    """Keep bytes."""
    del directory
    yield
    store.keep(NEW, REGISTRY, digest_of(NEW), "text/plain")


def replace(directory: Path, store: Store) -> Iterator[None]:
    """Keep what is there already."""
    del directory
    yield
    store.keep(OLD[1], REGISTRY, digest_of(OLD[1]), "text/plain")


def evict(directory: Path, store: Store) -> Iterator[None]:
    """Make room, for which two entries have to go."""
    del directory
    yield
    store.make_room(4000)


def drop(directory: Path, store: Store) -> Iterator[None]:
    """Take one away."""
    del directory
    yield
    store.delete(REGISTRY, digest_of(OLD[1]))


def find_cut(directory: Path, store: Store) -> Iterator[None]:
    """Meet a file that was cut."""
    path = next((directory / "content").rglob(digest_of(OLD[1]).partition(":")[2]))
    os.truncate(path, 10)
    yield
    assert store.open(REGISTRY, digest_of(OLD[1])) is None


def rebuild(directory: Path, store: Store) -> Iterator[None]:
    """Make a broken index anew."""
    store.close()
    (directory / "index.sqlite").write_bytes(b"broken" * 1000)
    yield
    Store(directory, LIMITS, FakeClock()).close()


def recover(directory: Path, store: Store) -> Iterator[None]:
    """Start where processes have died that were about to do something."""
    owner = store._staging.get_owner()  # noqa: SLF001
    store._staging.build_path().write_bytes(b"half")  # noqa: SLF001
    store.close()
    put_files(directory, [NEW])
    rows(directory, "DELETE FROM entries WHERE digest = ?", digest_of(OLD[0]))
    for direction, data in (("out", OLD[0]), ("in", NEW), ("in", b"never came")):
        rows(
            directory,
            "INSERT INTO moving(owner, direction, registry, digest, size, media_type) "
            "VALUES (?, ?, ?, ?, ?, 'text/plain')",
            *(owner, direction, REGISTRY, digest_of(data), len(data)),
        )
    yield
    Store(directory, LIMITS, FakeClock()).close()


WORK = {one.__name__: one for one in (take, keep, replace, evict, drop, find_cut, rebuild, recover)}
"""What comes before the yield is there already when the work begins."""

MAY_GO = {
    "take": {0},
    "keep": {0},
    "replace": set[int](),
    "evict": {0, 1, 2},
    "drop": {1},
    "find_cut": {1},
    "rebuild": set[int](),
    "recover": {0},
}
"""Which old entries may be gone, or are, after that work."""


def killed(directory: Path, work: Callable[[Path, Store], Iterator[None]], step: int) -> bool:
    """Do it in a process that is killed at a step; tell whether it was."""
    child = os.fork()
    if child == 0:
        store = Store(directory, LIMITS, FakeClock())
        doing = work(directory, store)
        next(doing)
        kill_at(step)
        next(doing, None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}, status
    return status != 0


def left(directory: Path, name: str) -> list[str]:
    """Tell what is wrong with what was left, as the next process finds it."""
    store = Store(directory, ROOMY, FakeClock())
    # Before anything is read, which mends what it meets; but a cut file is there from the start.
    found = faults(directory) if name != "find_cut" else []
    for number, data in enumerate(OLD):
        kept = read(store, digest_of(data))
        if kept is None and number in MAY_GO[name]:
            continue
        if kept != data:
            found.append(f"old {number}: {kept!r:.30}")
    if read(store, digest_of(NEW)) not in {None, NEW}:
        found.append("what is new is not whole")
    aside = [path.name for path in (directory / "aside").iterdir()]
    if aside != [store._staging.get_owner()]:  # noqa: SLF001
        found.append(f"left aside: {aside}")
    found += faults(directory)
    store.keep(NEW, REGISTRY, digest_of(NEW), "text/plain")
    if read(store, digest_of(NEW)) != NEW:
        found.append("nothing can be kept any more")
    store.close()
    return found


def main(directory: Path, name: str) -> None:
    """Say what was found after each step, as JSON."""
    seed = directory / "seed" / "cache"
    put_files(seed, OLD)
    Store(seed, ROOMY, FakeClock()).close()
    outcomes: list[list[str]] = []
    there = []
    going_on = True
    while going_on:
        place = directory / str(len(outcomes))
        shutil.copytree(seed.parent, place)
        going_on = killed(place / "cache", WORK[name], len(outcomes) + 1)
        there.append(len(files(place / "cache")))
        outcomes.append(left(place / "cache", name))
        shutil.rmtree(place)
    sys.stdout.write(json.dumps({"outcomes": outcomes, "files": there}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
