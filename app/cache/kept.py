"""The body of an answer, read from what is kept."""

from collections.abc import Callable, Iterator
from io import FileIO
from typing import Final

from app.content import BodyBroken, FileBody
from app.spools.pace import Pace
from app.spools.shared_file import SharedFile

_WINDOW: Final = 2 * 1024 * 1024
"""Bytes that are sent between two looks at whether the next ones are in memory."""


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
        count = min(_WINDOW, self._end - self._position)
        if count:
            self._file.send(send, self._position, count)
            self._position += count
        return count

    def close(self) -> None:
        """Close the file; may be called again, at any moment."""
        self._file.close()

    def _read(self, count: int) -> bytes:
        try:
            data = self._file.read(count, self._position)
        except OSError as error:
            message = f"what is kept cannot be read: {error}"
            raise BodyBroken(message) from error
        if not data:
            message = "what is kept has become shorter"
            raise BodyBroken(message)
        return data
