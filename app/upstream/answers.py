"""An upstream's answers: what is there is read at once, and where one ends is beyond doubt."""

import http.client
import io
from collections.abc import Iterator
from socket import socket
from typing import Final

from app.content import has_body
from app.upstream.chunks import Chunks
from app.upstream.head import closes, framing, read_fields, read_status
from app.upstream.reading import PatientReader

_TLS_RECORD: Final = 16 * 1024
"""TLS never gives more at once (RFC 8446, section 5.1)."""


class UpstreamResponse(http.client.HTTPResponse):
    """A response whose read1() waits for the first bytes only and then takes all that is there.

    The stock read1() gives what one system call gives, with TLS 16 KiB at the most, and half the
    speed; the stock read() waits until its buffer is full, on a slow line for seconds.
    """

    def __init__(self, sock: socket, debuglevel: int = 0, method: str | None = None) -> None:
        super().__init__(sock, debuglevel, method)
        self._sock = sock
        self._asked = method or "GET"
        self._piece = 1 << 30
        if hasattr(sock, "suppress_ragged_eofs"):  # TLS, and urllib3's TLS in TLS
            self._piece = _TLS_RECORD
            # A connection that is cut must not look like one that was closed (RFC 8446, 6.1).
            sock.suppress_ragged_eofs = False
        self._reader = PatientReader(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._reader)
        self.overran = False
        """Whether more has come than the answer: who sent it may take it for the next one."""
        self._chunks: Chunks | None = None

    def begin(self) -> None:
        """Read the head; raise HTTPException for one that others may read otherwise."""
        self.version, self.status, self.reason = read_status(self.fp)
        self.code = self.status
        self.headers = self.msg = read_fields(self.fp)
        chunked, length = framing(self.version, self.headers)
        if has_body(self._asked, self.status):
            self.chunked, self.length = chunked, length
        else:
            self.chunked, self.length = False, 0
        if self.chunked:
            self._chunks = Chunks(self.fp, self._buffered)
        self.will_close = closes(self.version, self.headers) or not (
            self.chunked or self.length is not None
        )

    def _read_status(self) -> tuple[str, int, str]:
        """Read the answer of a proxy to CONNECT, for urllib3."""
        version, status, reason = read_status(self.fp)
        return f"HTTP/1.{version % 10}", status, reason

    def read(self, amt: int | None = None) -> bytes:
        """Return some bytes, as read1() does."""
        return self.read1(-1 if amt is None else amt)

    def read1(self, n: int = -1) -> bytes:
        """Return up to n bytes; only the first of them are waited for."""
        if self.isclosed():
            return b""
        n = n if n > 0 else io.DEFAULT_BUFFER_SIZE
        if self._chunks is not None:
            data = self._chunks.read1(n)
        elif self.length is None:
            # Gathering, an error would be lost with the end that it makes.
            data = self.fp.read1(n)
        else:
            data = self._gathered(min(n, self.length))
            self.length -= len(data)
        if not data or self.length == 0:
            self._close_conn()
        return data

    def _gathered(self, wanted: int) -> bytes:
        """Wait for the first bytes, and take the others that are there."""
        first = self.fp.read1(wanted)
        pieces = [first, *self._waiting_pieces(wanted - len(first))] if first else []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _waiting_pieces(self, wanted: int) -> Iterator[bytes]:
        """Take what the socket holds. The buffer before it is empty: read1 returned all of it."""
        self._sock.settimeout(0)
        while wanted:
            try:
                piece = self._sock.recv(min(wanted, self._piece))
            except OSError:
                # Nothing there, or broken: the next read1() waits, or meets the error again as
                # an end before the end.
                return
            if not piece:
                return
            wanted -= len(piece)
            yield piece

    def _buffered(self) -> bytes:
        """Return what has been read and not yet been taken, and leave it there."""
        self._reader.asleep = True
        held = self.fp.peek()
        self._reader.asleep = False
        return held

    def _close_conn(self) -> None:
        self.overran = bool(self._buffered())
        super()._close_conn()  # type: ignore[misc] # not in typeshed
