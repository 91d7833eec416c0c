"""A blob in a file: read here, or sent by the kernel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO

from app.piece_size import BY_KERNEL, FROM_FILE, AdaptivePieceSize
from app.source import BodyBroken, FileBody
from app.spools.shared_file import SharedFile
from app.store.errors import translate_errors


class FileBlob:
    """An open content file."""

    def __init__(self, file: FileIO) -> None:
        # A FileIO rather than a descriptor: it is closed even if the greenlet that waits for it
        # is killed, and nobody is left to close it.
        self._file = file

    def read(self) -> bytes:
        """Return all bytes; wait for the disk. Raise StoreError if they cannot be read."""
        with translate_errors("read"):
            return self._file.read() or b""

    def build_body(self, start: int, end: int) -> "FileBlobBody":
        """Return bytes `start` to `end` (exclusive) as a body, which takes the file over."""
        return FileBlobBody(self._file, start, end)

    def close(self) -> None:
        """Close a file that was not turned into a body."""
        self._file.close()


class FileBlobBody(FileBody):
    """A body of bytes `start` to `end` (exclusive) of a content file.

    Its creator closes it. Reading raises BodyBroken if the file cannot be read or is shorter.
    """

    def __init__(self, file: FileIO, start: int, end: int) -> None:
        self._file = SharedFile.from_file(file)
        self._position = start
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        pieces = AdaptivePieceSize(FROM_FILE)
        while self._position < self._end:
            data = self._read(min(pieces.size, self._end - self._position))
            self._position += len(data)
            pieces.record_handed()
            yield data
            pieces.record_taken(len(data))

    def send_next(self, send: Callable[[int, int, int], None]) -> int:
        """Send the next part with `send`, and return its length in bytes; 0 at the end.

        The part is read into the page cache first, so that `send` need not wait for the disk.
        """
        count = min(BY_KERNEL, self._end - self._position)
        if count:
            with self._translate_errors():
                self._file.prefetch(count, self._position)
            self._file.send(send, self._position, count)
            self._position += count
        return count

    def close(self) -> None:
        """Close the file; may be called repeatedly, and at any moment."""
        self._file.close()

    def _read(self, count: int) -> bytes:
        with self._translate_errors():
            data = self._file.read(count, self._position)
        if not data:
            message = "what is kept has become shorter"
            raise BodyBroken(message)
        return data

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"what is kept cannot be read: {error}"
            raise BodyBroken(message) from error
