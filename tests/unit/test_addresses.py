"""Which addresses are public, and what a host says of its address before anyone resolves it."""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.addresses import IPAddress, is_public, is_special_host, parse_literal

SPECIAL_IPV4 = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
]
"""With 224.0.0.0/3 in one piece, no two of them touch."""

SPECIAL_IPV6 = [
    "::/128",
    "::1/128",
    "::/96",  # IPv4-compatible
    "::ffff:0:0:0/96",  # IPv4-translated
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "200::/7",
    "1000::/4",
    "2001::/23",
    "2001::/32",
    "2001:1::1/128",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2620:4f:8000::/48",
    "3fff::/20",
    "4000::/3",
    "5f00::/16",
    "8000::/1",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]


def embedded(address: IPv4Address) -> list[IPv6Address]:
    """Return every IPv6 address that leads to an IPv4 one."""
    bits = int(address)
    return [
        IPv6Address(f"::ffff:{address}"),
        IPv6Address(f"64:ff9b::{address}"),
        IPv6Address(0x2002 << 112 | bits << 80),
        IPv6Address(0x2002 << 112 | bits << 80 | 0xDEAD_BEEF),
    ]


def test_special_networks() -> None:
    """From the first address to the last, and however they are embedded."""
    for network in [*SPECIAL_IPV4, *SPECIAL_IPV6]:
        first, last = ip_network(network)[0], ip_network(network)[-1]
        assert not is_public(first), network
        assert not is_public(last), network
        if isinstance(first, IPv4Address) and isinstance(last, IPv4Address):
            assert not any(map(is_public, [*embedded(first), *embedded(last)])), network


METADATA = [
    "168.63.129.16",  # Azure: host agent
    "169.254.169.254",  # most clouds
    "169.254.170.2",  # AWS: task credentials
    "169.254.170.23",  # AWS: pod identities
    "169.254.42.42",  # Scaleway
    "100.100.100.200",  # Alibaba Cloud
    "192.0.0.192",  # Oracle Cloud
    "fd00:ec2::254",  # AWS: IPv6
    "fd00:ec2::23",  # AWS: pod identities, IPv6
    "fd20:ce::254",  # Google Cloud: IPv6
    "fd00:42::42",  # Scaleway: IPv6
    "fd00:c1::a9fe:a9fe",  # Oracle Cloud: IPv6
    "fd00:a9fe:a9fe::1",  # Akamai: IPv6
    "fe80::a9fe:a9fe",  # OpenStack: IPv6
    "fe80::1234:5678:9abc",  # Azure: IPv6
    "::ffff:168.63.129.16",  # Azure, as IPv6
    "64:ff9b::a83f:8110",  # Azure, by NAT64
]


def test_metadata_services_of_clouds() -> None:
    """Whoever reaches one gets a machine's credentials."""
    for address in METADATA:
        assert not is_public(ip_address(address))
        assert is_special_host(address)


def test_a_host_that_is_no_name() -> None:
    """It is refused for its length: to prepare it would take long."""
    assert is_special_host("%CC%80%CC%96" * 5000)
    assert parse_literal("%CC%80%CC%96" * 5000) is None


def test_neighbours_of_special_networks() -> None:
    """What lies beside is public, and however it is embedded."""
    for network in SPECIAL_IPV4:
        before, after = int(ip_network(network)[0]) - 1, int(ip_network(network)[-1]) + 1
        for number in (before, after):
            if 0 <= number < 1 << 32:
                address = IPv4Address(number)
                assert is_public(address), address
                assert all(map(is_public, embedded(address))), address


PUBLIC_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "172.32.0.1",
    "192.0.1.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2000::1",
    "2001:200::1",
    "2001:db7:ffff::1",
    "2001:db9::1",
    "2003::1",
    "2606:4700:4700::1111",
    "2620:4f:7fff::1",
    "2620:4f:8001::1",
    "2a00:1450:4001::1",
    "3ffe:ffff::1",
    "3fff:1000::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]


def test_public_addresses() -> None:
    """Where registries are."""
    for address in PUBLIC_ADDRESSES:
        assert is_public(ip_address(address))
        assert not is_special_host(address)


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        pytest.param("127.0.0.1", "127.0.0.1", id="dotted"),
        pytest.param("8.8.8.8", "8.8.8.8", id="public"),
        pytest.param("2130706433", "127.0.0.1", id="decimal"),
        pytest.param("134744072", "8.8.8.8", id="public decimal"),
        pytest.param("017700000001", "127.0.0.1", id="octal"),
        pytest.param("0177.0.0.1", "127.0.0.1", id="octal part"),
        pytest.param("0177.00.000.01", "127.0.0.1", id="octal parts"),
        pytest.param("0x7f000001", "127.0.0.1", id="hexadecimal"),
        pytest.param("0X7F000001", "127.0.0.1", id="capitals"),
        pytest.param("0x7f.0x0.0.01", "127.0.0.1", id="mixed"),
        pytest.param("0x7f.1", "127.0.0.1", id="hexadecimal, short"),
        pytest.param("127.1", "127.0.0.1", id="two parts"),
        pytest.param("127.0.1", "127.0.0.1", id="three parts"),
        pytest.param("10.65535", "10.0.255.255", id="a long last part"),
        pytest.param("10.1.65535", "10.1.255.255", id="a last part of two bytes"),
        pytest.param("1", "0.0.0.1", id="one"),
        pytest.param("1.0x", "1.0.0.0", id="no digit"),
        pytest.param("127.0.0.1.", "127.0.0.1", id="last dot"),
        pytest.param("2130706433.", "127.0.0.1", id="decimal, last dot"),
        pytest.param("\uff11\uff12\uff17.0.0.1", "127.0.0.1", id="full-width digits"),
        pytest.param("\u2460\u2461\u2466.0.0.1", "127.0.0.1", id="digits in circles"),
        pytest.param("127\u30020\uff0e0\uff611", "127.0.0.1", id="other dots"),
        pytest.param("\u24880.0.1", "1.0.0.1", id="a digit with its dot"),
        pytest.param("127.0.0.1\u00ad", "127.0.0.1", id="soft hyphen"),
        pytest.param("12\u200b7.0.0.1", "127.0.0.1", id="zero-width space"),
        pytest.param("%31%32%37.0.0.1", "127.0.0.1", id="percent"),
        pytest.param("127%2E0%2e0.1", "127.0.0.1", id="percent for dots"),
        pytest.param("127%E3%80%820.0.1", "127.0.0.1", id="percent for another dot"),
        pytest.param("[127.0.0.1]", "127.0.0.1", id="brackets"),
        pytest.param("::1", "::1", id="IPv6"),
        pytest.param("[::1]", "::1", id="IPv6 in brackets"),
        pytest.param("0:0:0:0:0:0:0:1", "::1", id="IPv6 in full"),
        pytest.param("::ffff:127.0.0.1", "::ffff:127.0.0.1", id="mapped"),
        pytest.param("[::FFFF:7F00:1]", "::ffff:7f00:1", id="mapped, hexadecimal"),
        pytest.param("64:ff9b::127.0.0.1", "64:ff9b::7f00:1", id="NAT64"),
        pytest.param("2002:7f00:1::", "2002:7f00:1::", id="6to4"),
        pytest.param("fe80::1%eth0", "fe80::1", id="zone"),
        pytest.param("[fe80::1%25eth0]", "fe80::1", id="zone as in a URL"),
        pytest.param("fe80::1%", "fe80::1", id="empty zone"),
        pytest.param("\uff1a\uff1a1", "::1", id="full-width colons"),
    ],
)
def test_literals(host: str, meant: str) -> None:
    """Every spelling that some resolver takes for an address is one."""
    assert parse_literal(host) == ip_address(meant)


NO_LITERALS = [
    "",
    ".",
    "localhost",
    "registry.example",
    "127.0.0.1.example",
    "a127.0.0.1",
    "127.0.0.1a",
    "1.2.3.4.5",
    "256.0.0.1",
    "1.256.0.1",
    "127.0.0.256",
    "127.0.65536",
    "127.16777216",
    "4294967296",
    "-1",
    "+1",
    " 1",
    "1_0",
    "08.0.0.1",
    "0x7g.1",
    "1..2",
    ".1",
    "127.0.0.1:80",
    ":::",
    "::1::",
    "1:2:3:4:5:6:7:8:9",
    "::ffff:0177.0.0.1",
    "v1.fe80::1",
    "\u0661\u0662\u0667.0.0.1",
]


def test_no_literals() -> None:
    """What is no address is none."""
    for host in NO_LITERALS:
        assert parse_literal(host) is None


NAMES = [
    "registry.example",
    "registry-1.docker.io",
    "REGISTRY.EXAMPLE",
    "registry.example.",
    "registry",
    "my_registry.example",
    "xn--bcher-kva.example",
    "b\u00fccher.example",
    "b%C3%BCcher.example",
    "\u0627\u0644\u0639\u0631\u0628.example",
    "127.0.0.1.example",
    "localhost.example",
    "notlocalhost",
    "0x7f.example",
    "1.2.3.4.5.example",
    "8.8.8.8",
    "134744072",
    "[2606:4700:4700::1111]",
]


def test_hosts_that_may_be_public() -> None:
    """Names, whatever they lead to, and public addresses."""
    for host in NAMES:
        assert not is_special_host(host)


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("localhost", id="localhost"),
        pytest.param("LocalHost", id="capitals"),
        pytest.param("localhost.", id="last dot"),
        pytest.param("a.localhost", id="below localhost"),
        pytest.param("a.b.localhost.", id="far below"),
        pytest.param("\uff4c\uff4fcalhost", id="full-width letters"),
        pytest.param("lo%63alhost", id="percent"),
        pytest.param("local\u00adhost", id="soft hyphen"),
        pytest.param("\u0639.\uff4cocalhost", id="below a name that is written to the left"),
        pytest.param("010.0.0.1", id="octal for some, private for others"),
        pytest.param("8.8.8.010", id="any part"),
        pytest.param("256.0.0.1", id="a byte too large"),
        pytest.param("4294967297", id="a number too large"),
        pytest.param("1.2.3.4.5", id="five numbers"),
        pytest.param("127.0.0.08", id="octal that is none"),
        pytest.param("a.example.1", id="a name that ends in a number"),
        pytest.param("a.0x7f", id="in a hexadecimal one"),
        pytest.param("1" * 5000, id="a number without end"),
        pytest.param("", id="nothing"),
        pytest.param(".", id="a dot"),
        pytest.param("a..example", id="an empty label"),
        pytest.param("127.0.0.1\\.example", id="backslash"),
        pytest.param("127.0.0.1%5c.example", id="backslash in percent"),
        pytest.param("127.0.0.1%00.example", id="NUL"),
        pytest.param("127.0.0.1%2f.example", id="slash"),
        pytest.param("127.0.0.1%23.example", id="hash"),
        pytest.param("user%40localhost", id="at"),
        pytest.param("%2531", id="percent of a percent"),
        pytest.param("%ff.example", id="no UTF-8"),
        pytest.param("local\u200ehost", id="a mark of direction"),
        pytest.param("a b", id="space"),
        pytest.param("registry.example:80", id="port"),
        pytest.param("::ffff:0177.0.0.1", id="octal in IPv6"),
        pytest.param("v1.fe80::1", id="an address to come"),
        pytest.param("[::1", id="half a bracket"),
    ],
)
def test_special_hosts(host: str) -> None:
    """What is this machine for everyone, and what is not read alike by everyone."""
    assert is_special_host(host)


def number(value: int) -> st.SearchStrategy[str]:
    """Return the ways to write a number."""
    zeros = st.integers(0, 3).map("0".__mul__)
    return st.one_of(
        st.just(str(value)),
        zeros.map(lambda before: f"0{before}{value:o}"),
        zeros.map(lambda before: f"0x{before}{value:x}"),
        zeros.map(lambda before: f"0X{before}{value:X}"),
    )


@st.composite
def ipv4_spellings(draw: st.DrawFn, address: IPv4Address) -> str:
    """Write an IPv4 address in any way that inet_aton() reads."""
    count = draw(st.integers(1, 4))
    packed = address.packed
    values = [*packed[: count - 1], int.from_bytes(packed[count - 1 :])]
    return ".".join(draw(number(value)) for value in values)


def full_width(text: str) -> str:
    """Write in full-width characters."""
    return "".join(chr(ord(letter) + 0xFEE0) for letter in text)


def percent(text: str) -> str:
    """Write in percent-encoding."""
    return "".join(f"%{ord(letter):02x}" for letter in text)


DISGUISES: list[Callable[[str], str]] = [
    str,
    str.upper,
    "{}.".format,
    full_width,
    lambda text: text.replace(".", "\u3002"),
    lambda text: text.replace(".", "\uff61") + "\u200b",
]

ipv4 = st.integers(0, (1 << 32) - 1).map(IPv4Address)
ipv6 = st.integers(0, (1 << 128) - 1).map(IPv6Address)


def within(network: str) -> st.SearchStrategy[int]:
    """Return the addresses of a network."""
    return st.integers(int(ip_network(network)[0]), int(ip_network(network)[-1]))


special_ipv4 = st.sampled_from(SPECIAL_IPV4).flatmap(within).map(IPv4Address)
special_ipv6 = st.sampled_from(SPECIAL_IPV6).flatmap(within).map(IPv6Address)


@given(special_ipv4, st.sampled_from([*DISGUISES, percent]), st.data())
def test_no_special_ipv4_address_passes(
    address: IPv4Address, disguise: Callable[[str], str], data: st.DataObject
) -> None:
    """However it is written."""
    host = disguise(data.draw(ipv4_spellings(address)))
    assert parse_literal(host) == address
    assert is_special_host(host)


@given(special_ipv4, st.integers(0, 3), st.sampled_from([str, str.upper, full_width]))
def test_no_special_ipv4_address_passes_in_ipv6(
    address: IPv4Address, way: int, disguise: Callable[[str], str]
) -> None:
    """However it is embedded, and however that is written."""
    inside = embedded(address)[way]
    text = disguise(str(inside))
    assert not is_public(inside)
    for host in (text, f"[{text}]", f"{text}%eth0", f"[{text}%25eth0]"):
        assert parse_literal(host) == inside
        assert is_special_host(host)


@given(special_ipv6)
def test_no_special_ipv6_address_passes(address: IPv6Address) -> None:
    """From none of the special networks."""
    assert not is_public(address)
    assert is_special_host(f"[{address}]")
    assert is_special_host(address.exploded)


@given(ipv4, st.data())
def test_public_addresses_pass(address: IPv4Address, data: st.DataObject) -> None:
    """In every spelling that has one meaning."""
    host = data.draw(ipv4_spellings(address))
    ambiguous = any(part[:1] == "0" and part[1:2].isdigit() for part in host.split("."))
    assert is_special_host(host) == (ambiguous or not is_public(address))
    assert [is_public(one) for one in embedded(address)] == [is_public(address)] * 4


@given(
    st.text(alphabet="0123456789abcdefx.", max_size=20)
    | st.lists(st.from_regex(r"(0x?)?[0-9a-f]{1,4}", fullmatch=True), min_size=1, max_size=5).map(
        ".".join
    )
    | ipv4.flatmap(ipv4_spellings)
)
def test_what_the_system_reads_is_read_alike(host: str) -> None:
    """Whatever inet_aton() takes for an address is that address here."""
    try:
        meant = IPv4Address(socket.inet_aton(host))
    except OSError:
        return
    assert parse_literal(host) == meant


@given(
    st.text(alphabet="0123456789abcdef:.", max_size=30)
    | ipv6.map(str)
    | ipv6.map(lambda address: address.exploded)
    | ipv4.flatmap(lambda address: st.sampled_from([str(one) for one in embedded(address)]))
)
def test_what_the_system_reads_as_ipv6_is_read_alike(host: str) -> None:
    """Whatever inet_pton() takes for an address is that address here, and with its zone."""
    try:
        meant: IPAddress = IPv6Address(socket.inet_pton(socket.AF_INET6, host))
    except OSError:
        return
    assert parse_literal(host) == parse_literal(f"{host}%lo") == parse_literal(f"[{host}]") == meant


@given(st.text() | st.text(alphabet="0127x.:%[]\\local"))
def test_any_text_is_read(host: str) -> None:
    """Nothing that a registry may send breaks it; an address decides for its host."""
    address = parse_literal(host)
    special = is_special_host(host)
    assert address is None or is_public(address) or special
