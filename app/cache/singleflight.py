"""Single-flight: of concurrent requests for one key, in any worker, one fetches."""

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
"""Lock files; two keys that share one wait for each other."""

_PATIENCE: Final = 30.0
"""Seconds to wait for another request's fetch before fetching as well."""

_POLL: Final = (0.002, 0.05)
"""Seconds between two tries while another worker holds the lock: the first pause, the longest."""

_NEVER: Final = threading.Event()


class CrossProcessSingleFlight:
    """Running fetches by key, across all workers that share a directory.

    File locks are polled, because waiting for one would stop the whole worker under gevent. Within
    one worker an event is enough.
    """

    def __init__(self, directory: Path, secret: bytes, patience: float = _PATIENCE) -> None:
        """Take the `secret` that all workers of the directory share, and `patience` in seconds.

        Clients choose what keys are made of. Without the secret they could choose names that share
        the lock of a busy key, and hold it.
        """
        self._secret = secret
        self._directory = directory / "flights"
        self._patience = patience
        self._lock = threading.Lock()
        self._events: dict[str, threading.Event] = {}

    @contextmanager
    def try_lead(self, key: str) -> Iterator[bool]:
        """Yield True if the caller should fetch, False if another request's fetch has just ended.

        The other fetch may have failed, or still run after `patience` seconds. A caller that then
        finds nothing calls this again, or fetches by itself.
        """
        landed = threading.Event()
        with self._lock:
            other = self._events.setdefault(key, landed)
        if other is not landed:
            other.wait(self._patience)
            yield False
            return
        descriptor, leads = -1, True
        try:
            descriptor, leads = self._acquire_lock(key)
            yield leads
        finally:
            if descriptor >= 0:
                close(descriptor)  # and so unlock
            with self._lock:
                self._events.pop(key, None)
            landed.set()

    def _acquire_lock(self, key: str) -> tuple[int, bool]:
        """Return the lock's descriptor (-1 for none), and whether no other worker held the lock."""
        try:
            descriptor = self._open_lock(key)
        except OSError:
            return -1, True  # without a lock, do not coordinate: the pull goes on
        pause, until, leads = _POLL[0], time.monotonic() + self._patience, True
        while not _try_lock(descriptor):
            leads = False
            if time.monotonic() > until:
                break
            _NEVER.wait(pause)
            pause = min(pause * 2, _POLL[1])
        return descriptor, leads

    def _open_lock(self, key: str) -> int:
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


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: fetch without waiting
    return True
