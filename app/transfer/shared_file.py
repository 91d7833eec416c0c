"""A file descriptor that several threads share; the last user closes it.

When a descriptor is closed, the system gives its number to the next file that is opened. A thread
that still reads by that number then gets another file's bytes. So nobody keeps the number: it is
lent for one call, and closed once the file has been closed and no call uses it any more.
"""

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EACCES, EAGAIN, EBADF, EINVAL, EIO, EOPNOTSUPP
from io import FileIO
from pathlib import Path
from typing import Any, Final

from app.source import BodyBroken
from app.threads import NativeThreadPool, get_unpatched

_close: Final[Callable[[int], None]] = get_unpatched("os", "close")
"""The original os.close. gevent's waits for the event loop, which real threads do not have."""

_PROBE_DISTANCE: Final = 128 * 1024
"""Bytes between two probes: the kernel's default read-ahead."""

_PREFETCH_SIZE: Final = 256 * 1024
"""Bytes per read when the only purpose is to bring them into memory."""

_FLOCK: Final = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length and process of a lock (fcntl(2))."""

_THREADS: Final = NativeThreadPool(8)


class SharedFile:
    """An open file; every method may raise OSError, and does so (EBADF) after `close`."""

    def __init__(self, descriptor: int, close: Callable[[], None] | None = None) -> None:
        self._descriptor = descriptor
        self._close = close
        # A real lock, since real threads take it too. It is held only while changing a counter.
        self._lock: Any = get_unpatched("_thread", "allocate_lock")()
        self._borrowers = 0
        self._is_closing = False
        self._may_block = not hasattr(os, "RWF_NOWAIT")

    @classmethod
    def open(cls, path: Path, flags: int, mode: int = 0o640) -> "SharedFile":
        """Open a file that child programs do not inherit (O_CLOEXEC); may raise OSError.

        Symbolic links are not followed.
        """
        return cls(os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode))

    @classmethod
    def from_file(cls, file: FileIO) -> "SharedFile":
        """Take over an open file; closing the SharedFile closes it."""
        return cls(file.fileno(), file.close)

    @contextmanager
    def borrow(self) -> Iterator[int]:
        """Lend the descriptor for one call, on any thread; raise OSError (EBADF) after `close`."""
        with self._lock:
            if self._is_closing:
                raise OSError(EBADF, "the file was closed")
            self._borrowers += 1
        try:
            yield self._descriptor
        finally:
            self._return_loan()

    def close(self) -> None:
        """Close the file once no call uses it any more; may be called again."""
        with self._lock:
            is_first, self._is_closing = not self._is_closing, True
            is_last = is_first and not self._borrowers
        if is_last:
            self._close_descriptor()

    def read(self, count: int, offset: int) -> bytes:
        """Return up to `count` bytes from `offset`, without stopping the event loop.

        Bytes in memory are read at once, others on a real thread.
        """
        if self._is_in_memory(count, offset):
            return self.pread(count, offset)
        data: bytes = _THREADS.submit(self.pread, count, offset).result()
        return data

    def prefetch(self, count: int, offset: int) -> None:
        """Bring bytes into memory, without stopping the event loop.

        Reading them afterwards does not wait for the disk.
        """
        if not self._is_in_memory(count, offset):
            _THREADS.submit(self._prefetch, count, offset).result()

    def _prefetch(self, count: int, offset: int) -> None:
        for position in range(offset, offset + count, _PREFETCH_SIZE):
            self.pread(min(_PREFETCH_SIZE, offset + count - position), position)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Call `send` with the descriptor, `offset` and `count`.

        Raise BodyBroken if the file fails; how many bytes were sent is then unknown. Errors of the
        connection are raised as they are.
        """
        with self.borrow() as descriptor:
            try:
                send(descriptor, offset, count)
            except OSError as error:
                # A socket never fails with EIO: the disk has failed, or the file became shorter.
                if error.errno != EIO:
                    raise
                message = f"the file cannot be sent: {error}"
                raise BodyBroken(message) from error

    def pread(self, count: int, offset: int) -> bytes:
        """Return up to `count` bytes from `offset`, even if reading has to wait for the disk."""
        with self.borrow() as descriptor:
            return os.pread(descriptor, count, offset)

    def stat(self) -> os.stat_result:
        """Return the result of fstat(2)."""
        with self.borrow() as descriptor:
            return os.fstat(descriptor)

    def try_lock(self, operation: int) -> bool:
        """Lock the file (LOCK_SH or LOCK_EX) without waiting; return whether that succeeded."""
        with self.borrow() as descriptor:
            try:
                fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def unlock(self) -> None:
        """Release the lock that `try_lock` took."""
        with self.borrow() as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def is_unlocked(self) -> bool:
        """Return whether nobody else has locked the file with `try_lock`.

        The test takes the exclusive lock for a moment if it is free.
        """
        is_free = self.try_lock(fcntl.LOCK_EX)
        if is_free:
            self.unlock()
        return is_free

    def try_lock_range(self, operation: int, start: int, length: int = 1) -> bool:
        """Lock bytes (F_RDLCK, F_WRLCK or F_UNLCK) without waiting; return whether that succeeded.

        The lock belongs to the open file description (F_OFD_SETLK) and ends with `close` or the
        process. It is independent of `try_lock`. The bytes need not exist. On a system without such
        locks (gVisor), every call succeeds and nobody sees the lock.
        """
        lock = _FLOCK.pack(operation, os.SEEK_SET, start, length, 0)
        with self.borrow() as descriptor:
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
            except OSError as error:
                if error.errno not in {EAGAIN, EACCES, EINVAL}:
                    raise
                return error.errno == EINVAL
            return True

    def is_range_locked(self, start: int, length: int) -> bool:
        """Return whether anybody else has locked any of these bytes with `try_lock_range`.

        On a system without such locks, return False.
        """
        lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        with self.borrow() as descriptor:
            try:
                result = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, lock)
            except OSError as error:
                if error.errno != EINVAL:
                    raise
                return False
        return bool(_FLOCK.unpack(result)[0] != fcntl.F_UNLCK)

    def _return_loan(self) -> None:
        with self._lock:
            self._borrowers -= 1
            is_last = self._is_closing and not self._borrowers
        if is_last:
            self._close_descriptor()

    def _is_in_memory(self, count: int, offset: int) -> bool:
        """Return whether the bytes are in memory, by probing one byte per read-ahead window."""
        if self._may_block:
            return False
        probe = bytearray(1)
        with self.borrow() as descriptor:
            try:
                for position in (
                    *range(offset, offset + count, _PROBE_DISTANCE),
                    offset + count - 1,
                ):
                    os.preadv(descriptor, [probe], position, os.RWF_NOWAIT)
            except OSError as error:
                self._may_block = error.errno == EOPNOTSUPP
                if error.errno not in {EAGAIN, EOPNOTSUPP}:
                    raise
                return False
        return True

    def _close_descriptor(self) -> None:
        if self._close is None:
            _close(self._descriptor)
        else:
            self._close()


def write_at(file: SharedFile, data: bytes | bytearray, offset: int) -> None:
    """Write all the data at `offset`; may raise OSError."""
    view = memoryview(data)
    with file.borrow() as descriptor:
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
