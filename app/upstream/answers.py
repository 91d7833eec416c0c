"""An upstream's answers: what is there is read at once, and a wait ends with its client."""

import http.client
import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from socket import socket
from typing import Final

from app.content import Client, has_body
from app.upstream.head import HTTP_1_0, closes, is_chunked, read_fields

_CLIENT_CHECK: Final = 0.25
"""Seconds between two looks at the client while an upstream is silent."""

_TLS_RECORD: Final = 16 * 1024
"""TLS never gives more at once (RFC 8446, section 5.1)."""

_LENGTH_LIMIT: Final = 18
"""Digits: an exabyte less one."""
_INTERIM_LIMIT: Final = 16
_CHUNK_LINE_LIMIT: Final = 4096
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")

_waiting: ContextVar[Client | None] = ContextVar("waiting", default=None)


class ClientLeft(ConnectionAbortedError):
    """Nobody waits for this answer any more."""


@contextmanager
def waiting(client: Client | None) -> Iterator[None]:
    """Name the client for whom the responses that begin in this block are read.

    urllib3 passes nothing from a request to its response, so it goes round it: context
    variables are each thread's, and each greenlet's, own.
    """
    token = _waiting.set(client)
    try:
        yield
    finally:
        _waiting.reset(token)


class _PatientReader(io.RawIOBase):
    """The upstream's socket, read with an idle timeout during which the client is watched.

    `raw` only keeps the socket open until it is closed here: http.client may have closed the
    connection by then.
    """

    def __init__(self, sock: socket, raw: io.RawIOBase, client: Client | None) -> None:
        super().__init__()
        self._sock = sock
        self._raw = raw
        self._client = client
        self._idle = sock.gettimeout() or 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # typeshed: Buffer
        deadline = time.monotonic() + self._idle
        self._sock.settimeout(min(_CLIENT_CHECK, self._idle))
        while True:
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                if self._client is not None and self._client.gone():
                    raise ClientLeft from None
                if time.monotonic() >= deadline:
                    raise

    def close(self) -> None:
        self._raw.close()
        super().close()


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
        raw: io.RawIOBase = self.fp.detach()
        self.fp = io.BufferedReader(_PatientReader(sock, raw, _waiting.get()))

    def begin(self) -> None:
        """Read the head; raise HTTPException for one that others may read otherwise."""
        version, self.status, reason = self._read_status()
        self.code, self.reason = self.status, reason.strip()
        if not version.startswith("HTTP/1."):
            raise http.client.UnknownProtocol(version)
        self.version = HTTP_1_0 if version == "HTTP/1.0" else 11
        self.headers = self.msg = read_fields(self.fp)
        self.chunked, self.chunk_left = is_chunked(self.headers), None
        self.length = self._declared_length()
        self.will_close = closes(self.version, self.headers) or (
            self.length is None and not self.chunked
        )

    def _declared_length(self) -> int | None:
        """Return the bytes of the body, if they are known (RFC 9112, section 6.3)."""
        if not has_body(self._asked, self.status):
            return 0
        length = self.headers.get("Content-Length", "")
        if len(length) > _LENGTH_LIMIT:
            message = "an absurd Content-Length"
            raise http.client.HTTPException(message)
        return int(length) if length.isascii() and length.isdecimal() and not self.chunked else None

    def _read_status(self) -> tuple[str, int, str]:
        """Skip interim answers (RFC 9110, section 15.2)."""
        for _ in range(_INTERIM_LIMIT):
            status_line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc] # not in typeshed
            if status_line[1] >= HTTPStatus.OK:
                return status_line
            read_fields(self.fp)
        message = "no final answer"
        raise http.client.BadStatusLine(message)

    def _read_next_chunk_size(self) -> int:
        """Refuse a size whose line is cut: its first zero would pass for the last chunk."""
        line = self.fp.readline(_CHUNK_LINE_LIMIT)
        size = line.partition(b";")[0].strip()
        if not line.endswith(b"\n") or not _HEX.fullmatch(size):
            self._close_conn()  # type: ignore[attr-defined]
            raise http.client.IncompleteRead(line)
        return int(size, 16)

    def read1(self, n: int = -1) -> bytes:
        """Return up to n bytes; only the first of them are waited for."""
        if self.length is None or self.chunked or n <= 0 or self.fp is None:
            # Without a length, an error met while gathering would be lost with what it ends.
            return super().read1(n)
        wanted = min(n, self.length)
        first = self.fp.read1(wanted)
        pieces = [first, *self._waiting_pieces(wanted - len(first))] if first else []
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.length -= len(data)
        if not data or not self.length:
            self._close_conn()  # type: ignore[attr-defined]
        return data

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
