"""The body of an answer, read from what is kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO

from app.content import BodyBroken, FileBody
from app.spools.pace import WINDOW, Pace
from app.spools.shared_file import SharedFile


class KeptBody(FileBody):
    """Bytes `start` to `end` of a file, the last one not counted; whoever makes one closes it."""

    def __init__(self, file: FileIO, start: int, end: int) -> None:
        self._file = SharedFile.of(file)
        self._position = start
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        pace = Pace()
        while self._position < self._end:
            data = self._read(min(pace.piece, self._end - self._position))
            self._position += len(data)
            pace.hand()
            yield data
            pace.taken(len(data))

    def sent_by(self, send: Callable[[int, int, int], None]) -> int:
        """Have the next part sent, without waiting for the disk on the way."""
        count = min(WINDOW, self._end - self._position)
        if count:
            with self._reading():
                self._file.fetch(count, self._position)
            self._file.send(send, self._position, count)
            self._position += count
        return count

    def close(self) -> None:
        """Close the file; may be called again, at any moment."""
        self._file.close()

    def _read(self, count: int) -> bytes:
        with self._reading():
            data = self._file.read(count, self._position)
        if not data:
            message = "what is kept has become shorter"
            raise BodyBroken(message)
        return data

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"what is kept cannot be read: {error}"
            raise BodyBroken(message) from error
