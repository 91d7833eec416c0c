"""Reading from an upstream's socket: every wait ends with its client, and with its time."""

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
"""Seconds between two looks at the client while an upstream is silent."""

_LEAST: Final = 0.001
"""Zero would not be a timeout, but no waiting at all."""

_TURN: Final = 0.05
"""Seconds that one answer may keep the thread for itself, however fast it comes."""

_waiting: ContextVar[Client | None] = ContextVar("waiting", default=None)
_NEVER: Final = float("inf")
_deadline: ContextVar[float] = ContextVar("deadline", default=_NEVER)


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


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """End all waiting for upstreams in this block after so many seconds, however they drip.

    What still waits then raises TimeoutError, as it does when nothing comes for the read timeout.
    A block within a block can only be the shorter one.
    """
    token = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def unhurried(seconds: float) -> Iterator[None]:
    """Give this block so many seconds, whatever is left to the block that it is in.

    For what others wait for as well: the time of who happens to ask is not theirs.
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
    """Return a timeout, shortened to what `within` leaves; raise TimeoutError if that is none.

    None is for ever.
    """
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        message = "timed out"
        raise TimeoutError(message)
    shortest = left if timeout is None else min(timeout, left)
    return None if shortest == _NEVER else shortest


class PatientReader(io.RawIOBase):
    """The upstream's socket, read with an idle timeout during which the client is watched.

    `raw` only keeps the socket open until it is closed here: http.client may have closed the
    connection by then.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._sock = sock
        self._raw = raw
        self._client = _waiting.get()
        self._idle = sock.gettimeout() or 0
        self._receive = self._receive_tls if isinstance(sock, ssl.SSLSocket) else self._receive_once
        self._waited_at = time.monotonic()
        self.asleep = False
        """Whether a read gives nothing: so a buffer before this shows what it holds."""

    def readable(self) -> bool:
        """Tell that it is."""
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override] # typeshed: Buffer
        """Wait for bytes; raise TimeoutError or ClientLeft. None while asleep."""
        if self.asleep:
            return None
        began = self._give_way()
        try:
            return self._wait_for(buffer)
        finally:
            ended = time.monotonic()
            if ended - began >= _LEAST:
                self._waited_at = ended

    def _give_way(self) -> float:
        """Let others go on where nothing was waited for lately, and return the time.

        With gevent nobody else would run. After a sleep of no time it looks at no socket either.
        """
        now = time.monotonic()
        if now - self._waited_at < _TURN:
            return now
        time.sleep(_LEAST)
        self._waited_at = time.monotonic()
        return self._waited_at

    def _wait_for(self, buffer: memoryview) -> int:
        silent_until = time.monotonic() + self._idle
        while True:
            left = silent_until - time.monotonic()
            patience = seconds_left(max(_LEAST, min(_CLIENT_CHECK, left)))
            try:
                count = self._receive(buffer, patience)
            except TimeoutError:
                if self._client is not None and self._client.gone():
                    raise ClientLeft from None
                if time.monotonic() >= silent_until:
                    raise
            else:
                if count is not None:
                    return count
                silent_until = time.monotonic() + self._idle

    def _receive_once(self, buffer: memoryview, patience: float) -> int | None:
        self._sock.settimeout(patience)
        return self._sock.recv_into(buffer)

    def _receive_tls(self, buffer: memoryview, patience: float) -> int | None:
        """Return None where there is more of a record, but not all of it.

        gevent would wait for all, with a time for each byte.
        """
        self._sock.settimeout(0)
        try:
            return self._sock.recv_into(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._sock.settimeout(patience)
            socket.socket.recv(self._sock, 1, socket.MSG_PEEK)  # a TLS socket's own takes no flags
            return None

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()
