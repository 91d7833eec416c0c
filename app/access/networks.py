"""Addresses and networks, as settings list them."""

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

# Who asks.


class Client(NamedTuple):
    """An address; one that is not known may be anybody's, and counts for nobody's good.

    `user` has logged in at this proxy; "" is nobody. A tuple, since each request makes some, and
    asks for what was decided of it.
    """

    address: str
    is_known: bool = True
    user: str = ""


_LONGEST: Final = 64
"""Characters: clients can write as many as a header has, and what was read is remembered."""

_MAPPED: Final = 96
"""Bits before the IPv4 address in one that is written as IPv6 (RFC 4291, 2.5.5.2)."""

_SITE: Final = 64
"""Bits of an IPv6 address that one subscriber has (RFC 6177)."""

_WIDER_OF_IPV4: Final = (24,)
"""Bits of the smallest network that is routed by itself, and so often belongs to one owner."""
_WIDER_OF_IPV6: Final = (56, 48)
"""Bits of what a provider gives to a home or to a company (RFC 6177)."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Networks:
    """What a list between commas has in it: addresses, networks, or `*` for all."""

    def __init__(self, listed: str) -> None:
        entries = [entry.strip() for entry in listed.split(",") if entry.strip()]
        self.are_all = "*" in entries
        self.named = [network_of(entry) for entry in entries if entry != "*"]

    def __contains__(self, text: str) -> bool:
        """Tell whether an address, as text, is in one of them."""
        if self.are_all:
            return True
        address = address_of(text)
        return address is not None and any(address in network for network in self.named)


def network_of(text: str) -> Network:
    """Read a network; one of IPv4 addresses that are written as IPv6 is IPv4's. Raise ValueError.

    An address is a network of one, and what it has beside the network is left out.
    """
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(network, ipaddress.IPv4Network) or network.prefixlen < _MAPPED:
        return network
    mapped = network.network_address.ipv4_mapped
    return ipaddress.ip_network((mapped, network.prefixlen - _MAPPED)) if mapped else network


def address_of(text: str) -> Address | None:
    """Read an address; an IPv4 one that is written as IPv6 is itself."""
    return _read(text) if len(text) <= _LONGEST else None


def site_of(text: str) -> str:
    """Return what all addresses of one subscriber have in common; "" for what is no address."""
    return _site(text) if len(text) <= _LONGEST else ""


class Prefix(NamedTuple):
    """A network that an address is in; 0 bits where there is no address."""

    network: str
    bits: int


def prefixes_of(text: str) -> tuple[Prefix, ...]:
    """Return the networks that somebody at an address may have, the narrowest first.

    The first is the site: an IPv4 address, or 64 bits of an IPv6 one. What is no address has one
    prefix, which is the same for all such.
    """
    return _prefixes(text) if len(text) <= _LONGEST else _NOWHERE


_NOWHERE: Final = (Prefix("", 0),)


@lru_cache(1024)
def _prefixes(text: str) -> tuple[Prefix, ...]:
    found = _read(text)
    if found is None:
        return _NOWHERE
    is_ipv4 = isinstance(found, ipaddress.IPv4Address)
    site = Prefix(_site(text), found.max_prefixlen if is_ipv4 else _SITE)
    wider = (
        Prefix(str(ipaddress.ip_network((int(found), bits), strict=False)), bits)
        for bits in (_WIDER_OF_IPV4 if is_ipv4 else _WIDER_OF_IPV6)
    )
    return (site, *wider)


@lru_cache(1024)
def _site(text: str) -> str:
    found = _read(text)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((found, _SITE), strict=False))
    return str(found or "")


@lru_cache(1024)
def _read(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


# The networks whose clients may ask this proxy, and those whose may not.

_REMEMBERED: Final = 1024


class Lists:
    """An allow list and a deny list, as settings write them; what is unset is None.

    Deny wins; where there is an allow list, only who is in it may.
    """

    def __init__(self, *, allow: str | None = None, deny: str | None = None) -> None:
        self._allow = None if allow is None else Networks(allow)
        self._deny = Networks(deny or "")
        self.are_open = allow is None and deny is None
        self._admits = lru_cache(_REMEMBERED)(self._judge)

    def admit(self, address: str) -> bool:
        """Tell whether an address may ask; what is no address may only where no list is set."""
        return self.are_open or self._admits(address)

    @property
    def named(self) -> Iterator[Network]:
        """The networks that either names."""
        for networks in (self._allow, self._deny):
            yield from networks.named if networks else ()

    def _judge(self, address: str) -> bool:
        if address_of(address) is None or address in self._deny:
            return False
        return self._allow is None or address in self._allow


# Networks in parts of which no list and no rule names a part again.


def parts(network: Network, cuts: Iterable[Network]) -> Iterator[tuple[Address, Address]]:
    """Give the first and last address of each part, in order; a cut has all of a part or none."""
    kind = type(network.network_address)
    first, last = int(network.network_address), int(network.broadcast_address)
    edges = {first, last + 1}
    for cut in cuts:
        if cut.version == network.version:
            edges |= {int(cut.network_address), int(cut.broadcast_address) + 1}
    inside = sorted(edge for edge in edges if first <= edge <= last + 1)
    for begin, end in pairwise(inside):
        yield kind(begin), kind(end - 1)
