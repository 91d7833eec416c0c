"""The client's connection, as gunicorn hands it over beside the request."""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_RESET: Final = struct.pack("ii", 1, 0)
_NO_RESET: Final = struct.pack("ii", 0, 0)
_ESTABLISHED: Final = 1
"""The first byte of Linux's `struct tcp_info` while either side may send."""


class ClientConnection:
    """Watches a client's socket; does nothing where the server hands over none."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._sock: socket.socket | None = environ.get("gunicorn.socket")
        self._usual_timeout: float | None = None
        self._http_1_0 = environ.get("SERVER_PROTOCOL") == "HTTP/1.0"

    def gone(self) -> bool:
        """Tell, without waiting, whether the client has closed its connection."""
        if self._sock is None:
            return False
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            return self._sock.recv(1, socket.MSG_PEEK) == b"" and not _is_established(self._sock)
        except (BlockingIOError, ValueError):
            # Nothing was sent, which is what a waiting client sends; and TLS sockets cannot peek.
            return False
        except OSError:
            return True
        finally:
            self._sock.settimeout(timeout)

    @property
    def send_file(self) -> Callable[[int, int, int], None] | None:
        """What sends a part of a file by descriptor, offset and count; only our worker's can."""
        return getattr(self._sock, "send_file", None)

    def gather(self) -> None:
        """Let the head of an answer wait for its body, until `let_go`: one packet for both."""
        self._cork(1)

    def let_go(self) -> None:
        """Send what has gathered."""
        self._cork(0)

    def _cork(self, value: int) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):  # the client has gone, or it is no TCP
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, value)

    def limit_stalls(self, seconds: float) -> None:
        """Let a write fail when the client takes nothing for so long.

        What counts as nothing is the server's: ClientSocket counts from the last progress; where
        the socket is a plain one, a timeout counts the whole of a piece of 256 KiB.
        """
        if self._sock is not None:
            self._usual_timeout = self._sock.gettimeout()
            self._sock.settimeout(seconds)

    def forget_stalls(self) -> None:
        """Take back limit_stalls, for the next request on the connection."""
        if self._sock is not None:
            self._sock.settimeout(self._usual_timeout)

    @contextlib.contextmanager
    def read_within(self, seconds: float) -> Iterator[threading.Event]:
        """End what this block reads after so many seconds in all; the event tells that it was so.

        A socket's own timeout begins anew with each byte, and so is none to a client that drips.
        """
        late = threading.Event()
        timer = threading.Timer(seconds, self._stop_reading, [late])
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def _stop_reading(self, late: threading.Event) -> None:
        """Let the reader find an end; gevent's own shutdown, and TLS's, would do more than that."""
        late.set()
        if self._sock is not None:
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(self._sock.fileno())) as twin,
            ):
                twin.shutdown(socket.SHUT_RD)

    def end_only_by_reset(self, *, length_known: bool) -> None:
        """Make an unfinished body end in a reset where nothing else shows that it is unfinished.

        HTTP/1.0 has no chunks: without a length, its bodies end where the connection does.
        """
        if self._http_1_0 and not length_known:
            self._linger(_RESET)

    def end_normally(self) -> None:
        """Take back end_only_by_reset: the body is complete."""
        if self._http_1_0:
            self._linger(_NO_RESET)

    def _linger(self, value: bytes) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):  # the client has gone
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)


def _is_established(sock: socket.socket) -> bool:
    """Tell whether TCP knows of no end from the client (tcp(7), TCP_INFO).

    Where the server itself has ended the reading of a request that had arrived, as of connections
    that make room, a socket reads as if the client had left.
    """
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
    except OSError:  # it is no TCP
        return False
