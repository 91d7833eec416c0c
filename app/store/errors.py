"""StoreError, the only error that the store raises, and how other errors are translated to it."""

import errno
import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Final

_BROKEN_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_MASK: Final = 0xFF
"""The bits of a result code that name the primary error; the others only add detail.

See https://sqlite.org/rescode.html.
"""

_ERRNO: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
}

_REPORT_INTERVAL: Final = 60.0
"""Seconds during which the same error is not reported again. A full disk causes many a second."""

_MAX_PENDING: Final = 100
"""Errors that are kept until somebody reads them; then the oldest are dropped."""


class Fault(StrEnum):
    """Why something is not kept. Metrics, `/health` and the web page show these values."""

    NO_SPACE = "no_space"
    MIN_FREE = "min_free"
    """Keeping more would leave less of the disk free than must stay free."""
    MAX_SIZE = "max_size"
    """Unfinished downloads take up all the space that the cache may use."""
    TOO_LARGE = "too_large"
    """The content is larger than the whole cache may be."""
    READ_ONLY = "read_only"
    PERMISSION = "permission"
    MISSING = "missing"
    BUSY = "busy"
    """Another process has held a lock for too long."""
    IO = "io"


class StoreError(OSError):
    """The store failed; `errno` is a system error number that says why.

    Callers continue without the cache.
    """


class NoRoom(StoreError):
    """Even evicting everything would not make enough room."""


class MinFreeReached(NoRoom):
    """The disk has room, but that much must stay free."""


class MaxSizeReached(NoRoom):
    """The disk has room, but the cache has reached its maximum size."""


class BrokenIndex(StoreError):
    """The index is damaged. It has been moved out of the way; the next access rebuilds it."""


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
    """Return the fault behind an error of the store or the system; `Fault.IO` if none fits."""
    if isinstance(error, MinFreeReached):
        return Fault.MIN_FREE
    if isinstance(error, MaxSizeReached):
        return Fault.MAX_SIZE
    return _FAULTS.get(error.errno or 0, Fault.IO)


def is_broken(error: sqlite3.Error) -> bool:
    """Return whether an error means that the index is damaged or not a database."""
    return _primary_code(error) in _BROKEN_CODES


@contextmanager
def translate_errors(operation: str) -> Iterator[None]:
    """Translate OSError and sqlite3.Error from the block to StoreError.

    `operation` names the operation at the start of the message.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(error.errno, f"{operation}: {error.strerror}", error.filename) from error
    except sqlite3.Error as error:
        kind = BrokenIndex if is_broken(error) else StoreError
        raise kind(_ERRNO.get(_primary_code(error), errno.EIO), f"{operation}: {error}") from error


def build_error(code: int, reason: str) -> StoreError:
    """Return an error of the store's own, with a system error number and a reason."""
    return StoreError(code, f"{reason} ({os.strerror(code)})")


def _primary_code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    return code & _PRIMARY_MASK


class SurvivedErrors:
    """Errors that the store survived, each errno at most once a minute, for the caller's log.

    The store itself logs nothing. Under gevent a logger's lock belongs to the event loop, and a
    real thread that has to wait for the lock waits forever.
    """

    def __init__(self) -> None:
        self._reported_at: dict[int | None, float] = {}
        self._pending: deque[StoreError] = deque(maxlen=_MAX_PENDING)

    def report(self, error: StoreError) -> None:
        """Report an error, unless one with the same errno was reported within the last minute."""
        now = time.monotonic()
        if now - self._reported_at.get(error.errno, -_REPORT_INTERVAL) >= _REPORT_INTERVAL:
            self._reported_at[error.errno] = now
            self._pending.append(error)

    def drain(self) -> list[StoreError]:
        """Return and clear the errors reported since the last call, oldest first.

        This costs next to nothing if there are none.
        """
        errors = list[StoreError]()
        while self._pending:
            with suppress(IndexError):  # another thread was faster
                errors.append(self._pending.popleft())
        return errors
