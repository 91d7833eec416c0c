"""The client that waits for an upstream, and its deadline.

A `Call` says both. Every wait ends when its deadline passes or its client disconnects.
"""

import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final, Self, overload

from app.source import Client, Request, TokenRequest
from app.waiting import CLIENT_CHECK

_SHORTEST_TIMEOUT: Final = 0.001
"""The shortest timeout, in seconds: zero would make the socket non-blocking."""

_YIELD_INTERVAL: Final = 0.05
"""Seconds after which a busy reader yields to the event loop."""

_NEVER: Final = float("inf")

SHARED_LIMIT: Final = 30.0
"""Seconds in all for a lookup whose result many callers share, whoever starts it. It may lead to
further requests, each of which has a shorter deadline of its own."""


class ClientDisconnected(ConnectionAbortedError):
    """The client that this response is read for has disconnected."""


@dataclass(frozen=True, slots=True)
class Call:
    """The client that waits for an upstream, and the deadline; handed from a request to its socket.

    `client` is the client that waits, or None if none does. `deadline` is in monotonic seconds.
    `has_fallback` is that of the `Request`: whether the caller can answer without the upstream.
    """

    client: Client | None = None
    deadline: float = _NEVER
    has_fallback: Callable[[], bool] | None = None

    @classmethod
    def for_request(cls, request: Request | TokenRequest) -> Self:
        """Return the call of a request to a source."""
        return cls(request.client, request.deadline, request.has_fallback)

    def limit_time(self, seconds: float) -> Self:
        """Return this call with a deadline `seconds` from now, however slowly an upstream sends.

        A wait for an upstream then raises TimeoutError, as it does after the read timeout without a
        byte. This can only shorten the deadline.
        """
        return replace(self, deadline=min(self.deadline, time.monotonic() + seconds))

    def share(self) -> Self:
        """Return the call of a lookup whose result other callers may wait for, too.

        It has 30 seconds and no client: neither the remaining time of the first caller nor its
        disconnection may affect the others. It keeps the fallback, so callers that wait for the
        same response also share a failure, for two seconds at most.
        """
        return replace(self, client=None, deadline=time.monotonic() + SHARED_LIMIT)

    @overload
    def seconds_left(self, timeout: float) -> float: ...

    @overload
    def seconds_left(self, timeout: float | None) -> float | None: ...

    def seconds_left(self, timeout: float | None) -> float | None:
        """Return `timeout`, in seconds, shortened to the time that is left before the deadline.

        None means no limit. Raise TimeoutError if the deadline has passed.
        """
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            message = "timed out"
            raise TimeoutError(message)
        shortest = remaining if timeout is None else min(timeout, remaining)
        return None if shortest == _NEVER else shortest


NO_LIMIT: Final = Call()
"""The call that no client waits for and that has no deadline."""

_current: ContextVar[Call] = ContextVar("call", default=NO_LIMIT)


@contextmanager
def bind_call(call: Call) -> Iterator[None]:
    """Set the call for which connections are opened and responses begin in this block.

    urllib3 and http.client construct sockets and responses, and pass nothing of a request to them.
    So a context variable carries the call past these libraries, and nowhere else. Each thread and
    each greenlet has its own.
    """
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


def get_call() -> Call:
    """Return the call of the enclosing `bind_call`, or `NO_LIMIT` outside of one."""
    return _current.get()


class DeadlineReader(io.RawIOBase):
    """Reads from an upstream's socket with an idle timeout, and checks the client while it waits.

    `raw` keeps the socket open until `close()`, even if http.client has closed the connection.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._sock = sock
        self._raw = raw
        call = get_call()
        # Without the fallback: an idle connection keeps its last response, and so this reader.
        self._call = Call(call.client, call.deadline)
        self._idle_timeout = sock.gettimeout() or 0
        self._receive = self._receive_tls if isinstance(sock, ssl.SSLSocket) else self._receive_once
        self._waited_at = time.monotonic()
        self.is_paused = False
        """If True, reads return None, so that `BufferedReader.peek()` shows only what it holds."""

    def set_deadline(self, deadline: float) -> None:
        """Set the deadline of all further reads, in monotonic seconds, in place of the call's."""
        self._call = replace(self._call, deadline=deadline)

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
        started_at = self._yield_to_loop()
        try:
            return self._wait_for(buffer)
        finally:
            ended_at = time.monotonic()
            if ended_at - started_at >= _SHORTEST_TIMEOUT:
                self._waited_at = ended_at

    def _yield_to_loop(self) -> float:
        """Yield to the event loop if no read has waited for 50 ms; return the monotonic time.

        With gevent, no other greenlet would run. The sleep is longer than zero, because gevent does
        not check sockets after a sleep of zero seconds.
        """
        now = time.monotonic()
        if now - self._waited_at < _YIELD_INTERVAL:
            return now
        time.sleep(_SHORTEST_TIMEOUT)
        self._waited_at = time.monotonic()
        return self._waited_at

    def _wait_for(self, buffer: memoryview) -> int:
        idle_deadline = time.monotonic() + self._idle_timeout
        while True:
            remaining = idle_deadline - time.monotonic()
            timeout = self._call.seconds_left(max(_SHORTEST_TIMEOUT, min(CLIENT_CHECK, remaining)))
            try:
                count = self._receive(buffer, timeout)
            except TimeoutError:
                if self._call.client is not None and self._call.client.is_gone():
                    raise ClientDisconnected from None
                if time.monotonic() >= idle_deadline:
                    raise
            else:
                if count is not None:
                    return count
                idle_deadline = time.monotonic() + self._idle_timeout

    def _receive_once(self, buffer: memoryview, timeout: float) -> int | None:
        self._sock.settimeout(timeout)
        return self._sock.recv_into(buffer)

    def _receive_tls(self, buffer: memoryview, timeout: float) -> int | None:
        """Return the number of bytes, or None if only part of a TLS record has arrived.

        gevent would wait for the whole record and restart the timeout with each byte.
        """
        self._sock.settimeout(0)
        try:
            return self._sock.recv_into(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._sock.settimeout(timeout)
            socket.socket.recv(self._sock, 1, socket.MSG_PEEK)  # SSLSocket.recv() takes no flags
            return None

    def close(self) -> None:
        """Close the reader and release the socket."""
        self._raw.close()
        super().close()
