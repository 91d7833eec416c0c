"""The connections to upstreams, and the pools that urllib3 keeps them in.

urllib3 takes these classes where it would make its own (`ConnectionCls`, `response_class`).
"""

import http.client
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socket import MSG_PEEK, gaierror, socket
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.wait import wait_for_read

from app.addresses import Address, is_public
from app.upstream.answers import UpstreamResponse
from app.upstream.connecting import connect, resolve


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


@contextmanager
def _failing_as_urllib3(connection: HTTPConnection) -> Iterator[None]:
    """Raise for a failure to connect what urllib3's own `_new_conn` raises."""
    try:
        yield
    except gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except TimeoutError as error:
        message = f"{connection.host} timed out (connect timeout={connection.timeout})"
        raise ConnectTimeoutError(connection, message) from error
    except OSError as error:
        message = f"Failed to establish a new connection: {error}"
        raise NewConnectionError(connection, message) from error


class _Connection(_Kept, HTTPConnection):
    """Plain HTTP."""

    def _accepts(self, address: Address) -> bool:
        """Tell whether an address may be connected to."""
        del address
        return True

    def _new_conn(self) -> socket:
        with _failing_as_urllib3(self):
            sock = connect(
                (self._dns_host, self.port),
                self._accepts,
                timeout=self.timeout,
                source_address=self.source_address,
                socket_options=self.socket_options,
            )
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock


class _TLSConnection(_Connection, HTTPSConnection):
    """HTTP over TLS."""


class _GuardedConnection(_Connection):
    """Plain HTTP, to public addresses only."""

    def _accepts(self, address: Address) -> bool:
        return is_public(address)


class _GuardedTLSConnection(_GuardedConnection, HTTPSConnection):
    """HTTP over TLS, to public addresses only."""


class _SOCKSConnection(_Kept, SOCKSConnection):
    """Plain HTTP through a SOCKS proxy."""


class _SOCKSTLSConnection(_Kept, SOCKSHTTPSConnection):
    """HTTP over TLS through a SOCKS proxy."""


class _GuardedSOCKSConnection(_SOCKSConnection):
    """Plain HTTP through a SOCKS proxy, to public addresses only where names are resolved here.

    With `socks5://` they are; with `socks5h://` the proxy resolves them.
    """

    def _new_conn(self) -> Any:  # noqa: ANN401 - a socket, says PySocks without types
        if self._socks_options["rdns"]:
            return super()._new_conn()
        name = self._dns_host
        with _failing_as_urllib3(self):
            checked = resolve(name, self.port, is_public)
        # PySocks would resolve the name once more; like it, we offer the proxy the first address.
        self._dns_host = str(checked[0][4][0])
        try:
            return super()._new_conn()
        finally:
            self._dns_host = name


class _GuardedSOCKSTLSConnection(_GuardedSOCKSConnection, SOCKSHTTPSConnection):
    """HTTP over TLS through a SOCKS proxy, likewise."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _GuardedPool(HTTPConnectionPool):
    ConnectionCls = _GuardedConnection


class _GuardedTLSPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedTLSConnection


class _SOCKSPool(HTTPConnectionPool):
    ConnectionCls = _SOCKSConnection


class _SOCKSTLSPool(HTTPSConnectionPool):
    ConnectionCls = _SOCKSTLSConnection


class _GuardedSOCKSPool(HTTPConnectionPool):
    ConnectionCls = _GuardedSOCKSConnection


class _GuardedSOCKSTLSPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedSOCKSTLSConnection


Classes = dict[str, type]


@dataclass(frozen=True, slots=True)
class Pools:
    """The classes of pools by scheme: for direct connections, and through a proxy.

    An HTTP proxy is the peer of its connections, and may be anywhere: the operator named it.
    """

    direct: Classes
    socks: Classes
    http_proxy: Classes


_OPEN: Final[Classes] = {"http": _Pool, "https": _TLSPool}

OPEN: Final = Pools(
    direct=_OPEN, socks={"http": _SOCKSPool, "https": _SOCKSTLSPool}, http_proxy=_OPEN
)
GUARDED: Final = Pools(
    direct={"http": _GuardedPool, "https": _GuardedTLSPool},
    socks={"http": _GuardedSOCKSPool, "https": _GuardedSOCKSTLSPool},
    http_proxy=_OPEN,
)
