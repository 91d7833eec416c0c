"""A chunked body, read strictly (RFC 9112, section 7.1).

The standard library's reader skips two bytes after a chunk whatever they are, takes a cut trailer
for an end, and reads trailers without limit. Where two readers could find different ends, a part of
one answer is another answer to one of them.
"""

import http.client
import io
import re
from collections.abc import Callable
from typing import Final

from app.upstream.head import Malformed, read_fields

_LINE_LIMIT: Final = 4096
"""Bytes of a line with a size and its extensions, which nobody uses."""

_TRAILER_LIMIT: Final = 16 * 1024
_TRAILER_FIELDS: Final = 64

_END: Final = b"\r\n"
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_NEXT: Final = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})\r\n")


class Chunks:
    """The content of a chunked body; its trailer is read and dropped.

    `buffered` tells what can be read without waiting.
    """

    def __init__(self, reader: io.BufferedIOBase, buffered: Callable[[], bytes]) -> None:
        self._reader = reader
        self._buffered = buffered
        self._left = 0
        self._begun = False
        self._ended = False

    def read1(self, n: int) -> bytes:
        """Return up to n bytes, or none at the end; only the first of them are waited for.

        Raise IncompleteRead for a cut, and Malformed for what others may read otherwise.
        """
        if not self._left:
            self._next()
        if self._ended:
            return b""
        data = self._reader.read1(min(n, self._left))
        if not data:
            raise http.client.IncompleteRead(data, self._left)
        self._left -= len(data)
        if self._left:
            return data
        return b"".join([data, *self._small_ones(n - len(data))])

    def _next(self) -> None:
        """Go on to the next chunk, over the end of this one."""
        if self._ended:
            return
        end = self._reader.read(2) if self._begun else _END
        line = self._reader.readline(_LINE_LIMIT) if end == _END else b""
        size = _SIZE.fullmatch(line)
        if size is None:
            if _END.startswith(end) and not line.endswith(b"\n") and len(line) < _LINE_LIMIT:
                raise http.client.IncompleteRead(line)
            message = "a chunk does not end where it should, or the next has no size"
            raise Malformed(message)
        self._begun = True
        self._left = int(size[1], 16)
        if not self._left:
            read_fields(self._reader, most=_TRAILER_FIELDS, limit=_TRAILER_LIMIT)
            self._ended = True

    def _small_ones(self, wanted: int) -> list[bytes]:
        """Take the chunks that the buffer holds whole: one by one, they would cost too much."""
        held, at = self._buffered(), 0
        pieces: list[bytes] = []
        while found := _NEXT.match(held, at):
            begin, size = found.end(), int(found[1], 16)
            if not size or size > wanted or begin + size > len(held):
                break
            pieces.append(held[begin : begin + size])
            wanted -= size
            at = begin + size
        self._reader.read(at)
        return pieces
