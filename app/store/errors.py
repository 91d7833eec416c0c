"""The one error of the store, and what becomes it."""

import errno
import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Final

_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY: Final = 0xFF
"""What the other bits of a result code add is detail: https://sqlite.org/rescode.html."""

_ERRNO: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
}

_SILENCE: Final = 60.0
"""Seconds in which the same trouble is not told again: a full disk fails many times a second."""

_UNHEARD: Final = 100


class Fault(StrEnum):
    """Why something is not kept, in one of few words: metrics, `/health` and the page have them."""

    NO_SPACE = "no_space"
    MIN_FREE = "min_free"
    """Less of the disk is free than is to stay free."""
    MAX_SIZE = "max_size"
    """Unfinished downloads take all that the cache may have."""
    TOO_LARGE = "too_large"
    """It is larger than all that the cache may have."""
    READ_ONLY = "read_only"
    PERMISSION = "permission"
    MISSING = "missing"
    BUSY = "busy"
    """Another process holds what is needed for too long."""
    IO = "io"


class StoreError(OSError):
    """The store could not do it; `errno` says why, as the system does.

    Whoever gets one goes on without the cache.
    """


class NoRoom(StoreError):
    """Evicting everything would not make room."""


class MinFreeReached(NoRoom):
    """There is room, and it has to stay free."""


class MaxSizeReached(NoRoom):
    """The disk has room, and the cache may not take it."""


class BrokenIndex(StoreError):
    """The index is none any more; it is put out of the way, and the next who wants it makes it."""


_FAULTS: Final = {
    errno.ENOSPC: Fault.NO_SPACE,
    errno.EDQUOT: Fault.NO_SPACE,
    errno.EFBIG: Fault.TOO_LARGE,
    errno.EROFS: Fault.READ_ONLY,
    errno.EACCES: Fault.PERMISSION,
    errno.EPERM: Fault.PERMISSION,
    errno.ENOENT: Fault.MISSING,
    errno.ENOTDIR: Fault.MISSING,
    errno.ESTALE: Fault.MISSING,
    errno.EBUSY: Fault.BUSY,
    errno.EAGAIN: Fault.BUSY,
    errno.ETIMEDOUT: Fault.BUSY,
}


def fault_of(error: OSError) -> Fault:
    """Return the word for an error, be it the store's or the system's."""
    if isinstance(error, MinFreeReached):
        return Fault.MIN_FREE
    if isinstance(error, MaxSizeReached):
        return Fault.MAX_SIZE
    return _FAULTS.get(error.errno or 0, Fault.IO)


def is_broken(error: sqlite3.Error) -> bool:
    """Tell whether an error says that the index is no index any more."""
    return _code(error) in _BROKEN


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise what the system or SQLite raises as StoreError."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(error.errno, f"{doing}: {error.strerror}", error.filename) from error
    except sqlite3.Error as error:
        kind = BrokenIndex if is_broken(error) else StoreError
        raise kind(_ERRNO.get(_code(error), errno.EIO), f"{doing}: {error}") from error


def refused(code: int, reason: str) -> StoreError:
    """Return an error of the store's own."""
    return StoreError(code, f"{reason} ({os.strerror(code)})")


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    return code & _PRIMARY


class Troubles:
    """What was survived, each kind of it once a minute, for whoever has a log.

    Nothing is logged here: under gevent the lock of a log is the event loop's, and a real thread
    that has to wait for it waits for ever.
    """

    def __init__(self) -> None:
        self._told: dict[int | None, float] = {}
        self._unheard: deque[StoreError] = deque(maxlen=_UNHEARD)

    def tell(self, error: StoreError) -> None:
        """Say what has happened, unless the same was said lately."""
        now = time.monotonic()
        if now - self._told.get(error.errno, -_SILENCE) >= _SILENCE:
            self._told[error.errno] = now
            self._unheard.append(error)

    def heard(self) -> list[StoreError]:
        """Return what nobody has heard yet; costs nothing where that is nothing."""
        heard = list[StoreError]()
        while self._unheard:
            with suppress(IndexError):  # another thread was faster
                heard.append(self._unheard.popleft())
        return heard
