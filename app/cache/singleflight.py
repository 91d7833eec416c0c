"""Single-flight: of those who want the same, one fetches it, in whatever worker."""

import fcntl
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.store.layout import close, make_directory

_LOCKS: Final = 1024
"""Files; two things that have the same one wait for each other."""

_PATIENCE: Final = 30.0
"""Seconds that one waits for another's fetch, and then fetches beside it."""

_POLL: Final = (0.002, 0.05)
"""Seconds between two looks at another worker's lock, at first and at last."""

_NEVER: Final = threading.Event()


class Flights:
    """Fetches that are on their way, by key, across all workers that share a directory.

    A lock is polled, never waited for: under gevent that would stop the whole worker. Between
    greenlets of one worker an event is enough.
    """

    def __init__(self, directory: Path, secret: bytes, patience: float = _PATIENCE) -> None:
        """Keep the `secret` that all workers of the directory share.

        Clients choose what keys are made of: without it they could choose names that have the lock
        of a busy one, and hold it.
        """
        self._secret = secret
        self._directory = directory / "flights"
        self._patience = patience
        self._lock = threading.Lock()
        self._here: dict[str, threading.Event] = {}

    @contextmanager
    def lead(self, key: str) -> Iterator[bool]:
        """Tell whether this one is to fetch; if not, another one's fetch has just ended.

        That fetch may have failed: who finds nothing then asks once more, or by itself.
        """
        landed = threading.Event()
        with self._lock:
            other = self._here.setdefault(key, landed)
        if other is not landed:
            other.wait(self._patience)
            yield False
            return
        descriptor, leads = -1, True
        try:
            descriptor, leads = self._acquired(key)
            yield leads
        finally:
            if descriptor >= 0:
                close(descriptor)  # and so unlock
            with self._lock:
                self._here.pop(key, None)
            landed.set()

    def _acquired(self, key: str) -> tuple[int, bool]:
        """Return the lock of a key, -1 for none, and whether nobody else had it."""
        try:
            descriptor = self._opened(key)
        except OSError:
            return -1, True  # no lock, so no other worker: the pull goes on
        pause, until, leads = _POLL[0], time.monotonic() + self._patience, True
        while not _locked(descriptor):
            leads = False
            if time.monotonic() > until:
                break
            _NEVER.wait(pause)
            pause = min(pause * 2, _POLL[1])
        return descriptor, leads

    def _opened(self, key: str) -> int:
        digest = hmac.digest(self._secret, f"flight {key}".encode(), hashlib.sha256)
        number = int.from_bytes(digest[:4]) % _LOCKS
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        path = self._directory / f"{number:03x}"
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            make_directory(self._directory.parent)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, flags, 0o600)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: no other worker can be waited for
    return True
