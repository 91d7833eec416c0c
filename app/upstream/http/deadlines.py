"""Reading from an upstream's socket.

Every wait ends when its deadline passes or its client disconnects.
"""

import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, overload

from app.source import Client

_CLIENT_CHECK: Final = 0.25
"""Seconds between two checks of the client's connection while the upstream is silent."""

_LEAST: Final = 0.001
"""The shortest timeout, in seconds: zero would make the socket non-blocking."""

_TURN: Final = 0.05
"""Seconds after which a busy reader yields to the event loop."""

_waiting: ContextVar[Client | None] = ContextVar("waiting", default=None)
_NEVER: Final = float("inf")
_deadline: ContextVar[float] = ContextVar("deadline", default=_NEVER)


class ClientDisconnected(ConnectionAbortedError):
    """The client that this response is read for has disconnected."""


@contextmanager
def bind_client(client: Client | None) -> Iterator[None]:
    """Set the client for which responses that begin in this block are read.

    urllib3 passes nothing from a request to its response, so a context variable carries the client.
    Each thread and each greenlet has its own.
    """
    token = _waiting.set(client)
    try:
        yield
    finally:
        _waiting.reset(token)


@contextmanager
def limit_time(seconds: float) -> Iterator[None]:
    """Give the block a deadline `seconds` from now, however slowly an upstream sends.

    A wait for an upstream then raises TimeoutError, as it does after the read timeout without a
    byte. A nested block can only shorten the deadline.
    """
    token = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def replace_deadline(seconds: float) -> Iterator[None]:
    """Give the block a deadline `seconds` from now, even beyond that of the enclosing block.

    This is for results that several callers wait for: the remaining time of the first caller must
    not limit the others.
    """
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


@overload
def seconds_left(timeout: float) -> float: ...


@overload
def seconds_left(timeout: float | None) -> float | None: ...


def seconds_left(timeout: float | None) -> float | None:
    """Return `timeout`, in seconds, shortened to the time that is left before the deadline.

    None means no limit. Raise TimeoutError if the deadline has passed.
    """
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        message = "timed out"
        raise TimeoutError(message)
    shortest = left if timeout is None else min(timeout, left)
    return None if shortest == _NEVER else shortest


class DeadlineReader(io.RawIOBase):
    """Reads from an upstream's socket with an idle timeout, and checks the client while it waits.

    `raw` keeps the socket open until `close()`, even if http.client has closed the connection.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._sock = sock
        self._raw = raw
        self._client = _waiting.get()
        self._idle_timeout = sock.gettimeout() or 0
        self._receive = self._receive_tls if isinstance(sock, ssl.SSLSocket) else self._receive_once
        self._waited_at = time.monotonic()
        self.is_paused = False
        """If True, reads return None, so that `BufferedReader.peek()` shows only what it holds."""

    def readable(self) -> bool:
        """Return True, as `io.BufferedReader` requires."""
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override] # typeshed: Buffer
        """Wait for bytes; return their number, 0 at the end of the stream, or None if `is_paused`.

        Raise TimeoutError after the idle timeout or at the deadline, ClientDisconnected if the
        client has disconnected, or another OSError.
        """
        if self.is_paused:
            return None
        began = self._yield_to_loop()
        try:
            return self._wait_for(buffer)
        finally:
            ended = time.monotonic()
            if ended - began >= _LEAST:
                self._waited_at = ended

    def _yield_to_loop(self) -> float:
        """Yield to the event loop if no read has waited for 50 ms; return the monotonic time.

        With gevent, no other greenlet would run. The sleep is longer than zero, because gevent does
        not check sockets after a sleep of zero seconds.
        """
        now = time.monotonic()
        if now - self._waited_at < _TURN:
            return now
        time.sleep(_LEAST)
        self._waited_at = time.monotonic()
        return self._waited_at

    def _wait_for(self, buffer: memoryview) -> int:
        silent_until = time.monotonic() + self._idle_timeout
        while True:
            left = silent_until - time.monotonic()
            patience = seconds_left(max(_LEAST, min(_CLIENT_CHECK, left)))
            try:
                count = self._receive(buffer, patience)
            except TimeoutError:
                if self._client is not None and self._client.is_gone():
                    raise ClientDisconnected from None
                if time.monotonic() >= silent_until:
                    raise
            else:
                if count is not None:
                    return count
                silent_until = time.monotonic() + self._idle_timeout

    def _receive_once(self, buffer: memoryview, patience: float) -> int | None:
        self._sock.settimeout(patience)
        return self._sock.recv_into(buffer)

    def _receive_tls(self, buffer: memoryview, patience: float) -> int | None:
        """Return the number of bytes, or None if only part of a TLS record has arrived.

        gevent would wait for the whole record and restart the timeout with each byte.
        """
        self._sock.settimeout(0)
        try:
            return self._sock.recv_into(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._sock.settimeout(patience)
            socket.socket.recv(self._sock, 1, socket.MSG_PEEK)  # SSLSocket.recv() takes no flags
            return None

    def close(self) -> None:
        """Close the reader and release the socket."""
        self._raw.close()
        super().close()
