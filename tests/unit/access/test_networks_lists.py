"""Whom an allow list and a deny list admit."""

import pytest

from app.access.networks import NetworkPolicy


@pytest.mark.parametrize(
    ("allow", "deny", "address", "expected"),
    [
        pytest.param(None, None, "192.0.2.7", True, id="no list"),
        pytest.param(None, None, "", True, id="no list, no address"),
        pytest.param("192.0.2.0/24", None, "192.0.2.7", True, id="allowed"),
        pytest.param("192.0.2.0/24", None, "198.51.100.1", False, id="not allowed"),
        pytest.param(None, "192.0.2.0/24", "192.0.2.7", False, id="denied"),
        pytest.param(None, "192.0.2.0/24", "198.51.100.1", True, id="not denied"),
        pytest.param("192.0.2.0/24", "192.0.2.7", "192.0.2.7", False, id="deny wins"),
        pytest.param("192.0.2.0/24", "192.0.2.7", "192.0.2.8", True, id="beside it"),
        pytest.param("*", "192.0.2.7", "192.0.2.8", True, id="all but one"),
        pytest.param("*", "192.0.2.7", "192.0.2.7", False, id="the one"),
        pytest.param("192.0.2.0/24", "*", "192.0.2.7", False, id="nobody"),
        pytest.param("*", None, "unknown", False, id="all, but no address"),
        pytest.param(None, "192.0.2.7", "unknown", False, id="not denied, but no address"),
        pytest.param("2001:db8::/32", "192.0.2.0/24", "2001:db8::1", True, id="IPv6"),
        pytest.param("2001:db8::/32", None, "192.0.2.7", False, id="IPv4 where IPv6 is allowed"),
    ],
)
def test_admit(allow: str | None, deny: str | None, address: str, expected: bool) -> None:  # noqa: FBT001 - a table
    """Deny wins, and where there is an allow list, only who is in it may."""
    assert NetworkPolicy(allow=allow, deny=deny).is_admitted(address) is expected
