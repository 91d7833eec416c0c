"""Writes and hashes incoming bytes on real threads, while more bytes arrive."""

import hashlib
import threading
from collections.abc import Callable
from typing import Final

from app.spools.shared_file import SharedFile, write_at
from app.threads import NativeThreadPool

_REHASH_SIZE: Final = 1024 * 1024
"""Bytes of an earlier fetch that are read again at once."""

_MAX_PENDING: Final = 1024 * 1024
"""The maximum number of bytes that gather during a write; the writer waits before taking more."""

_LARGE_PIECE: Final = 64 * 1024
"""Pieces of at least this many bytes are written by a call of their own."""

_BATCH_SIZE: Final = 512 * 1024
_PAUSE: Final = 0.002
"""The next write begins when this many bytes have gathered, or this many seconds after the last."""

_THREADS: Final = NativeThreadPool(4)


class HashingWriter:
    """Writes and hashes the bytes it gets, in order.

    Handing work to a thread and back takes longer than writing a small piece. So all bytes that
    arrive during a write are written together by the next one. Large pieces are not copied: each
    is written by a call of its own, and then hashed while it is still in the processor's cache.
    `on_written` is called after each write.
    """

    def __init__(self, file: SharedFile, algorithm: str, on_written: Callable[[], None]) -> None:
        self._file = file
        self._hash = hashlib.new(algorithm)
        self._on_written = on_written
        # A plain lock takes half the time of Condition's default one, an RLock. A GiB has 65,536
        # pieces, each of which takes it.
        self._condition = threading.Condition(threading.Lock())
        self._pending: list[bytes | bytearray] = []
        self._size = 0
        self._is_writing = False
        self._is_flushing = False
        self._failure: Exception | None = None
        self._offset = 0
        self.length = 0
        """The number of bytes that the writer has read again or been given."""

    def hash_existing(self, length: int) -> None:
        """Hash the first `length` bytes of the file, which are already there; may raise OSError."""
        while self.length < length:
            count = min(_REHASH_SIZE, length - self.length)
            self.length += _THREADS.submit(self._hash_piece, count, self.length).result()
        self._offset = self.length

    def write(self, data: bytes) -> None:
        """Accept the next bytes, and wait if too many have gathered.

        Raise OSError if earlier bytes could not be written.
        """
        for start in range(0, len(data), _MAX_PENDING):
            self._enqueue(data if len(data) <= _MAX_PENDING else data[start : start + _MAX_PENDING])

    def flush(self) -> None:
        """Wait until all bytes are written; raise OSError if some could not be."""
        with self._condition:
            self._is_flushing = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: not self._is_writing)
            self._is_flushing = False
            self._raise_failure()

    def hexdigest(self) -> str:
        """Return the digest of all bytes written so far, as hex digits."""
        return self._hash.hexdigest()

    def _enqueue(self, data: bytes) -> None:
        with self._condition:
            while self._size and self._size + len(data) > _MAX_PENDING and not self._failure:
                self._condition.wait()
            self._raise_failure()
            self._append(data)
            previous_size, self._size = self._size, self._size + len(data)
            self.length += len(data)
            if previous_size < _BATCH_SIZE <= self._size:
                self._condition.notify_all()
            must_start = not self._is_writing
            self._is_writing = True
        if must_start:
            threading.Thread(target=self._run, name="spool writer", daemon=True).start()

    def _append(self, data: bytes) -> None:
        last_piece = self._pending[-1] if self._pending else b""
        if isinstance(last_piece, bytearray) and len(last_piece) < _LARGE_PIECE:
            last_piece += data
        else:
            self._pending.append(data if len(data) >= _LARGE_PIECE else bytearray(data))

    def _run(self) -> None:
        while pieces := self._take_pending():
            try:
                self._offset = _THREADS.submit(self._write, pieces, self._offset).result()
            except OSError as error:
                self._fail(error)
                return
            except BaseException as error:
                # Otherwise the threads that wait for this write would wait forever.
                self._fail(OSError(f"the file cannot be written: {error!r}"))
                raise
            pieces.clear()
            self._on_written()
            self._pause()

    def _pause(self) -> None:
        """Wait briefly for more bytes to gather, unless somebody waits for the write."""
        with self._condition:
            if self._size < _BATCH_SIZE and not self._is_flushing:
                self._condition.wait(_PAUSE)

    def _take_pending(self) -> list[bytes | bytearray]:
        """Return the gathered pieces; if there are none, the writing thread is to end."""
        with self._condition:
            pieces, self._pending, self._size = self._pending, [], 0
            self._is_writing = bool(pieces)
            self._condition.notify_all()
        return pieces

    def _fail(self, error: Exception) -> None:
        with self._condition:
            self._failure, self._is_writing = error, False
            self._condition.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write(self, pieces: list[bytes | bytearray], offset: int) -> int:
        # If somebody has truncated the file, writing past its end would leave zeros in between.
        if self._file.stat().st_size != offset:
            message = "the file was changed by somebody else"
            raise OSError(message)
        for data in pieces:
            write_at(self._file, data, offset)
            self._hash.update(data)
            offset += len(data)
        return offset

    def _hash_piece(self, count: int, offset: int) -> int:
        data = self._file.pread(count, offset)
        if not data:
            message = "the file has become shorter"
            raise OSError(message)
        self._hash.update(data)
        return len(data)
