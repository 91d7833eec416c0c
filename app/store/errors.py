"""The one error of the store, and what becomes it."""

import errno
import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


class StoreError(OSError):
    """The store could not do it; `errno` says why, as the system does.

    Whoever gets one goes on without the cache.
    """


class NoRoom(StoreError):
    """Evicting everything would not make room."""


class BrokenIndex(StoreError):
    """The index is none any more; it is put out of the way, and the next who wants it makes it."""


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
