"""Networks in parts."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.networks import Network, parse_network, partition


@pytest.mark.parametrize(
    ("network", "cuts", "found"),
    [
        pytest.param("10.0.0.7", [], ["10.0.0.7-10.0.0.7"], id="an address"),
        pytest.param("10.0.0.7", ["10.0.0.7"], ["10.0.0.7-10.0.0.7"], id="itself"),
        pytest.param("10.0.0.0/8", ["0.0.0.0/0"], ["10.0.0.0-10.255.255.255"], id="around it"),
        pytest.param("10.0.0.0/8", ["11.0.0.0/8"], ["10.0.0.0-10.255.255.255"], id="beside it"),
        pytest.param("10.0.0.0/8", ["::/0"], ["10.0.0.0-10.255.255.255"], id="another family"),
        pytest.param(
            "10.0.0.0/30",
            ["10.0.0.0/31"],
            ["10.0.0.0-10.0.0.1", "10.0.0.2-10.0.0.3"],
            id="at its beginning",
        ),
        pytest.param(
            "10.0.0.0/30",
            ["10.0.0.3", "10.0.0.2/31"],
            ["10.0.0.0-10.0.0.1", "10.0.0.2-10.0.0.2", "10.0.0.3-10.0.0.3"],
            id="one in another",
        ),
        pytest.param(
            "0.0.0.0/0",
            ["255.255.255.255", "0.0.0.0"],  # noqa: S104 - an address like any other
            ["0.0.0.0-0.0.0.0", "0.0.0.1-255.255.255.254", "255.255.255.255-255.255.255.255"],
            id="at both ends",
        ),
        pytest.param(
            "2001:db8::/127",
            ["2001:db8::1"],
            ["2001:db8::-2001:db8::", "2001:db8::1-2001:db8::1"],
            id="IPv6",
        ),
        pytest.param("::/127", ["0.0.0.1"], ["::-::1"], id="numbers that IPv4 has too"),
    ],
)
def test_parts(network: str, cuts: list[str], found: list[str]) -> None:
    """Each edge of a network that lies in it is one of a part."""
    spans = partition(parse_network(network), map(parse_network, cuts))
    assert [f"{first}-{last}" for first, last in spans] == found


_SMALL = st.tuples(st.integers(0, 255), st.integers(24, 32)).map(
    lambda drawn: parse_network(f"10.0.0.{drawn[0]}/{drawn[1]}")
)


@given(_SMALL, st.lists(_SMALL, max_size=4))
def test_no_cut_has_a_part_of_a_part(network: Network, cuts: list[Network]) -> None:
    """And together the parts are the network, each address once."""
    spans = list(partition(network, cuts))
    numbers = [n for first, last in spans for n in range(int(first), int(last) + 1)]
    assert numbers == [int(address) for address in network]
    for first, last in spans:
        for cut in cuts:
            inside = {ipaddress.IPv4Address(n) in cut for n in range(int(first), int(last) + 1)}
            assert len(inside) == 1
