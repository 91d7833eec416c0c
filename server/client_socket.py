"""The socket through which a worker writes to a client: it drops stalled clients, not slow ones."""

import errno
import fcntl
import os
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from gevent.socket import socket as GeventSocket  # noqa: N812 - gevent's class has this name

from server.connections import Connection

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer  # collections.abc has it from Python 3.12 on

_RESET: Final = struct.pack("ii", 1, 0)


class ClientSocket(GeventSocket):
    """A client's socket whose write timeout counts from the last progress, not from the start.

    gevent's own timeout covers the whole write, and so cuts a client that is merely slow.
    TCP_USER_TIMEOUT does the same if the client's window is small (tried on Linux 6.18).
    """

    connection: Connection | None = None
    """The entry for this connection in the worker's `Connections`."""
    patience: float = 60.0
    """Seconds without progress before a reset if no timeout is set; relayed bodies set one."""

    def sendall(self, data: "Buffer", flags: int = 0) -> None:
        """Send all of `data`.

        Reset the connection and raise ConnectionResetError if the client takes nothing for the
        socket's timeout, or for `patience` seconds if it has none.
        """
        view = memoryview(data)
        sent_at_once = self._send_at_once(view, flags)
        if sent_at_once < len(view):
            self._send_all_with(
                lambda sent: self.send(view[sent_at_once + sent :], flags), len(view) - sent_at_once
            )

    def send_file(
        self, descriptor: int, offset: int, count: int, record_sent: Callable[[int], None]
    ) -> None:
        """Send `count` bytes of a file from `offset` on, as `sendall` does but with sendfile(2).

        Call `record_sent` with the size of each part that the kernel has taken. Raise OSError (EIO)
        if the file is too short. If the bytes are not in memory, the kernel reads them from disk,
        and blocks the whole worker meanwhile.
        """

        def send(sent: int) -> int:
            part = self._send_file_part(descriptor, offset + sent, count - sent)
            record_sent(part)
            return part

        self._send_all_with(send, count)

    def _send_at_once(self, data: memoryview, flags: int) -> int:
        """Send what fits the socket's buffer and return its size in bytes.

        Everything fits, except for large bodies and slow clients.
        """
        try:
            return self.send(data, flags, timeout=0.0)  # type: ignore[call-arg] # not in the stubs
        except BlockingIOError:
            return 0

    def _send_all_with(self, send: Callable[[int], int], count: int) -> None:
        """Call `send` with the number of bytes sent so far, until it has sent `count` bytes.

        `send` returns how many bytes it sent. The kernel reports a socket as writable only when a
        good part of its buffer is free, which takes long with a slow client. So progress is
        measured by the amount of unacknowledged data in the buffer.
        """
        own_timeout = self.gettimeout()
        patience = own_timeout or self.patience
        self.settimeout(patience / 4)
        sent = 0
        least_unacknowledged, deadline = float("inf"), float("inf")
        try:
            while sent < count:
                try:
                    sent += send(sent)
                    least_unacknowledged = float("inf")
                except TimeoutError:
                    unacknowledged = self._count_unacknowledged()
                    if unacknowledged < least_unacknowledged:
                        least_unacknowledged, deadline = unacknowledged, time.monotonic() + patience
                    elif time.monotonic() >= deadline:
                        self._reset_stalled()
        finally:
            self.settimeout(own_timeout)

    def _send_file_part(self, descriptor: int, offset: int, count: int) -> int:
        try:
            sent = os.sendfile(self.fileno(), descriptor, offset, count)
        except BlockingIOError:
            # gevent's own `send` waits this way; `wait_write` would create a watcher each time.
            self._wait(self._write_event)  # type: ignore[attr-defined] # not in the stubs
            return 0
        if not sent:
            raise OSError(errno.EIO, "the file is shorter than what is sent of it")
        return sent

    def _count_unacknowledged(self) -> int:
        """Return how many bytes the client has not acknowledged yet (tcp(7), SIOCOUTQ)."""
        answer = fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        return int.from_bytes(answer, sys.byteorder)

    def _reset_stalled(self) -> NoReturn:
        # Without a reset, the kernel would keep trying to send its buffer for minutes.
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        raise ConnectionResetError(errno.ECONNRESET, "the client takes nothing")
