"""Upstream responses, parsed strictly (RFC 9112).

A read returns whatever has arrived without waiting for a full buffer. A response is refused if
its end is ambiguous.
"""

import http.client
import io
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from socket import socket
from typing import Final

from app.source import has_body
from app.upstream.http.deadlines import NO_LIMIT, DeadlineReader

# The response head.
#
# The standard library's parser is lenient: a malformed field line ends the head, and can so hide a
# Content-Length. Another recipient of the response may parse it differently, so we refuse it. This
# parser does less, and takes a third of the time.

HTTP_1_0: Final = 10
HTTP_1_1: Final = 11

_LINE_LIMIT: Final = 64 * 1024
_FIELD_LIMIT: Final = 256
_HEAD_LIMIT: Final = 256 * 1024
"""Bytes. The number of fields does not limit folded lines, and joining many of them takes quadratic
time."""
_INTERIM_LIMIT: Final = 16

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9]{2})(?: ([^\r\n\x00]*))?\r?\n")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\x00]*)\r?\n")
_FOLDED_LINE: Final = re.compile(rb"[ \t]([^\r\n\x00]*)\r?\n")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
"""Up to 18 digits: less than one exabyte."""


class MalformedResponse(http.client.HTTPException):
    """A response that another recipient may parse differently, or that does not end."""


def read_status(reader: io.BufferedIOBase) -> tuple[int, int, str]:
    """Return the HTTP version (10 or 11), the status and the reason of the final response.

    Skip interim responses (RFC 9110, section 15.2).
    Raise HTTPException if the status line is cut or malformed, if there are too many interim
    responses, or for a 101: we never ask to switch protocols.
    """
    for _ in range(_INTERIM_LIMIT):
        version, status, reason = _read_status_line(reader)
        if status >= HTTPStatus.OK:
            return version, status, reason
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            message = "another protocol"
            raise MalformedResponse(message)
        read_fields(reader)
    message = "too many interim responses"
    raise MalformedResponse(message)


def _read_status_line(reader: io.BufferedIOBase) -> tuple[int, int, str]:
    line = reader.readline(_LINE_LIMIT + 1)
    if len(line) > _LINE_LIMIT:
        message = "the head is too large"
        raise MalformedResponse(message)
    if not line.endswith(b"\n") and line[:7] == b"HTTP/1."[: len(line)]:
        message = "the answer is cut" if line else "no answer"
        raise http.client.RemoteDisconnected(message)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise http.client.BadStatusLine(line[:80].decode("latin-1"))
    version = HTTP_1_0 if match[1] == b"0" else HTTP_1_1
    return version, int(match[2]), (match[3] or b"").decode("latin-1").strip()


def read_fields(
    reader: io.BufferedIOBase, *, max_fields: int = _FIELD_LIMIT, limit: int = _HEAD_LIMIT
) -> http.client.HTTPMessage:
    """Return the fields up to the empty line (RFC 9112, section 5).

    Join a folded line with a space to the line before it (section 5.2).
    Raise HTTPException if the fields are cut or malformed, or if there are more than `max_fields`
    fields or more than `limit` bytes.
    """
    fields: list[tuple[str, str]] = []
    remaining = limit
    while (line := reader.readline(_LINE_LIMIT + 1)) not in {b"\r\n", b"\n"}:
        remaining -= len(line)
        if len(line) > _LINE_LIMIT or len(fields) >= max_fields or remaining < 0:
            message = "the head is too large"
            raise MalformedResponse(message)
        if not line.endswith(b"\n"):
            message = "the head is cut"
            raise http.client.RemoteDisconnected(message)
        if field := _FIELD.fullmatch(line):
            fields.append((field[1].decode("ascii"), _decode_value(field[2])))
        elif fields and (match := _FOLDED_LINE.fullmatch(line)):
            name, value = fields[-1]
            fields[-1] = name, f"{value} {_decode_value(match[1])}".strip()
        else:
            message = "a line of the head is not a field"
            raise MalformedResponse(message)
    head = http.client.HTTPMessage()
    for name, value in fields:
        head[name] = value
    return head


def _decode_value(value: bytes) -> str:
    """Return a field value without surrounding white space.

    Matching the white space in the regular expression would take quadratic time.
    """
    return value.strip(b" \t").decode("latin-1")


def parse_framing(version: int, head: http.client.HTTPMessage) -> tuple[bool, int | None]:
    """Return whether the body is chunked, and its declared length in bytes (RFC 9112, section 6.3).

    The length is None if none is declared.
    Raise HTTPException if the end of the body is ambiguous, even if the response has no body: for
    a repeated Content-Length or one that is not a plain number, a Content-Length beside a
    Transfer-Encoding, a transfer coding other than chunked, or any transfer coding in HTTP/1.0,
    which has none.
    """
    codings = head.get_all("Transfer-Encoding", [])
    lengths = head.get_all("Content-Length", [])
    if codings and (version == HTTP_1_0 or [coding.lower() for coding in codings] != ["chunked"]):
        raise http.client.UnknownTransferEncoding
    if lengths and (codings or len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0])):
        message = "the length of its body is ambiguous"
        raise MalformedResponse(message)
    return bool(codings), int(lengths[0]) if lengths else None


def must_close(version: int, head: http.client.HTTPMessage) -> bool:
    """Return True if the upstream closes the connection after this response (RFC 9112, 9.3)."""
    parts = ",".join(head.get_all("Connection", [])).lower().split(",")
    options = {option.strip() for option in parts}
    return "close" in options or (version == HTTP_1_0 and "keep-alive" not in options)


# Chunked bodies (RFC 9112, section 7.1).
#
# The standard library's reader skips two bytes after each chunk whatever they are, accepts a
# truncated trailer as the end, and reads trailers without a limit. If two recipients find different
# ends, one of them takes part of a response for the next response.

_CHUNK_LINE_LIMIT: Final = 4096
"""Bytes of a line that holds a chunk size and its extensions, which nobody uses."""

_TRAILER_LIMIT: Final = 16 * 1024
_TRAILER_FIELDS: Final = 64

_CRLF: Final = b"\r\n"
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_NEXT_CHUNK: Final = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})\r\n")


class ChunkedReader:
    """Reads the content of a chunked body, and drops its trailer.

    `buffered` returns the bytes that `reader` holds, without consuming them.
    """

    def __init__(self, reader: io.BufferedIOBase, peek_buffered: Callable[[], bytes]) -> None:
        self._reader = reader
        self._peek_buffered = peek_buffered
        self._left = 0
        self._begun = False
        self._ended = False

    def read1(self, n: int) -> bytes:
        """Return up to `n` bytes, or b"" at the end of the body.

        Wait only for the first bytes.
        Raise IncompleteRead if the body is cut, and MalformedResponse if another recipient may
        parse it differently.
        """
        if not self._left:
            self._read_next_size()
        if self._ended:
            return b""
        data = self._reader.read1(min(n, self._left))
        if not data:
            raise http.client.IncompleteRead(data, self._left)
        self._left -= len(data)
        if self._left:
            return data
        return b"".join([data, *self._take_buffered_chunks(n - len(data))])

    def _read_next_size(self) -> None:
        """Check the end of this chunk and read the next size; read the trailer if that is 0."""
        if self._ended:
            return
        end = self._reader.read(2) if self._begun else _CRLF
        line = self._reader.readline(_CHUNK_LINE_LIMIT) if end == _CRLF else b""
        size = _CHUNK_LINE.fullmatch(line)
        if size is None:
            if _CRLF.startswith(end) and not line.endswith(b"\n") and len(line) < _CHUNK_LINE_LIMIT:
                raise http.client.IncompleteRead(line)
            message = "a chunk does not end where it should, or the next has no size"
            raise MalformedResponse(message)
        self._begun = True
        self._left = int(size[1], 16)
        if not self._left:
            read_fields(self._reader, max_fields=_TRAILER_FIELDS, limit=_TRAILER_LIMIT)
            self._ended = True

    def _take_buffered_chunks(self, limit: int) -> list[bytes]:
        """Return the complete chunks in the buffer, up to `limit` bytes.

        Reading small chunks one by one would be too slow.
        """
        buffered, position = self._peek_buffered(), 0
        pieces: list[bytes] = []
        while match := _NEXT_CHUNK.match(buffered, position):
            start, size = match.end(), int(match[1], 16)
            if not size or size > limit or start + size > len(buffered):
                break
            pieces.append(buffered[start : start + size])
            limit -= size
            position = start + size
        self._reader.read(position)
        return pieces


_TLS_RECORD: Final = 16 * 1024
"""The maximum number of bytes that one read from a TLS socket returns (RFC 8446, section 5.1)."""


class UpstreamResponse(http.client.HTTPResponse):
    """A response whose `read1()` waits for the first bytes and then takes all that has arrived.

    The standard `read1()` returns the bytes of one system call: at most 16 KiB with TLS, at half
    the speed. The standard `read()` waits until its buffer is full, which takes seconds on a slow
    line.
    """

    def __init__(self, sock: socket, debuglevel: int = 0, method: str | None = None) -> None:
        super().__init__(sock, debuglevel, method)
        self._sock = sock
        self._request_method = method or "GET"
        self._piece = 1 << 30
        if hasattr(sock, "suppress_ragged_eofs"):  # TLS, and urllib3's TLS in TLS
            self._piece = _TLS_RECORD
            # A truncated stream must not look like one that was closed properly (RFC 8446, 6.1).
            sock.suppress_ragged_eofs = False
        self._reader = DeadlineReader(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._reader)
        self.has_excess_bytes = False
        """Whether bytes arrived beyond the end of the response: the connection must not be reused,
        because they would be taken for the next response."""
        self._chunks: ChunkedReader | None = None

    def begin(self, *, _max_headers: int | None = None) -> None:
        """Read the head; raise HTTPException if another recipient may parse it differently.

        Newer versions of CPython pass `_max_headers`, the `max_response_headers` of the connection.
        It is ignored: `read_fields` has its own limit.
        """
        self.version, self.status, self.reason = read_status(self.fp)
        self.code = self.status
        self.headers = self.msg = read_fields(self.fp)
        chunked, length = parse_framing(self.version, self.headers)
        if has_body(self._request_method, self.status):
            self.chunked, self.length = chunked, length
        else:
            self.chunked, self.length = False, 0
        if self.chunked:
            self._chunks = ChunkedReader(self.fp, self._peek_buffered)
        self.will_close = must_close(self.version, self.headers) or not (
            self.chunked or self.length is not None
        )
        # The deadline so far is that of the head. The reader of the body sets its own.
        self.set_deadline(NO_LIMIT.deadline)

    def set_deadline(self, deadline: float) -> None:
        """Set the deadline for reading the body, in monotonic seconds."""
        self._reader.set_deadline(deadline)

    def _read_status(self) -> tuple[str, int, str]:
        """Return the status line of a proxy's response to CONNECT, for urllib3."""
        version, status, reason = read_status(self.fp)
        return f"HTTP/1.{version % 10}", status, reason

    def read(self, amt: int | None = None) -> bytes:
        """Return some bytes, as `read1()` does; b"" at the end of the body."""
        return self.read1(-1 if amt is None else amt)

    def read1(self, n: int = -1) -> bytes:
        """Return up to `n` bytes, or b"" at the end of the body; wait only for the first bytes.

        Raise what the reader raises: TimeoutError, ClientDisconnected or another OSError. Raise
        HTTPException if a chunked body is cut or malformed.
        """
        if self.isclosed():
            return b""
        n = n if n > 0 else io.DEFAULT_BUFFER_SIZE
        if self._chunks is not None:
            data = self._chunks.read1(n)
        elif self.length is None:
            # The connection's end is the body's end: gathering would hide an error behind it.
            data = self.fp.read1(n)
        else:
            data = self._gather(min(n, self.length))
            self.length -= len(data)
        if not data or self.length == 0:
            self._close_conn()
        return data

    def _gather(self, limit: int) -> bytes:
        """Wait for the first bytes, then take what else has arrived, `limit` bytes at most."""
        first = self.fp.read1(limit)
        pieces = [first, *self._iter_available(limit - len(first))] if first else []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _iter_available(self, limit: int) -> Iterator[bytes]:
        """Yield what the socket holds. Our buffer is empty: `read1()` returned all of it."""
        self._sock.settimeout(0)
        while limit:
            try:
                piece = self._sock.recv(min(limit, self._piece))
            except OSError:
                # Nothing has arrived, or the connection broke. The next read1() waits, or finds
                # that the body ended too early.
                return
            if not piece:
                return
            limit -= len(piece)
            yield piece

    def _peek_buffered(self) -> bytes:
        """Return the bytes in the buffer without consuming them or reading from the socket."""
        self._reader.is_paused = True
        buffered = self.fp.peek()
        self._reader.is_paused = False
        return buffered

    def _close_conn(self) -> None:
        self.has_excess_bytes = bool(self._peek_buffered())
        super()._close_conn()  # type: ignore[misc] # not in typeshed
