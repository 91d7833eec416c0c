"""Connects to addresses that have been checked, and to no others.

A name is resolved once, and the resulting addresses are both checked and connected to. A second
lookup might return others: the owner of the name controls its DNS server.
"""

import ipaddress
import os
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from types import TracebackType
from typing import Final, Self

from urllib3.exceptions import LocationParseError
from urllib3.util.connection import allowed_gai_family

from app.addresses import IPAddress, is_public
from app.threads import AddressInfo, Resolver
from app.upstream.http.deadlines import NO_LIMIT, Call

# Connecting to several addresses (RFC 8305, "Happy Eyeballs", section 5).

SocketOption = tuple[int, int, int | bytes]

_HEAD_START: Final = 0.25
"""Seconds without a connection until the next address is tried in parallel."""

_FOREVER: Final = float("inf")


def connect_first(
    addresses: Sequence[AddressInfo],
    *,
    timeout: float | None,
    source_address: tuple[str, int] | None = None,
    socket_options: Sequence[SocketOption] | None = None,
    call: Call = NO_LIMIT,
) -> socket.socket:
    """Return the first socket that connects to one of the addresses.

    Start with the next address after 250 ms, or as soon as one fails; attempts go on in parallel.
    `timeout` is in seconds and for each address; None means no limit.
    Raise the last error, TimeoutError or another OSError, if all addresses fail.
    """
    with _ConnectionRace(timeout, call) as race:
        for number, address in enumerate(addresses, start=1):
            race.start_attempt(address, source_address, socket_options)
            patience = _HEAD_START if number < len(addresses) else _FOREVER
            if winner := race.wait(patience):
                return winner
        while race.is_running:
            if winner := race.wait(_FOREVER):
                return winner
        raise race.error


class _ConnectionRace:
    """The sockets that are connecting; leaving the block closes all except the winner."""

    def __init__(self, timeout: float | None, call: Call) -> None:
        self.error = OSError("getaddrinfo returns an empty list")
        self._timeout = timeout
        self._call = call
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
    def is_running(self) -> bool:
        """Whether a socket is still connecting."""
        return bool(self._deadlines)

    def start_attempt(
        self,
        address: AddressInfo,
        source_address: tuple[str, int] | None,
        socket_options: Sequence[SocketOption] | None,
    ) -> None:
        """Begin to connect to an address; store the error in `error` if that fails at once."""
        timeout = self._call.seconds_left(self._timeout)
        family, kind, protocol, _, peer = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # no IPv6 here
            self.error = error
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
        except OSError as error:
            self.error = error
            sock.close()
            return
        self._deadlines[sock] = _FOREVER if timeout is None else _now() + timeout
        self._selector.register(sock, selectors.EVENT_WRITE)

    def wait(self, seconds: float) -> socket.socket | None:
        """Return the first socket that connects.

        Return None after `seconds`, or as soon as a socket fails or times out.
        """
        deadline = _now() + seconds
        initial_count = len(self._deadlines)
        while len(self._deadlines) == initial_count and initial_count:
            seconds_left = min(deadline, *self._deadlines.values()) - _now()
            ready = self._selector.select(
                None if seconds_left == _FOREVER else max(0.0, seconds_left)
            )
            for key, _ in ready:
                sock = key.fileobj
                assert isinstance(sock, socket.socket)  # noqa: S101 - for mypy
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    return self._take_winner(sock)
                self._drop(sock, OSError(code, os.strerror(code)))
            self._expire()
            if _now() >= deadline:
                break
        return None

    def _take_winner(self, sock: socket.socket) -> socket.socket:
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


class AddressForbidden(OSError):
    """The host resolves only to addresses that must not be connected to."""


@dataclass(frozen=True, slots=True)
class Connector:
    """Opens the connections of one registry, and of the hosts that it leads to.

    Without `allow_private`, it connects to public addresses only.
    Each registry has its own `Resolver`, so that a name that gets no answer does not delay others.
    """

    allow_private: bool
    prefer_ipv4: bool
    resolver: Resolver = field(default_factory=lambda: Resolver(allowed_gai_family()))

    def connect(
        self,
        host_and_port: tuple[str, int],
        *,
        timeout: float | None,
        source_address: tuple[str, int] | None = None,
        socket_options: Sequence[SocketOption] | None = None,
        call: Call = NO_LIMIT,
    ) -> socket.socket:
        """Return a socket connected to the first accepted address of the host that answers.

        `timeout` is in seconds, for the lookup and again for each address; None means no limit.
        All of it ends at the deadline of `call`.
        Raise what urllib3's `create_connection()` raises (TimeoutError, gaierror,
        LocationParseError or the last OSError), AddressForbidden or ResolutionTimeout.
        """
        return connect_first(
            self.resolve(*host_and_port, call.seconds_left(timeout)),
            timeout=timeout,
            source_address=source_address,
            socket_options=socket_options,
            call=call,
        )

    def resolve(self, host: str, port: int, timeout: float | None = None) -> list[AddressInfo]:
        """Return the accepted addresses of a host, in the order in which to try them.

        Raise AddressForbidden if no address is accepted, and ResolutionTimeout if the lookup takes
        longer than `timeout` seconds. As urllib3 does, raise gaierror if the lookup fails, and
        LocationParseError if DNS cannot express the name.
        """
        if host.startswith("["):
            host = host.strip("[]")
        try:
            host.encode("idna")
        except UnicodeError:
            message = f"'{host}', label empty or too long"
            raise LocationParseError(message) from None
        addresses = self.resolver.resolve(host, port, timeout)
        accepted = [
            address
            for address in addresses
            if self.allow_private or is_public(_parse_address(address))
        ]
        if addresses and not accepted:
            listing = ", ".join(
                dict.fromkeys(str(_parse_address(address)) for address in addresses)
            )
            message = f"{host} is {listing}"
            raise AddressForbidden(message)
        return self._interleave_families(accepted)

    def _interleave_families(self, addresses: Sequence[AddressInfo]) -> list[AddressInfo]:
        """Return the addresses with families alternating (RFC 8305, section 4).

        IPv4 comes first if `prefer_ipv4`, otherwise the family of the system's first address.
        """
        first = (
            socket.AF_INET
            if self.prefer_ipv4
            else (addresses[0][0] if addresses else socket.AF_INET)
        )
        preferred = [address for address in addresses if address[0] == first]
        others = [address for address in addresses if address[0] != first]
        return [address for pair in zip_longest(preferred, others) for address in pair if address]


def _parse_address(address_info: AddressInfo) -> IPAddress:
    """Return an address without its zone; only special addresses have one (RFC 4007, section 6)."""
    return ipaddress.ip_address(str(address_info[4][0]).partition("%")[0])
