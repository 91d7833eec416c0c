"""Addresses and networks, as settings list them."""

import pytest

from app.access.networks import Networks, derive_prefixes, derive_site, parse_address


@pytest.mark.parametrize(
    ("listed", "address", "expected"),
    [
        pytest.param("192.0.2.0/24", "192.0.2.7", True, id="IPv4"),
        pytest.param("192.0.2.0/24", "192.0.3.7", False, id="not in it"),
        pytest.param("192.0.2.7", "192.0.2.7", True, id="an address alone"),
        pytest.param("192.0.2.7/24", "192.0.2.9", True, id="a network by one of its addresses"),
        pytest.param("192.0.2.0/24", "::ffff:192.0.2.7", True, id="a mapped client"),
        pytest.param("192.0.2.0/24", "::FFFF:C000:207", True, id="mapped, in hexadecimal"),
        pytest.param("::ffff:192.0.2.0/120", "192.0.2.7", True, id="a mapped network"),
        pytest.param("::ffff:192.0.2.0/120", "::ffff:192.0.2.7", True, id="both mapped"),
        pytest.param("::ffff:192.0.2.0/120", "192.0.3.7", False, id="not in the mapped one"),
        pytest.param("::ffff:0:0/96", "192.0.2.7", True, id="all that are mapped"),
        pytest.param("::/0", "2001:db8::1", True, id="all of IPv6"),
        pytest.param("::/0", "::ffff:192.0.2.7", False, id="IPv4 is not IPv6"),
        pytest.param("0.0.0.0/0", "::ffff:192.0.2.7", True, id="all of IPv4"),
        pytest.param("2001:db8::/32", "2001:0DB8:0:0::9", True, id="IPv6, written otherwise"),
        pytest.param("fe80::/10", "fe80::1%eth0", True, id="with a zone"),
        pytest.param(" 192.0.2.0/24 ,, 198.51.100.1 ", "198.51.100.1", True, id="two, and spaces"),
        pytest.param("*", "192.0.2.7", True, id="all"),
        pytest.param("", "192.0.2.7", False, id="none"),
        pytest.param("0.0.0.0/0,::/0", "unknown", False, id="no address"),
        pytest.param("0.0.0.0/0,::/0", "192.0.2.07", False, id="not read alike by everybody"),
    ],
)
def test_contains(listed: str, address: str, expected: bool) -> None:  # noqa: FBT001 - a table
    """An address is itself, however it is written."""
    assert (address in Networks(listed)) is expected


def test_what_is_long_is_no_address() -> None:
    """A client can write as much as a header holds."""
    assert parse_address("0" * 65) is None


@pytest.mark.parametrize(
    ("address", "networks"),
    [
        pytest.param("192.0.2.7", ["192.0.2.7", "192.0.2.0/24"], id="IPv4"),
        pytest.param("::ffff:192.0.2.7", ["192.0.2.7", "192.0.2.0/24"], id="mapped"),
        pytest.param(
            "2001:db8:1:a2b3:ffff::1",
            ["2001:db8:1:a2b3::/64", "2001:db8:1:a200::/56", "2001:db8:1::/48"],
            id="IPv6",
        ),
        pytest.param("::1", ["::/64", "::/56", "::/48"], id="low numbers are IPv6 still"),
        pytest.param("fe80::1%eth0", ["fe80::/64", "fe80::/56", "fe80::/48"], id="a zone"),
        pytest.param("unknown", [""], id="no address"),
        pytest.param("0" * 65, [""], id="too long"),
    ],
)
def test_prefixes(address: str, networks: list[str]) -> None:
    """The first one is the site, and each further one is wider."""
    prefixes = derive_prefixes(address)
    assert [prefix.network for prefix in prefixes] == networks
    assert networks[0] == derive_site(address)
