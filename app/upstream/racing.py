"""The first address to let us in: RFC 8305, "Happy Eyeballs", section 5."""

import os
import selectors
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from app.upstream.reading import seconds_left

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
SocketOption = tuple[int, int, int | bytes]

_HEAD_START: Final = 0.25
"""Seconds until the next address is tried beside one that does not answer."""

_FOREVER: Final = float("inf")


def first_to_connect(
    addresses: Sequence[AddressInfo],
    *,
    timeout: float | None,
    source_address: tuple[str, int] | None = None,
    socket_options: Sequence[SocketOption] | None = None,
) -> socket.socket:
    """Connect to all addresses, one after the other but not waiting for long; the first wins.

    `timeout` is for each of them. Raise the last error, TimeoutError or another OSError.
    """
    with _Race(timeout) as race:
        for number, address in enumerate(addresses, start=1):
            race.enter(address, source_address, socket_options)
            patience = _HEAD_START if number < len(addresses) else _FOREVER
            if winner := race.wait(patience):
                return winner
        while race.is_on:
            if winner := race.wait(_FOREVER):
                return winner
        raise race.error


class _Race:
    """Sockets that are connecting; those that are left are closed at the end."""

    def __init__(self, timeout: float | None) -> None:
        self.error = OSError("getaddrinfo returns an empty list")
        self._timeout = timeout
        self._selector = selectors.DefaultSelector()
        self._deadlines: dict[socket.socket, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._selector.close()
        for sock in self._deadlines:
            sock.close()

    @property
    def is_on(self) -> bool:
        """Whether there is anybody left to wait for."""
        return bool(self._deadlines)

    def enter(
        self,
        address: AddressInfo,
        source_address: tuple[str, int] | None,
        socket_options: Sequence[SocketOption] | None,
    ) -> None:
        """Begin to connect."""
        timeout = seconds_left(self._timeout)
        family, kind, protocol, _, peer = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as failed:  # no IPv6 here
            self.error = failed
            return
        try:
            for option in socket_options or ():
                sock.setsockopt(*option)
            if source_address:
                sock.bind(source_address)
            sock.settimeout(0)
            sock.connect(peer)
        except BlockingIOError:
            pass  # under way
        except OSError as failed:
            self.error = failed
            sock.close()
            return
        self._deadlines[sock] = _FOREVER if timeout is None else _now() + timeout
        self._selector.register(sock, selectors.EVENT_WRITE)

    def wait(self, seconds: float) -> socket.socket | None:
        """Return who is connected; None when that time is over, or someone has given up."""
        until = _now() + seconds
        entered = len(self._deadlines)
        while len(self._deadlines) == entered and entered:
            left = min(until, *self._deadlines.values()) - _now()
            ready = self._selector.select(None if left == _FOREVER else max(0.0, left))
            for key, _ in ready:
                sock = key.fileobj
                assert isinstance(sock, socket.socket)  # noqa: S101 - for mypy
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    return self._taken(sock)
                self._drop(sock, OSError(code, os.strerror(code)))
            self._expire()
            if _now() >= until:
                break
        return None

    def _taken(self, sock: socket.socket) -> socket.socket:
        self._selector.unregister(sock)
        del self._deadlines[sock]
        sock.settimeout(self._timeout)
        return sock

    def _drop(self, sock: socket.socket, error: OSError) -> None:
        self.error = error
        self._selector.unregister(sock)
        del self._deadlines[sock]
        sock.close()

    def _expire(self) -> None:
        now = _now()
        for sock in [sock for sock, deadline in self._deadlines.items() if deadline <= now]:
            self._drop(sock, TimeoutError("timed out"))


def _now() -> float:
    return time.monotonic()
