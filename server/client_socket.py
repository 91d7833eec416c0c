"""What goes out to a client, as worker.py sends it: slow clients are served, stalled ones left."""

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
    """A client's connection whose timeout counts from the last progress of a write.

    gevent's own counts the whole write, and so cuts a client that is merely slow; TCP_USER_TIMEOUT
    does too, where the client's window is small (tried on Linux 6.18).
    """

    connection: Connection | None = None
    """What worker.py knows of it."""
    patience: float = 60.0
    """Seconds that a client may take nothing if no timeout is set: all but what is relayed."""

    def sendall(self, data: "Buffer", flags: int = 0) -> None:
        """Send all; reset the connection if the client takes nothing for as long as the timeout."""
        view = memoryview(data)
        begun = self._send_at_once(view, flags)
        if begun < len(view):
            self._send_by(lambda sent: self.send(view[begun + sent :], flags), len(view) - begun)

    def send_file(self, descriptor: int, offset: int, count: int) -> None:
        """Send so many bytes of a file, as `sendall` does, without a copy of them here.

        The kernel waits for the disk where they are not in memory, and everybody with it.
        """

        def send(sent: int) -> int:
            return self._send_part(descriptor, offset + sent, count - sent)

        self._send_by(send, count)

    def _send_at_once(self, data: memoryview, flags: int) -> int:
        """Send what there is room for: all, but for large bodies and slow clients."""
        try:
            return self.send(data, flags, timeout=0.0)  # type: ignore[call-arg] # not in the stubs
        except BlockingIOError:
            return 0

    def _send_by(self, send: Callable[[int], int], count: int) -> None:
        """Send `count` bytes by what is told how many have been sent, and tells how many more.

        A socket counts as writable again only when a good part of its buffer is free, which takes
        a slow client long: what tells progress is how much of the buffer is left.
        """
        usual = self.gettimeout()
        patience = usual or self.patience
        self.settimeout(patience / 4)
        sent = 0
        queued, given_up = float("inf"), float("inf")
        try:
            while sent < count:
                try:
                    sent += send(sent)
                    queued = float("inf")
                except TimeoutError:
                    left = self._queued()
                    if left < queued:
                        queued, given_up = left, time.monotonic() + patience
                    elif time.monotonic() >= given_up:
                        self._give_up()
        finally:
            self.settimeout(usual)

    def _send_part(self, descriptor: int, offset: int, count: int) -> int:
        try:
            sent = os.sendfile(self.fileno(), descriptor, offset, count)
        except BlockingIOError:
            # As gevent's own `send` does; `wait_write` would make a watcher each time.
            self._wait(self._write_event)  # type: ignore[attr-defined] # not in the stubs
            return 0
        if not sent:
            raise OSError(errno.EIO, "the file is shorter than what is sent of it")
        return sent

    def _queued(self) -> int:
        """Return the bytes that the client has not acknowledged (tcp(7), SIOCOUTQ)."""
        answer = fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        return int.from_bytes(answer, sys.byteorder)

    def _give_up(self) -> NoReturn:
        # What is still buffered would keep the kernel busy for minutes.
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        raise ConnectionResetError(errno.ECONNRESET, "the client takes nothing")
