"""The client's connection, as gunicorn passes it along with the request."""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_RESET_LINGER: Final = struct.pack("ii", 1, 0)
_DEFAULT_LINGER: Final = struct.pack("ii", 0, 0)
_ESTABLISHED: Final = 1
"""The TCP state ESTABLISHED: the first byte of Linux's `struct tcp_info`."""


FileSender = Callable[[int, int, int, Callable[[int], None]], None]
"""Sends part of a file, given descriptor, offset and count in bytes. It calls the last argument
with the size of each part that the kernel has taken, also if the client then leaves."""


class ClientConnection:
    """Watches and tunes a client's socket; does nothing if the server provides none."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._sock: socket.socket | None = environ.get("gunicorn.socket")
        self._usual_timeout: float | None = None
        self._http_1_0 = environ.get("SERVER_PROTOCOL") == "HTTP/1.0"

    def is_gone(self) -> bool:
        """Return, without waiting, whether the client has closed its connection."""
        if self._sock is None:
            return False
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            return self._sock.recv(1, socket.MSG_PEEK) == b"" and not _is_established(self._sock)
        except (BlockingIOError, ValueError):
            # There is nothing to read, as from any client that waits; and TLS sockets cannot peek.
            return False
        except OSError:
            return True
        finally:
            self._sock.settimeout(timeout)

    @property
    def send_file(self) -> FileSender | None:
        """A function that sends part of a file; None unless the socket is our own worker's."""
        return getattr(self._sock, "send_file", None)

    def cork(self) -> None:
        """Hold back the head of a response until `uncork`, so that one packet has head and body."""
        self._set_cork(1)

    def uncork(self) -> None:
        """Send what `cork` has held back."""
        self._set_cork(0)

    def _set_cork(self, value: int) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):  # the client has gone, or this is not TCP
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, value)

    def set_stall_timeout(self, seconds: float) -> None:
        """Make a write fail if the client accepts nothing for this many seconds.

        ClientSocket, our server's, counts them from the last progress. For a plain socket, they are
        the time that a whole piece of 256 KiB may take.
        """
        if self._sock is not None:
            self._usual_timeout = self._sock.gettimeout()
            self._sock.settimeout(seconds)

    def restore_timeout(self) -> None:
        """Undo `set_stall_timeout`, for the next request on the connection."""
        if self._sock is not None:
            self._sock.settimeout(self._usual_timeout)

    @contextlib.contextmanager
    def limit_read_time(self, seconds: float) -> Iterator[threading.Event]:
        """End all reading in this block after this many seconds in total.

        The event is set if that happens. A socket's own timeout starts again with each byte, so it
        does not stop a client that sends one byte at a time.
        """
        timed_out = threading.Event()
        timer = threading.Timer(seconds, self._shut_down_reading, [timed_out])
        timer.daemon = True
        timer.start()
        try:
            yield timed_out
        finally:
            timer.cancel()

    def _shut_down_reading(self, timed_out: threading.Event) -> None:
        """Make the reader see an end of file; gevent's and TLS's own shutdown would do more."""
        timed_out.set()
        if self._sock is not None:
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(self._sock.fileno())) as duplicate,
            ):
                duplicate.shutdown(socket.SHUT_RD)

    def reset_unless_completed(self, *, length_known: bool) -> None:
        """Make an unfinished body end in a reset if nothing else would show that it is unfinished.

        HTTP/1.0 has no chunks: a body without a length ends when the connection does.
        """
        if self._http_1_0 and not length_known:
            self._set_linger(_RESET_LINGER)

    def cancel_reset(self) -> None:
        """Undo `reset_unless_completed`, since the body is complete."""
        if self._http_1_0:
            self._set_linger(_DEFAULT_LINGER)

    def _set_linger(self, value: bytes) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):  # the client has gone
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)


def _is_established(sock: socket.socket) -> bool:
    """Return whether TCP has seen no end from the client (tcp(7), TCP_INFO).

    If the server itself has shut down reading, as on connections that it wants to free after the
    current request, a socket reads as if the client had left.
    """
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
    except OSError:  # this is not TCP
        return False
