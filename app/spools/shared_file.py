"""A file descriptor that several use, closed by the last of them.

A number that is closed is given to the next file that is opened: whoever still reads by it then
reads somebody else's bytes. So nobody keeps a number: it is lent for one call, and closed when it
was given up and no call has it any more.
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
from app.threads import RealThreads, original

_close: Final[Callable[[int], None]] = original("os", "close")
"""gevent's own waits for the event loop, which real threads do not have."""

_PROBE: Final = 128 * 1024
"""Bytes between two probes: what the kernel reads ahead at once, unless told else."""

_PIECE: Final = 256 * 1024
"""Bytes that are read at once only to be in memory."""

_FLOCK: Final = struct.Struct("hhqqi4x")
"""Type, whence, start, length and process of a lock: struct flock of 64-bit Linux (fcntl(2))."""

_THREADS: Final = RealThreads(8)


class SharedFile:
    """An open file; each method raises OSError, also when it was closed."""

    def __init__(self, descriptor: int, close: Callable[[], None] | None = None) -> None:
        self._descriptor = descriptor
        self._close = close
        # A real lock, since real threads take it too: never held for longer than it takes to count.
        self._lock: Any = original("_thread", "allocate_lock")()
        self._lent = 0
        self._given_up = False
        self._may_block = not hasattr(os, "RWF_NOWAIT")

    @classmethod
    def open(cls, path: Path, flags: int, mode: int = 0o640) -> "SharedFile":
        """Open a file, which no other program inherits."""
        return cls(os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode))

    @classmethod
    def of(cls, file: FileIO) -> "SharedFile":
        """Take an open file over."""
        return cls(file.fileno(), file.close)

    @contextmanager
    def lent(self) -> Iterator[int]:
        """Give the number for one call, on whatever thread."""
        with self._lock:
            if self._given_up:
                raise OSError(EBADF, "the file was closed")
            self._lent += 1
        try:
            yield self._descriptor
        finally:
            self._take_back()

    def close(self) -> None:
        """Give the file up; may be called again."""
        with self._lock:
            first, self._given_up = not self._given_up, True
            last = first and not self._lent
        if last:
            self._end()

    def read(self, count: int, offset: int) -> bytes:
        """Read without stopping the event loop: at once what is in memory, else on a thread."""
        if self._is_in_memory(count, offset):
            return self.pread(count, offset)
        data: bytes = _THREADS.begin(self.pread, count, offset).result()
        return data

    def fetch(self, count: int, offset: int) -> None:
        """See to it that reading a part waits for no disk, without stopping the event loop."""
        if not self._is_in_memory(count, offset):
            _THREADS.begin(self._fetch, count, offset).result()

    def _fetch(self, count: int, offset: int) -> None:
        for at in range(offset, offset + count, _PIECE):
            self.pread(min(_PIECE, offset + count - at), at)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Have bytes sent by descriptor; raise BodyBroken where the file fails.

        Nobody knows how many of them were sent then. What the connection raises is raised.
        """
        with self.lent() as descriptor:
            try:
                send(descriptor, offset, count)
            except OSError as error:
                # A socket has no such error: it is the disk's, or a file's that became shorter.
                if error.errno != EIO:
                    raise
                message = f"the file cannot be sent: {error}"
                raise BodyBroken(message) from error

    def pread(self, count: int, offset: int) -> bytes:
        """Read, however long it takes."""
        with self.lent() as descriptor:
            return os.pread(descriptor, count, offset)

    def status(self) -> os.stat_result:
        """Return what the system knows of it."""
        with self.lent() as descriptor:
            return os.fstat(descriptor)

    def lock(self, operation: int) -> bool:
        """Lock without waiting, LOCK_SH or LOCK_EX; tell whether it could be."""
        with self.lent() as descriptor:
            try:
                fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def unlock(self) -> None:
        """Give a lock back."""
        with self.lent() as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def is_free(self) -> bool:
        """Tell whether nobody else has a lock on it."""
        free = self.lock(fcntl.LOCK_EX)
        if free:
            self.unlock()
        return free

    def lock_range(self, operation: int, start: int, length: int = 1) -> bool:
        """Lock bytes without waiting, F_RDLCK, F_WRLCK or F_UNLCK; tell whether it could be.

        The lock is the open file's (F_OFD_SETLK), has nothing to do with `lock`, and ends with
        `close` or the process. The bytes need not be there. Where the system has no such locks
        (gVisor) each one could be had, and nobody sees it.
        """
        wanted = _FLOCK.pack(operation, os.SEEK_SET, start, length, 0)
        with self.lent() as descriptor:
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
            except OSError as error:
                if error.errno not in {EAGAIN, EACCES, EINVAL}:
                    raise
                return error.errno == EINVAL
            return True

    def is_range_locked(self, start: int, length: int) -> bool:
        """Tell whether anybody else has locked any of these bytes by `lock_range`."""
        wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        with self.lent() as descriptor:
            try:
                found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, wanted)
            except OSError as error:
                if error.errno != EINVAL:
                    raise
                return False
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def _take_back(self) -> None:
        with self._lock:
            self._lent -= 1
            last = self._given_up and not self._lent
        if last:
            self._end()

    def _is_in_memory(self, count: int, offset: int) -> bool:
        """Tell whether reading waits for no disk: one byte of each part that is read ahead."""
        if self._may_block:
            return False
        probe = bytearray(1)
        with self.lent() as descriptor:
            try:
                for at in (*range(offset, offset + count, _PROBE), offset + count - 1):
                    os.preadv(descriptor, [probe], at, os.RWF_NOWAIT)
            except OSError as error:
                self._may_block = error.errno == EOPNOTSUPP
                if error.errno not in {EAGAIN, EOPNOTSUPP}:
                    raise
                return False
        return True

    def _end(self) -> None:
        if self._close is None:
            _close(self._descriptor)
        else:
            self._close()


def put(file: SharedFile, data: bytes | bytearray, offset: int) -> None:
    """Write all of it."""
    view = memoryview(data)
    with file.lent() as descriptor:
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
