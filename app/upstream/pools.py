"""The connections to upstreams, and the pools that urllib3 keeps them in.

urllib3 takes these classes where it would make its own (`ConnectionCls`, `response_class`).
"""

import http.client
from socket import MSG_PEEK, socket
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection
from urllib3.util.wait import wait_for_read

from app.upstream.answers import UpstreamResponse


class _Kept:
    """A connection of urllib3's that is used again only while nothing has come on it unasked."""

    sock: Any
    response_class: type[http.client.HTTPResponse] = UpstreamResponse

    @property
    def is_connected(self) -> bool:
        """Tell whether it can be used again: neither its end nor bytes that nobody asked for.

        urllib3's own asks the event loop, which costs a request a good part of its time, and does
        not see what TLS has read already.
        """
        return self.sock is not None and not _has_come(self.sock)


def _has_come(sock: Any) -> bool:  # noqa: ANN401 - a socket, or what urllib3 makes of one
    if getattr(sock, "pending", int)():
        return True
    if not isinstance(sock, socket):
        return bool(wait_for_read(sock, timeout=0))  # urllib3's TLS in TLS
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        socket.recv(sock, 1, MSG_PEEK)  # a TLS socket's own recv takes no flags
    except BlockingIOError:
        return False
    except OSError:
        return True
    else:
        return True
    finally:
        sock.settimeout(timeout)


class _Connection(_Kept, HTTPConnection):
    """Plain HTTP."""


class _TLSConnection(_Kept, HTTPSConnection):
    """HTTP over TLS."""


class _SOCKSConnection(_Kept, SOCKSConnection):
    """Plain HTTP through a SOCKS proxy."""


class _SOCKSTLSConnection(_Kept, SOCKSHTTPSConnection):
    """HTTP over TLS through a SOCKS proxy."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _SOCKSPool(HTTPConnectionPool):
    ConnectionCls = _SOCKSConnection


class _SOCKSTLSPool(HTTPSConnectionPool):
    ConnectionCls = _SOCKSTLSConnection


POOLS: Final = {"http": _Pool, "https": _TLSPool}
SOCKS_POOLS: Final = {"http": _SOCKSPool, "https": _SOCKSTLSPool}
