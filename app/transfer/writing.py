"""Writes the bytes of a lease on real threads, while more bytes arrive."""

import threading
from collections.abc import Callable
from typing import Final

from app.threads import NativeThreadPool

_MAX_PENDING: Final = 1024 * 1024
"""The maximum number of bytes that gather during a write; the writer waits before taking more."""

_LARGE_PIECE: Final = 64 * 1024
"""Pieces of at least this many bytes are not copied."""

_BATCH_SIZE: Final = 512 * 1024
_PAUSE: Final = 0.002
"""The next write begins when this many bytes have gathered, or this many seconds after the last."""

_THREADS: Final = NativeThreadPool(4)

Pieces = list[bytes | bytearray]


class GatheringWriter:
    """Hands the bytes that it gets to `work` in order, on a real thread.

    Handing work to a thread and back takes longer than writing a small piece. So all bytes that
    arrive during a call of `work` are handed to the next one. Large pieces are not copied.
    `on_written` is called after each call. `work` may raise OSError.
    """

    def __init__(self, work: Callable[[Pieces], None], on_written: Callable[[], None]) -> None:
        self._work = work
        self._on_written = on_written
        # A plain lock takes half the time of Condition's default one, an RLock. A GiB has 65,536
        # pieces, each of which takes it.
        self._condition = threading.Condition(threading.Lock())
        self._pending: Pieces = []
        self._size = 0
        self._is_writing = False
        self._is_flushing = False
        self._failure: Exception | None = None

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

    def _enqueue(self, data: bytes) -> None:
        with self._condition:
            while self._size and self._size + len(data) > _MAX_PENDING and not self._failure:
                self._condition.wait()
            self._raise_failure()
            self._append(data)
            previous_size, self._size = self._size, self._size + len(data)
            if previous_size < _BATCH_SIZE <= self._size:
                self._condition.notify_all()
            must_start = not self._is_writing
            self._is_writing = True
        if must_start:
            threading.Thread(target=self._run, name="chunk writer", daemon=True).start()

    def _append(self, data: bytes) -> None:
        last_piece = self._pending[-1] if self._pending else b""
        if isinstance(last_piece, bytearray) and len(last_piece) < _LARGE_PIECE:
            last_piece += data
        else:
            self._pending.append(data if len(data) >= _LARGE_PIECE else bytearray(data))

    def _run(self) -> None:
        while pieces := self._take_pending():
            try:
                _THREADS.submit(self._work, pieces).result()
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

    def _take_pending(self) -> Pieces:
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
