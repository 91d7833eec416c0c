"""The body of an answer, read from what is kept."""

from collections.abc import Iterator
from io import FileIO

from app.content import BodyBroken
from app.spools.pace import Pace
from app.spools.shared_file import SharedFile


class KeptBody:
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
