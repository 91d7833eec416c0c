"""TLS with upstreams: who is trusted, and a handshake that ends."""

import socket
import ssl
import time
from functools import cache
from typing import Final

import certifi
from urllib3.util.wait import wait_for_write

from app.upstream.http.deadlines import seconds_left

# How a connection ends that the other side gave up.

CUT: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""RemoteDisconnected is one of them."""


def plainly(error: BaseException) -> BaseException:
    """Return the error that says what happened: Python 3.11.2 raises the parent of SSLEOFError."""
    if getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING":
        return ssl.SSLEOFError(*error.args)
    return error


class TLSSocket(ssl.SSLSocket):
    """A socket whose handshake takes no longer than its timeout, however it drips.

    With gevent the timeout would be for each byte of it.
    """

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002 - as inherited
        """Shake hands; raise TimeoutError."""
        timeout = self.gettimeout()
        if not timeout:
            super().do_handshake()
            return
        deadline = time.monotonic() + seconds_left(timeout)
        try:
            while not self._has_shaken_hands(deadline):
                pass
        finally:
            self.settimeout(timeout)

    def _has_shaken_hands(self, deadline: float) -> bool:
        """Go on with what has come, or else wait for more."""
        self.settimeout(0)
        try:
            super().do_handshake()
        except ssl.SSLWantReadError:
            self.settimeout(_left(deadline))
            socket.socket.recv(self, 1, socket.MSG_PEEK)  # a TLS socket's own takes no flags
        except ssl.SSLWantWriteError:
            wait_for_write(self, _left(deadline))
        else:
            return True
        return False


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        message = "the TLS handshake timed out"
        raise TimeoutError(message)
    return left


@cache
def trusted_context(*ca_bundles: str) -> ssl.SSLContext:
    """Trust the system's authorities, certifi's, and those of the bundles, which are PEM texts.

    They take 10 ms and 750 KiB: registries that trust the same share what was loaded.
    """
    context = ssl.create_default_context()
    context.sslsocket_class = TLSSocket
    # Set by Python before 3.11.4 or so; with it, a connection that is cut passes for a closed one.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.load_verify_locations(certifi.where())
    for ca_bundle in ca_bundles:
        context.load_verify_locations(cadata=ca_bundle)
    return context
