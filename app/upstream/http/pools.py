"""The connections to upstreams, their TLS, and the pools that urllib3 keeps them in.

urllib3 and ssl use these classes instead of their own (`ConnectionCls`, `response_class`,
`sslsocket_class`).
"""

import http.client
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Final, Self

import certifi
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.wait import wait_for_read, wait_for_write

from app.upstream.http.connect import Connector
from app.upstream.http.deadlines import get_call
from app.upstream.http.response import UpstreamResponse

# TLS: trusted authorities, handshakes with a deadline, and cut connections.

CUT_ERRORS: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
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
    seconds_left = deadline - time.monotonic()
    if seconds_left <= 0:
        message = "the TLS handshake timed out"
        raise TimeoutError(message)
    return seconds_left


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


# Connections and pools.

_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


class _ReusableConnection:
    """Mixin for urllib3's connections: they are reused only if no unexpected bytes have arrived."""

    sock: Any
    response_class: type[http.client.HTTPResponse] = UpstreamResponse
    _last_response: Any = None
    """The last response on this connection, or None."""

    def close(self) -> None:
        """Close the socket; the next request on this object opens a new connection."""
        self._last_response = None
        super().close()  # type: ignore[misc] # a mixin

    @property
    def was_used(self) -> bool:
        """Whether a response has been received on this connection."""
        return self._last_response is not None

    def getresponse(self) -> Any:  # noqa: ANN401 - urllib3's own, which extends another
        """Return the response, and keep it: it knows whether bytes arrived beyond its end."""
        response = super().getresponse()  # type: ignore[misc] # a mixin
        self._last_response = response._original_response  # noqa: SLF001 - what urllib3 wraps
        return response

    @property
    def is_connected(self) -> bool:
        """Whether the connection can be reused: it is open, and no unexpected bytes have arrived.

        urllib3's own property asks the event loop, which takes a good part of a request's time, and
        does not see bytes that TLS has read already.
        """
        if self.sock is None or (
            self._last_response is not None and self._last_response.has_excess_bytes
        ):
            return False
        return not _has_pending_bytes(self.sock)


def _has_pending_bytes(sock: Any) -> bool:  # noqa: ANN401 - a socket, or what urllib3 makes of one
    if getattr(sock, "pending", int)():
        return True
    if not isinstance(sock, socket.socket):
        return bool(wait_for_read(sock, timeout=0))  # urllib3's TLS in TLS
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        socket.socket.recv(sock, 1, socket.MSG_PEEK)  # SSLSocket.recv() takes no flags
    except BlockingIOError:
        return False
    except OSError:
        return True
    else:
        return True
    finally:
        sock.settimeout(timeout)


@contextmanager
def _translate_connect_errors(connection: HTTPConnection) -> Iterator[None]:
    """Translate a failure to connect into what urllib3's own `_new_conn` raises."""
    try:
        yield
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except TimeoutError as error:
        message = f"{connection.host} timed out (connect timeout={connection.timeout})"
        raise ConnectTimeoutError(connection, message) from error
    except OSError as error:
        message = f"Failed to establish a new connection: {error}"
        raise NewConnectionError(connection, message) from error


class _Connection(_ReusableConnection, HTTPConnection):
    """Plain HTTP, connected to checked addresses."""

    def __init__(self, *args: Any, connector: Connector, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        super().__init__(*args, **kwargs)
        self._connector = connector

    def _new_conn(self) -> socket.socket:
        with _translate_connect_errors(self):
            sock = self._connector.connect(
                (self._dns_host, self.port),
                timeout=self.timeout,
                source_address=self.source_address,
                socket_options=self.socket_options,
                call=get_call(),
            )
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock


class _TLSConnection(_Connection, HTTPSConnection):
    """HTTP over TLS.

    A handshake that is cut counts as a failure to connect, since no request was sent.
    """

    def connect(self) -> None:
        try:
            super().connect()
        except OSError as error:
            if not isinstance(normalize_eof(error), CUT_ERRORS):
                raise
            message = f"the TLS handshake was cut: {error}"
            raise NewConnectionError(self, message) from None


class _SOCKSConnection(_ReusableConnection, SOCKSConnection):
    """Plain HTTP through a SOCKS proxy.

    With `socks5://` we resolve names; with `socks5h://` the proxy resolves them.
    """

    def __init__(self, *args: Any, connector: Connector, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        super().__init__(*args, **kwargs)
        self._connector = connector

    def _new_conn(self) -> Any:  # noqa: ANN401 - a socket, says PySocks without types
        if self._socks_options["rdns"]:
            return super()._new_conn()
        name = self._dns_host
        with _translate_connect_errors(self):
            addresses = self._connector.resolve(
                name, self.port, get_call().seconds_left(self.timeout)
            )
        # PySocks would resolve the name again. Like PySocks, we use only the first address.
        self._dns_host = str(addresses[0][4][0])
        try:
            return super()._new_conn()
        finally:
            self._dns_host = name


class _SOCKSTLSConnection(_SOCKSConnection, SOCKSHTTPSConnection):
    """HTTP over TLS through a SOCKS proxy."""


class _ReusedConnectionClosed(Exception):
    pass


class _Pool(HTTPConnectionPool):
    def __init__(self, connection: Callable[..., Any], *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        super().__init__(*args, **kwargs)
        self.ConnectionCls = connection  # type: ignore[assignment] # urllib3 only calls it

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as inherited
        """Send the request on another connection if a reused one is closed before the response.

        An upstream may close an idle connection just as we send on it. A GET or HEAD may be
        repeated (RFC 9110, section 9.2.2), and this does not count as one of the attempts in
        `retries`.
        """
        while True:
            try:
                return super().urlopen(*args, **kwargs)
            except _ReusedConnectionClosed:
                continue

    def _make_request(self, conn: Any, method: str, url: str, **kwargs: Any) -> Any:  # type: ignore[override] # noqa: ANN401 - as inherited
        is_reused = conn.sock is not None and conn.was_used
        try:
            return super()._make_request(conn, method, url, **kwargs)
        except OSError as error:
            if (
                is_reused
                and method in _SAFE_METHODS
                and isinstance(normalize_eof(error), CUT_ERRORS)
            ):
                raise _ReusedConnectionClosed from error
            raise


class _TLSPool(_Pool, HTTPSConnectionPool):
    pass


PoolFactories = dict[str, Any]
"""The factory of pools for each scheme."""


@dataclass(frozen=True, slots=True)
class Pools:
    """The pool classes by scheme: for direct connections, SOCKS proxies and HTTP proxies."""

    direct: PoolFactories
    socks: PoolFactories
    http_proxy: PoolFactories

    @classmethod
    def for_connector(cls, connector: Connector) -> Self:
        """Return pool classes whose connections `connector` opens.

        With an HTTP proxy we connect to the proxy itself, which may have a private address because
        the operator configured it.
        """
        plain, tls = _Connection, _TLSConnection
        return cls(
            direct=_build_factories(plain, tls, connector),
            socks=_build_factories(_SOCKSConnection, _SOCKSTLSConnection, connector),
            http_proxy=_build_factories(plain, tls, replace(connector, allow_private=True)),
        )


def _build_factories(
    plain: Callable[..., Any], tls: Callable[..., Any], connector: Connector
) -> PoolFactories:
    return {
        "http": partial(_Pool, partial(plain, connector=connector)),
        "https": partial(_TLSPool, partial(tls, connector=connector)),
    }
