"""Connections of our own: to an address that has been looked at, and to no other.

A name is resolved once, and what it resolved to is both checked and connected to: whoever runs a
DNS server may give another answer the next time.
"""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from urllib3.exceptions import LocationParseError

from app.addresses import Address, is_public
from app.upstream.names import Names
from app.upstream.racing import AddressInfo, SocketOption, first_to_connect
from app.upstream.reading import seconds_left


class AddressForbidden(OSError):
    """A host that leads to none but addresses that must not be connected to."""


@dataclass(frozen=True, slots=True)
class Connector:
    """How one registry, and where it leads, is connected to.

    Without `allow_private`, to public addresses only.
    Names are each registry's own, so that one that is not answered delays nobody else's.
    """

    allow_private: bool
    prefer_ipv4: bool
    names: Names = field(default_factory=Names)

    def connect(
        self,
        host_and_port: tuple[str, int],
        *,
        timeout: float | None,
        source_address: tuple[str, int] | None = None,
        socket_options: Sequence[SocketOption] | None = None,
    ) -> socket.socket:
        """Connect to the first address of a host that is accepted and lets us in.

        Raise what urllib3's create_connection() raises: TimeoutError, gaierror, the last OSError;
        or NameUnanswered. `timeout` is for the name, and for each address.
        """
        return first_to_connect(
            self.resolve(*host_and_port, seconds_left(timeout)),
            timeout=timeout,
            source_address=source_address,
            socket_options=socket_options,
        )

    def resolve(self, host: str, port: int, timeout: float | None = None) -> list[AddressInfo]:
        """Return the accepted addresses of a host in the order to try; or raise AddressForbidden.

        Raise gaierror, or LocationParseError for what DNS has no way to ask for, as urllib3 does,
        or NameUnanswered.
        """
        if host.startswith("["):
            host = host.strip("[]")
        try:
            host.encode("idna")
        except UnicodeError:
            message = f"'{host}', label empty or too long"
            raise LocationParseError(message) from None
        found = self.names.resolve(host, port, timeout)
        accepted = [one for one in found if self.allow_private or is_public(_address(one))]
        if found and not accepted:
            addresses = ", ".join(dict.fromkeys(str(_address(one)) for one in found))
            message = f"{host} is {addresses}"
            raise AddressForbidden(message)
        return self._ordered(accepted)

    def _ordered(self, found: Sequence[AddressInfo]) -> list[AddressInfo]:
        """Alternate between the families, the system's choice first: RFC 8305, section 4."""
        first = socket.AF_INET if self.prefer_ipv4 else (found[0][0] if found else socket.AF_INET)
        preferred = [one for one in found if one[0] == first]
        others = [one for one in found if one[0] != first]
        return [one for pair in zip_longest(preferred, others) for one in pair if one]


def _address(found: AddressInfo) -> Address:
    """Return an address without its zone, which only a special one has (RFC 4007, section 6)."""
    return ipaddress.ip_address(str(found[4][0]).partition("%")[0])
