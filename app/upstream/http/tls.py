"""TLS with upstreams: trusted authorities, handshakes with a deadline, and cut connections."""

import socket
import ssl
import time
from functools import cache
from typing import Final

import certifi
from urllib3.util.wait import wait_for_write

from app.upstream.http.deadlines import get_call

CUT: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""The errors of a connection that the other side cut. RemoteDisconnected is a subclass of
ConnectionResetError."""


def normalize_eof(error: BaseException) -> BaseException:
    """Return SSLEOFError for an unexpected end of a TLS stream, and any other error as it is.

    Python 3.11.2 raises the parent class of SSLEOFError instead.
    """
    if getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING":
        return ssl.SSLEOFError(*error.args)
    return error


class TLSSocket(ssl.SSLSocket):
    """A TLS socket whose timeout limits the whole handshake, however slowly bytes arrive.

    With gevent, the timeout would start again with each byte.
    """

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002 - as inherited
        """Perform the handshake.

        Raise TimeoutError after the socket's timeout or at the deadline of the call, and SSLError
        or another OSError if the handshake fails.
        """
        timeout = self.gettimeout()
        if not timeout:
            super().do_handshake()
            return
        deadline = time.monotonic() + get_call().seconds_left(timeout)
        try:
            while not self._advance_handshake(deadline):
                pass
        finally:
            self.settimeout(timeout)

    def _advance_handshake(self, deadline: float) -> bool:
        """Continue the handshake with the bytes that have arrived; return True if it is complete.

        Otherwise wait for more bytes, or until some can be sent, and return False.
        """
        self.settimeout(0)
        try:
            super().do_handshake()
        except ssl.SSLWantReadError:
            self.settimeout(_compute_seconds_left(deadline))
            socket.socket.recv(self, 1, socket.MSG_PEEK)  # SSLSocket.recv() takes no flags
        except ssl.SSLWantWriteError:
            wait_for_write(self, _compute_seconds_left(deadline))
        else:
            return True
        return False


def _compute_seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        message = "the TLS handshake timed out"
        raise TimeoutError(message)
    return left


@cache
def build_trusted_context(*ca_bundles: str) -> ssl.SSLContext:
    """Return a context that trusts the authorities of the system, of certifi and of `ca_bundles`.

    The bundles are PEM texts. Loading takes 10 ms and 750 KiB, so registries with the same bundles
    share one context.
    """
    context = ssl.create_default_context()
    context.sslsocket_class = TLSSocket
    # Python before about 3.11.4 sets this option, which makes a cut connection look closed.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.load_verify_locations(certifi.where())
    for ca_bundle in ca_bundles:
        context.load_verify_locations(cadata=ca_bundle)
    return context
