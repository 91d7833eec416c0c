"""Addresses and networks: those of clients, and those listed in settings."""

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple


class ClientIdentity(NamedTuple):
    """The address of a client, and the user who has logged in to this proxy, or "" if nobody has.

    If `is_known` is False, the real client could be at any address, so `address` must not count in
    its favour. A tuple, since every request creates some and uses them as cache keys.
    """

    address: str
    is_known: bool = True
    user: str = ""


_MAX_ADDRESS_LENGTH: Final = 64
"""Longer texts are not parsed: clients choose what a header says, and the results are cached."""

_MAPPED_PREFIX_LENGTH: Final = 96
"""Bits before the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2)."""

_SITE_PREFIX_LENGTH: Final = 64
"""Prefix length of an IPv6 network that belongs to one subscriber (RFC 6177)."""

_WIDER_IPV4_PREFIX_LENGTHS: Final = (24,)
"""Prefix length of the smallest network that is routed separately, so it often has one owner."""
_WIDER_IPV6_PREFIX_LENGTHS: Final = (56, 48)
"""Prefix lengths of the networks that a provider gives to a home or to a company (RFC 6177)."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Networks:
    """A comma-separated list of addresses and networks; `*` stands for all addresses.

    Raise ValueError if an entry is none of these.
    """

    def __init__(self, text: str) -> None:
        entries = [entry.strip() for entry in text.split(",") if entry.strip()]
        self.includes_all = "*" in entries
        self.networks = [parse_network(entry) for entry in entries if entry != "*"]

    def __contains__(self, text: str) -> bool:
        """Return True if `text` is an address in one of the networks, or the list has a `*`."""
        if self.includes_all:
            return True
        address = parse_address(text)
        return address is not None and any(address in network for network in self.networks)


def parse_network(text: str) -> Network:
    """Return the network that `text` names; raise ValueError if it names none.

    An address is a network of one address, and host bits are dropped. A network of IPv4-mapped
    IPv6 addresses becomes an IPv4 network.
    """
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(network, ipaddress.IPv4Network) or network.prefixlen < _MAPPED_PREFIX_LENGTH:
        return network
    mapped = network.network_address.ipv4_mapped
    return (
        ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_PREFIX_LENGTH))
        if mapped
        else network
    )


def parse_address(text: str) -> Address | None:
    """Return the address that `text` names, or None if it names none.

    An IPv4-mapped IPv6 address becomes an IPv4 address.
    """
    return _parse_address(text) if len(text) <= _MAX_ADDRESS_LENGTH else None


def derive_site(text: str) -> str:
    """Return the site of an address as text, or "" if `text` is not an address.

    The site is what all addresses of one subscriber have in common: an IPv4 address, or an IPv6
    network of 64 bits.
    """
    return _derive_site(text) if len(text) <= _MAX_ADDRESS_LENGTH else ""


class Prefix(NamedTuple):
    """A network that contains an address, and its prefix length; 0 bits if there is no address."""

    network: str
    bits: int


def derive_prefixes(text: str) -> tuple[Prefix, ...]:
    """Return the networks that a client at an address may own, the narrowest first.

    The first is the site: an IPv4 address, or an IPv6 network of 64 bits. All texts that are
    not addresses share a single prefix.
    """
    return _derive_prefixes(text) if len(text) <= _MAX_ADDRESS_LENGTH else _NO_PREFIXES


_NO_PREFIXES: Final = (Prefix("", 0),)


@lru_cache(1024)
def _derive_prefixes(text: str) -> tuple[Prefix, ...]:
    address = _parse_address(text)
    if address is None:
        return _NO_PREFIXES
    is_ipv4 = isinstance(address, ipaddress.IPv4Address)
    site = Prefix(_derive_site(text), address.max_prefixlen if is_ipv4 else _SITE_PREFIX_LENGTH)
    wider_prefixes = (
        Prefix(str(ipaddress.ip_network((int(address), bits), strict=False)), bits)
        for bits in (_WIDER_IPV4_PREFIX_LENGTHS if is_ipv4 else _WIDER_IPV6_PREFIX_LENGTHS)
    )
    return (site, *wider_prefixes)


@lru_cache(1024)
def _derive_site(text: str) -> str:
    address = _parse_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, _SITE_PREFIX_LENGTH), strict=False))
    return str(address or "")


@lru_cache(1024)
def _parse_address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


# The allow list and the deny list of client networks.

_CACHE_SIZE: Final = 1024


class NetworkPolicy:
    """An allow list and a deny list, in the form of the settings; None means that a list is unset.

    The deny list wins. If there is an allow list, only addresses in it are admitted. Raise
    ValueError if an entry is neither an address nor a network.
    """

    def __init__(self, *, allow: str | None = None, deny: str | None = None) -> None:
        self._allow = None if allow is None else Networks(allow)
        self._deny = Networks(deny or "")
        self.admits_all = allow is None and deny is None
        self._is_admitted_cached = lru_cache(_CACHE_SIZE)(self._is_admitted)

    def is_admitted(self, address: str) -> bool:
        """Return True if a client at `address` may use this proxy.

        A text that is not an address is admitted only if neither list is set.
        """
        return self.admits_all or self._is_admitted_cached(address)

    @property
    def networks(self) -> Iterator[Network]:
        """The networks named in either list."""
        for networks in (self._allow, self._deny):
            yield from networks.networks if networks else ()

    def _is_admitted(self, address: str) -> bool:
        if parse_address(address) is None or address in self._deny:
            return False
        return self._allow is None or address in self._allow


def partition(network: Network, boundaries: Iterable[Network]) -> Iterator[tuple[Address, Address]]:
    """Split a network so that each part is either inside or outside every network of `boundaries`.

    Yield the first and the last address of each part, in order.
    """
    kind = type(network.network_address)
    first, last = int(network.network_address), int(network.broadcast_address)
    edges = {first, last + 1}
    for boundary in boundaries:
        if boundary.version == network.version:
            edges |= {int(boundary.network_address), int(boundary.broadcast_address) + 1}
    inner_edges = sorted(edge for edge in edges if first <= edge <= last + 1)
    for begin, end in pairwise(inner_edges):
        yield kind(begin), kind(end - 1)
