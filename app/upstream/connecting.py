"""Connections of our own: to an address that has been looked at, and to no other.

A name is resolved once, and what it resolved to is both checked and connected to: whoever runs a
DNS server may give another answer the next time.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

from urllib3.exceptions import LocationParseError
from urllib3.util.connection import allowed_gai_family

from app.addresses import Address

Accepts = Callable[[Address], bool]
AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
SocketOption = tuple[int, int, int | bytes]


class AddressForbidden(OSError):
    """A host that leads to none but addresses that must not be connected to."""


def connect(
    host_and_port: tuple[str, int],
    accepts: Accepts,
    *,
    timeout: float | None,
    source_address: tuple[str, int] | None = None,
    socket_options: Sequence[SocketOption] | None = None,
) -> socket.socket:
    """Connect to the first address of a host that is accepted and lets us in.

    As urllib3's create_connection(): `timeout` is for each address, and the last error is raised.
    """
    error = OSError("getaddrinfo returns an empty list")
    for family, kind, protocol, _, peer in resolve(*host_and_port, accepts):
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            for option in socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(timeout)
            if source_address:
                sock.bind(source_address)
            sock.connect(peer)
        except OSError as failed:
            if sock is not None:
                sock.close()
            error = failed
        else:
            return sock
    raise error


def resolve(host: str, port: int, accepts: Accepts) -> list[AddressInfo]:
    """Return the accepted addresses of a host; raise AddressForbidden where there are others only.

    Raise gaierror, or LocationParseError for what DNS has no way to ask for, as urllib3 does.
    """
    if host.startswith("["):
        host = host.strip("[]")
    try:
        host.encode("idna")
    except UnicodeError:
        message = f"'{host}', label empty or too long"
        raise LocationParseError(message) from None
    found: Sequence[AddressInfo] = socket.getaddrinfo(
        host, port, allowed_gai_family(), socket.SOCK_STREAM
    )
    accepted = [one for one in found if accepts(_address(one))]
    if found and not accepted:
        addresses = ", ".join(dict.fromkeys(str(_address(one)) for one in found))
        message = f"{host} is {addresses}"
        raise AddressForbidden(message)
    return accepted


def _address(found: AddressInfo) -> Address:
    """Return an address without its zone, which only a special one has (RFC 4007, section 6)."""
    return ipaddress.ip_address(str(found[4][0]).partition("%")[0])
