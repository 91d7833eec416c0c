"""Leases: one suite for all that keep them, and what is true of files alone."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.store.leases import FileLeases, Leases, MemoryLeases

SECRET = bytes(32)


@pytest.fixture(params=["directory", "memory"])
def workers(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Leases, Leases]:
    """Return the leases as two workers see them."""
    if request.param == "directory":
        return FileLeases(tmp_path, SECRET), FileLeases(tmp_path, SECRET)
    shared = MemoryLeases()
    return shared, shared


def test_one_holds_it(workers: tuple[Leases, Leases]) -> None:
    """Neither another worker nor the same one gets it as well, until it is left."""
    one, other = workers
    lease = one.try_acquire("key")
    assert lease is not None
    with lease:
        assert one.try_acquire("key") is None
        assert other.try_acquire("key") is None
    again = other.try_acquire("key")
    assert again is not None
    with again:
        assert one.try_acquire("key") is None


def test_a_failure_ends_it(workers: tuple[Leases, Leases]) -> None:
    """Whatever happened while it was held."""
    one, other = workers
    lease = one.try_acquire("key")
    assert lease is not None
    with pytest.raises(LookupError), lease:
        raise LookupError
    again = other.try_acquire("key")
    assert again is not None
    with again:
        pass


def test_keys_are_apart(workers: tuple[Leases, Leases]) -> None:
    """But for the few that share one."""
    one, other = workers
    first, second = one.try_acquire("one"), other.try_acquire("two")
    assert first is not None
    assert second is not None
    with first, second:
        assert one.try_acquire("two") is None


def test_one_of_many_threads_holds_it(workers: tuple[Leases, Leases]) -> None:
    """However many try at once, and in whichever worker."""
    start, ended = threading.Barrier(16), threading.Barrier(16)

    def try_once(number: int) -> bool:
        start.wait(20)
        lease = workers[number % 2].try_acquire("key")
        ended.wait(20)
        if lease is None:
            return False
        with lease:
            return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(try_once, range(16))) == 1


def test_a_try_in_vain_leaves_no_file_open(tmp_path: Path) -> None:
    """Whoever waits for a lease tries twenty times a second."""
    leases = FileLeases(tmp_path, SECRET)
    lease = leases.try_acquire("key")
    assert lease is not None
    with lease:
        before = os.listdir("/proc/self/fd")  # noqa: PTH208 - as the system counts them
        assert leases.try_acquire("key") is None
        assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208


def test_nobody_can_choose_who_waits(tmp_path: Path) -> None:
    """Keys that have one lock in one directory have different ones elsewhere.

    Locks are few, so that many keys share one with any other: whoever could compute which would
    hold up the pulls of others.
    """

    def shares(secret: bytes, directory: Path, key: str) -> bool:
        leases = FileLeases(directory, secret)
        busy = leases.try_acquire("docker.io library/alpine")
        assert busy is not None
        with busy:
            other = leases.try_acquire(key)
            if other is None:
                return True
            with other:
                return False

    keys = (f"docker.io mallory/{number}" for number in range(20_000))
    found = next(key for key in keys if shares(SECRET, tmp_path, key))
    secrets = [bytes([number]) * 32 for number in range(1, 9)]
    assert not all(shares(secret, tmp_path, found) for secret in secrets)


def test_no_directory(tmp_path: Path) -> None:
    """What cannot be locked is done by each worker for itself."""
    (tmp_path / "flights").touch()
    leases = FileLeases(tmp_path, SECRET)
    first, second = leases.try_acquire("key"), leases.try_acquire("key")
    assert first is not None
    assert second is not None
    with first, second:
        pass


def test_a_directory_that_is_deleted(tmp_path: Path) -> None:
    """It is made again, for nobody else's eyes."""
    lease = FileLeases(tmp_path / "cache", SECRET).try_acquire("key")
    assert lease is not None
    with lease:
        pass
    assert (tmp_path / "cache" / "flights").stat().st_mode & 0o777 == 0o700
    assert len(list((tmp_path / "cache" / "flights").iterdir())) == 1
