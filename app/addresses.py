"""Decides which addresses are public, and what a host reveals before it is resolved.

An address is "special" if it is in IANA's special-purpose registries, multicast or reserved, or if
it looks public but leads to the machine's own cloud.
Python's `is_global` does not help: before 3.11.10 it calls 64:ff9b::7f00:1 and 2002:7f00:1::
global.
"""

import ipaddress
import re
from encodings.idna import nameprep
from typing import Final
from urllib.parse import unquote

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_SPECIAL_IPV4: Final = tuple(map(ipaddress.IPv4Network, (
    "0.0.0.0/8",  # this network (RFC 791, section 3.2)
    "10.0.0.0/8",  # private (RFC 1918)
    "100.64.0.0/10",  # carrier-grade NAT (RFC 6598)
    "127.0.0.0/8",  # loopback (RFC 1122, section 3.2.1.3)
    "168.63.129.16/32",  # Azure's host agent, which serves a machine's configuration and secrets
    "169.254.0.0/16",  # link-local (RFC 3927); clouds keep credentials at 169.254.169.254
    "172.16.0.0/12",  # private (RFC 1918)
    "192.0.0.0/24",  # protocol assignments (RFC 6890)
    "192.0.2.0/24",  # documentation (RFC 5737)
    "192.31.196.0/24",  # AS112 (RFC 7535)
    "192.52.193.0/24",  # multicast tunnels, AMT (RFC 7450)
    "192.88.99.0/24",  # 6to4 relays (RFC 7526)
    "192.168.0.0/16",  # private (RFC 1918)
    "192.175.48.0/24",  # AS112 (RFC 7534)
    "198.18.0.0/15",  # benchmarks (RFC 2544); the fake addresses of some resolvers
    "198.51.100.0/24",  # documentation (RFC 5737)
    "203.0.113.0/24",  # documentation (RFC 5737)
    "224.0.0.0/4",  # multicast (RFC 1112)
    "240.0.0.0/4",  # reserved (RFC 1112, section 4), and broadcast (RFC 919)
)))  # fmt: skip

_UNICAST_IPV6: Final = ipaddress.IPv6Network("2000::/3")
"""All global unicast addresses allocated so far (RFC 4291, section 2.4).

The rest of IPv6 is special or unallocated.
"""

_SPECIAL_IPV6: Final = tuple(map(ipaddress.IPv6Network, (
    "2001::/23",  # protocol assignments, Teredo, ORCHID (RFC 2928; RFC 4380; RFC 7343)
    "2001:db8::/32",  # documentation (RFC 3849)
    "2620:4f:8000::/48",  # AS112 (RFC 7534)
    "3fff::/20",  # documentation (RFC 9637)
)))  # fmt: skip

_IPV4_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291, section 2.5.5.2
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, section 2.1
_6TO4: Final = ipaddress.IPv6Network("2002::/16")  # RFC 3056, section 2

_DOTS: Final = re.compile("[.\u3002\uff0e\uff61]")  # RFC 3490, section 3.1
_IPV4_BYTES: Final = 4
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")
_LEADING_ZERO: Final = re.compile(r"(?:^|\.)0[0-9]")
_MAX_HOST_LENGTH: Final = 1024
"""The maximum length of a host that is examined. A name has at most 253 characters when it is
written without escapes (RFC 1035, section 2.3.4)."""
_NAME: Final = re.compile(r"[\w-]+(?:\.[\w-]+)*")


def is_public(address: IPAddress) -> bool:
    """Return whether an address belongs to a single machine on the public internet.

    An IPv6 address that embeds an IPv4 address (mapped, NAT64, 6to4) is public if that one is.
    """
    if isinstance(address, ipaddress.IPv6Address):
        embedded = _extract_ipv4(address)
        if embedded is None:
            return address in _UNICAST_IPV6 and not any(
                address in network for network in _SPECIAL_IPV6
            )
        address = embedded
    return not any(address in network for network in _SPECIAL_IPV4)


def parse_literal(host: str) -> IPAddress | None:
    """Return the address that a host spells, in any spelling that some resolver accepts.

    None means that the host is a name, not an address, or longer than 1024 characters.
    """
    return _parse_address(_normalize_host(host)) if len(host) <= _MAX_HOST_LENGTH else None


def is_special_host(host: str) -> bool:
    """Return whether a host is special, or ambiguous, without resolving it.

    Use this if another machine, such as an outbound proxy, resolves the host. A host that can be
    read in two ways counts as special.
    """
    if len(host) > _MAX_HOST_LENGTH:
        return True
    text = _normalize_host(host)
    address = _parse_address(text)
    if address is not None:
        # Some resolvers read 010.0.0.1 as 8.0.0.1, others as 10.0.0.1 (RFC 6943, section 3.1.1).
        return not is_public(address) or bool(_LEADING_ZERO.search(text))
    last_label = text.rpartition(".")[2]
    return (
        last_label == "localhost"  # RFC 6761, section 6.3
        or bool(_NUMBER.fullmatch(last_label))  # no name ends in a number (RFC 1123, section 2.1)
        or not _NAME.fullmatch(text)
    )


def _extract_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _IPV4_MAPPED or address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _6TO4:
        return ipaddress.IPv4Address(int(address) >> 80 & 0xFFFF_FFFF)
    return None


def _normalize_host(host: str) -> str:
    """Return a host as a resolver gets it: decoded, prepared, without brackets or final dot.

    A name may be percent-encoded (RFC 3986, section 3.2.2). In an IPv6 address the percent sign
    starts the zone.
    """
    text = host if ":" in host else unquote(host)
    return ".".join(map(_prepare_label, _DOTS.split(text))).strip("[]").rstrip(".")


def _prepare_label(label: str) -> str:
    """Convert capitals to lower case, and full-width digits to ASCII (RFC 3491)."""
    try:
        return nameprep(label)
    except UnicodeError:
        return label  # prohibited in a name, so this is neither a number nor "localhost"


def _parse_address(text: str) -> IPAddress | None:
    try:
        if ":" in text:
            return ipaddress.IPv6Address(text.partition("%")[0])
        return _parse_loose_ipv4(text)
    except (ValueError, OverflowError):
        return None


def _parse_loose_ipv4(text: str) -> ipaddress.IPv4Address | None:
    """Read an IPv4 address as inet_aton() does; raise if a number is out of range.

    It has up to four numbers, decimal, octal or hexadecimal. The last number fills the remaining
    bytes. None means that the text has too many parts, or parts that are not numbers.
    """
    parts = text.split(".")
    if not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    *leading, last = map(_parse_number, parts)
    byte_count = _IPV4_BYTES - len(leading)
    if byte_count < 1:
        return None
    return ipaddress.IPv4Address(bytes(leading) + last.to_bytes(byte_count))


def _parse_number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)
