"""What comes is written and hashed on real threads, beside what is still coming."""

import hashlib
import threading
from collections.abc import Callable
from typing import Final

from app.offloop import RealThreads
from app.spools.shared_file import SharedFile, put

_AGAIN: Final = 1024 * 1024
"""Bytes that are read again at once, of what an earlier fetch has left."""

_MOST: Final = 1024 * 1024
"""Bytes that gather while others are being written; more have to wait for them."""

_ENOUGH: Final = 512 * 1024
_PAUSE: Final = 0.002
"""Bytes that are worth a write of their own, or else seconds after the last one."""

_THREADS: Final = RealThreads(4)


class Writer:
    """Writes and hashes what it gets, in order.

    Registries send pieces of 16 KiB, and each way to a thread and back takes longer than to write
    one: so whatever comes while a write is under way is written together by the next one. Two
    buffers serve for all of it: new ones for each would cost as much as the writing.
    `written` is called after each.
    """

    def __init__(self, file: SharedFile, algorithm: str, written: Callable[[], None]) -> None:
        self._file = file
        self._hash = hashlib.new(algorithm)
        self._written = written
        # A plain lock takes half the time of the usual one, for each of 65,536 pieces of a GiB.
        self._changed = threading.Condition(threading.Lock())
        self._gathering, self._writing = bytearray(_MOST), bytearray(_MOST)
        self._size = 0
        self._is_writing = False
        self._is_awaited = False
        self._failure: Exception | None = None
        self._at = 0
        self.length = 0
        """Bytes that it got, and has read again."""

    def read_again(self, length: int) -> None:
        """Hash what is there already; raise OSError."""
        while self.length < length:
            count = min(_AGAIN, length - self.length)
            self.length += _THREADS.begin(self._hash_again, count, self.length).result()
        self._at = self.length

    def write(self, data: bytes) -> None:
        """Take what comes next; raise OSError if something before could not be written."""
        taken = self._gather(data)
        while taken < len(data):
            taken += self._gather(data[taken:])

    def wait(self) -> None:
        """Wait until all is written; raise OSError."""
        with self._changed:
            self._is_awaited = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_writing)
            self._is_awaited = False
            self._raise()

    def hexdigest(self) -> str:
        """Return the digest of all of it."""
        return self._hash.hexdigest()

    def _gather(self, data: bytes) -> int:
        """Take as much as there is room for; return how much that is."""
        with self._changed:
            while self._size == _MOST and not self._failure:
                self._changed.wait()
            self._raise()
            begin, end = self._size, min(self._size + len(data), _MOST)
            self._gathering[begin:end] = data[: end - begin]
            self._size = end
            self.length += end - begin
            if begin < _ENOUGH <= end:
                self._changed.notify_all()
            begins = not self._is_writing
            self._is_writing = True
        if begins:
            threading.Thread(target=self._run, name="spool writer", daemon=True).start()
        return end - begin

    def _run(self) -> None:
        count = self._next()
        while count:
            try:
                _THREADS.begin(self._write, count, self._at).result()
            except OSError as error:
                self._fail(error)
                return
            except BaseException as error:
                # Whoever waits for it would wait for ever.
                self._fail(OSError(f"it cannot be written: {error!r}"))
                raise
            self._at += count
            self._written()
            self._pause()
            count = self._next()

    def _pause(self) -> None:
        """Let some more come, where it comes quickly."""
        with self._changed:
            if self._size < _ENOUGH and not self._is_awaited:
                self._changed.wait(_PAUSE)

    def _next(self) -> int:
        """Return how much has gathered to be written; after nothing, this begins anew."""
        with self._changed:
            count, self._size = self._size, 0
            self._gathering, self._writing = self._writing, self._gathering
            self._is_writing = bool(count)
            self._changed.notify_all()
        return count

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure, self._is_writing = error, False
            self._changed.notify_all()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write(self, count: int, offset: int) -> None:
        # What is written past the end of a file that somebody has cut leaves zeros before it.
        if self._file.status().st_size != offset:
            message = "the file was changed by somebody else"
            raise OSError(message)
        with memoryview(self._writing)[:count] as data:
            put(self._file, data, offset)
            self._hash.update(data)

    def _hash_again(self, count: int, offset: int) -> int:
        data = self._file.pread(count, offset)
        if not data:
            message = "the file has become shorter"
            raise OSError(message)
        self._hash.update(data)
        return len(data)
