"""What comes is written and hashed on real threads, beside what is still coming."""

import hashlib
import threading
from collections.abc import Callable
from typing import Final

from app.spools.shared_file import SharedFile, put
from app.threads import RealThreads

_AGAIN: Final = 1024 * 1024
"""Bytes that are read again at once, of what an earlier fetch has left."""

_MOST: Final = 1024 * 1024
"""Bytes that gather while others are being written; more have to wait for them."""

_SMALL: Final = 64 * 1024
"""Bytes of a piece that is worth a call of its own; smaller ones are put together."""

_ENOUGH: Final = 512 * 1024
_PAUSE: Final = 0.002
"""Bytes that are worth a write of their own, or else seconds after the last one."""

_THREADS: Final = RealThreads(4)


class Writer:
    """Writes and hashes what it gets, in order.

    Each way to a thread and back takes longer than to write a small piece: so whatever comes while
    a write is under way is written by the next one. Large pieces are not copied once more; each is
    written by a call of its own, and then hashed while the processor still has it at hand.
    `written` is called after each.
    """

    def __init__(self, file: SharedFile, algorithm: str, written: Callable[[], None]) -> None:
        self._file = file
        self._hash = hashlib.new(algorithm)
        self._written = written
        # A plain lock takes half the time of the usual one, for each of 65,536 pieces of a GiB.
        self._changed = threading.Condition(threading.Lock())
        self._gathered: list[bytes | bytearray] = []
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
        for begin in range(0, len(data), _MOST):
            self._gather(data if len(data) <= _MOST else data[begin : begin + _MOST])

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

    def _gather(self, data: bytes) -> None:
        with self._changed:
            while self._size and self._size + len(data) > _MOST and not self._failure:
                self._changed.wait()
            self._raise()
            self._append(data)
            begin, self._size = self._size, self._size + len(data)
            self.length += len(data)
            if begin < _ENOUGH <= self._size:
                self._changed.notify_all()
            begins = not self._is_writing
            self._is_writing = True
        if begins:
            threading.Thread(target=self._run, name="spool writer", daemon=True).start()

    def _append(self, data: bytes) -> None:
        last = self._gathered[-1] if self._gathered else b""
        if isinstance(last, bytearray) and len(last) < _SMALL:
            last += data
        else:
            self._gathered.append(data if len(data) >= _SMALL else bytearray(data))

    def _run(self) -> None:
        while pieces := self._next():
            try:
                self._at = _THREADS.begin(self._write, pieces, self._at).result()
            except OSError as error:
                self._fail(error)
                return
            except BaseException as error:
                # Whoever waits for it would wait for ever.
                self._fail(OSError(f"it cannot be written: {error!r}"))
                raise
            pieces.clear()
            self._written()
            self._pause()

    def _pause(self) -> None:
        """Let some more come, where it comes quickly."""
        with self._changed:
            if self._size < _ENOUGH and not self._is_awaited:
                self._changed.wait(_PAUSE)

    def _next(self) -> list[bytes | bytearray]:
        """Return what has gathered to be written; after nothing, this begins anew."""
        with self._changed:
            pieces, self._gathered, self._size = self._gathered, [], 0
            self._is_writing = bool(pieces)
            self._changed.notify_all()
        return pieces

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure, self._is_writing = error, False
            self._changed.notify_all()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write(self, pieces: list[bytes | bytearray], offset: int) -> int:
        # What is written past the end of a file that somebody has cut leaves zeros before it.
        if self._file.status().st_size != offset:
            message = "the file was changed by somebody else"
            raise OSError(message)
        for data in pieces:
            put(self._file, data, offset)
            self._hash.update(data)
            offset += len(data)
        return offset

    def _hash_again(self, count: int, offset: int) -> int:
        data = self._file.pread(count, offset)
        if not data:
            message = "the file has become shorter"
            raise OSError(message)
        self._hash.update(data)
        return len(data)
