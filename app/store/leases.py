"""Leases: the right to do something alone for a while, among all workers that share a cache.

`Leases` is the protocol. `FileLeases` keeps them as locks on files, for the workers of one machine;
`MemoryLeases` keeps them in one process, for tests.
"""

import fcntl
import hashlib
import hmac
import os
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final, Protocol

from app.store.layout import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE, close, make_directory

_LOCKS: Final = 1024
"""Lock files; two keys that share one exclude each other."""


class Leases(Protocol):
    """Leases by key; no worker holds one that another worker or thread holds.

    Two keys may share one lease, so a holder of one that tries to acquire another may get None. A
    lease ends when its context is left, or when the process that holds it dies.
    """

    def try_acquire(self, key: str) -> AbstractContextManager[object] | None:
        """Return the lease of a key as a context that ends it; None if somebody else holds it.

        This never waits for the holder, and is called on the event loop. The caller enters the
        context at once. If leases cannot be kept at present, every caller gets one: work is then
        done twice, but it is done.
        """


class FileLeases:
    """Leases as locks on files below a directory that all workers of a machine share (flock(2)).

    The system drops the locks of a process that dies.
    """

    def __init__(self, directory: Path, secret: bytes) -> None:
        """Take the `secret` that all workers of the directory share.

        Clients choose what keys are made of. Without the secret they could choose names that share
        the lock of a busy key, and hold it.
        """
        self._secret = secret
        self._directory = directory / "flights"

    def try_acquire(self, key: str) -> AbstractContextManager[object] | None:
        """Return the lease of a key as a context that ends it; None if somebody else holds it."""
        lease = ExitStack()
        try:
            descriptor = self._open_lock(key)
        except OSError:
            return lease
        lease.callback(close, descriptor)  # and so unlock
        if _try_lock(descriptor):
            return lease
        lease.close()
        return None

    def _open_lock(self, key: str) -> int:
        digest = hmac.digest(self._secret, f"flight {key}".encode(), hashlib.sha256)
        number = int.from_bytes(digest[:4]) % _LOCKS
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        path = self._directory / f"{number:03x}"
        try:
            return os.open(path, flags, PRIVATE_FILE_MODE)
        except FileNotFoundError:
            make_directory(self._directory.parent)
            self._directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, exist_ok=True)
            return os.open(path, flags, PRIVATE_FILE_MODE)


def _try_lock(descriptor: int) -> bool:
    # A blocking flock would stop the whole worker under gevent.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


class MemoryLeases:
    """Leases among those that share this object."""

    def __init__(self) -> None:
        self._held: dict[str, ExitStack] = {}

    def try_acquire(self, key: str) -> AbstractContextManager[object] | None:
        """Return the lease of a key as a context that ends it; None if somebody else holds it."""
        lease = ExitStack()
        if self._held.setdefault(key, lease) is not lease:  # one step, whatever other threads do
            return None
        lease.callback(self._held.pop, key)
        return lease
