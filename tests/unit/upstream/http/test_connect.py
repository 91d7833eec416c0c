"""Connections of our own: to an address that has been looked at, and to no other."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from urllib3.exceptions import LocationParseError

from app.upstream.http.connect import AddressForbidden, Connector
from tests.unit.network import PUBLIC, PUBLIC_6, Network

NAME = "registry.example"
GUARDED = Connector(allow_private=False, prefer_ipv4=False)
OPEN = Connector(allow_private=True, prefer_ipv4=False)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Return a socket that listens on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def port(listener: socket.socket) -> int:
    """Return its port."""
    return int(listener.getsockname()[1])


def test_a_public_address_is_connected_to(network: Network, port: int) -> None:
    """It is resolved once, and the very address that was looked at is connected to."""
    network.resolves(NAME, [PUBLIC], ["127.0.0.1"])
    network.routed(PUBLIC, port)
    with GUARDED.connect((NAME, port), timeout=5) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)
    assert network.asked == [NAME]
    assert network.peers == [(PUBLIC, port)]


def test_a_name_that_changes_its_mind(network: Network, port: int) -> None:
    """A second answer is looked at like the first: DNS rebinding opens nothing."""
    network.resolves(NAME, [PUBLIC], ["127.0.0.1"])
    network.routed(PUBLIC, port)
    GUARDED.connect((NAME, port), timeout=5).close()
    with pytest.raises(AddressForbidden):
        GUARDED.connect((NAME, port), timeout=5)
    assert network.connected == [PUBLIC]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(["127.0.0.1", PUBLIC], id="before"),
        pytest.param([PUBLIC, "127.0.0.1"], id="after"),
        pytest.param(["::1", "::ffff:127.0.0.1", PUBLIC, "fe80::1", "10.0.0.1"], id="around"),
    ],
)
def test_special_addresses_among_others(network: Network, port: int, answer: list[str]) -> None:
    """They are left out, and the rest is good."""
    network.resolves(NAME, answer)
    network.routed(PUBLIC, port)
    GUARDED.connect((NAME, port), timeout=5).close()
    assert network.connected == [PUBLIC]


def test_special_addresses_are_no_way_out(network: Network, port: int) -> None:
    """Where the public one does not answer, no other is tried."""
    network.resolves(NAME, [PUBLIC, "127.0.0.1"])
    network.routed(PUBLIC, ConnectionRefusedError())
    with pytest.raises(ConnectionRefusedError):
        GUARDED.connect((NAME, port), timeout=5)
    assert network.connected == [PUBLIC]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(["127.0.0.1"], "127.0.0.1", id="loopback"),
        pytest.param(["10.0.0.1", "10.0.0.1", "10.0.0.2"], "10.0.0.1, 10.0.0.2", id="private"),
        pytest.param(["169.254.169.254"], "169.254.169.254", id="link-local"),
        pytest.param(["198.18.0.7"], "198.18.0.7", id="fake"),
        pytest.param(["224.0.0.1", "ff02::1"], "224.0.0.1, ff02::1", id="multicast"),
        pytest.param(["::1"], "::1", id="IPv6 loopback"),
        pytest.param(["64:ff9b::7f00:1"], "64:ff9b::7f00:1", id="NAT64"),
        pytest.param(["2002:7f00:1::"], "2002:7f00:1::", id="6to4"),
        pytest.param(["fe80::1%eth0"], "fe80::1", id="zone"),
    ],
)
def test_none_but_special_addresses(network: Network, answer: list[str], told: str) -> None:
    """Nothing is connected to, and the error tells what was found."""
    network.resolves(NAME, answer)
    with pytest.raises(AddressForbidden, match=f"^{NAME} is {told}$"):
        GUARDED.connect((NAME, 443), timeout=5)
    assert network.connected == []


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "0", "localhost", "[::1]", "::1",
     "::ffff:127.0.0.1"],
)  # fmt: skip
def test_the_system_reads_every_spelling(network: Network, host: str) -> None:
    """Whatever the real resolver makes of a host, what comes out is looked at."""
    with contextlib.suppress(socket.gaierror), pytest.raises(AddressForbidden):
        GUARDED.resolve(host, 443)
    assert network.asked == [host.strip("[]")]


def test_everything_may_be_accepted(network: Network, listener: socket.socket, port: int) -> None:
    """Then every address is connected to."""
    network.resolves(NAME, ["127.0.0.1"])
    OPEN.connect((NAME, port), timeout=5).close()
    listener.accept()[0].close()


def test_the_next_address_is_tried(network: Network, port: int) -> None:
    """In their order, until one lets us in; IPv6 too."""
    network.resolves(NAME, ["203.0.114.1", PUBLIC_6, PUBLIC])
    network.routed("203.0.114.1", ConnectionRefusedError())
    network.routed(PUBLIC_6, TimeoutError())
    network.routed(PUBLIC, port)
    GUARDED.connect((NAME, port), timeout=5).close()
    assert network.connected == ["203.0.114.1", PUBLIC_6, PUBLIC]
    assert network.peers[1] == (PUBLIC_6, port, 0, 0)


def test_the_last_error_is_told(network: Network) -> None:
    """Where no address lets us in."""
    network.resolves(NAME, [PUBLIC_6, PUBLIC])
    network.routed(PUBLIC_6, ConnectionRefusedError())
    network.routed(PUBLIC, TimeoutError("timed out"))
    with pytest.raises(TimeoutError, match="timed out"):
        GUARDED.connect((NAME, 443), timeout=5)


@pytest.mark.parametrize("timeout", [3.5, None])
def test_sockets_are_set_up_before_they_connect(
    network: Network, port: int, timeout: float | None
) -> None:
    """With the timeout, the options and the source address that urllib3 gives."""
    network.resolves(NAME, ["127.0.0.1"])
    with OPEN.connect(
        (NAME, port),
        timeout=timeout,
        source_address=("127.0.0.1", 0),
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    ) as sock:
        assert sock.gettimeout() == timeout
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockname()[0] == "127.0.0.1"


def test_a_socket_that_cannot_be_set_up(network: Network, port: int) -> None:
    """It counts as an address that does not let us in."""
    network.resolves(NAME, ["127.0.0.1"])
    with pytest.raises(OSError, match="Protocol not available"):
        OPEN.connect((NAME, port), timeout=5, socket_options=[(socket.IPPROTO_TCP, 9999, 1)])
    assert network.connected == []


def test_a_name_that_is_none(network: Network) -> None:
    """The resolver's own error."""
    network.resolves(NAME, socket.gaierror(socket.EAI_NONAME, "no such name"))
    with pytest.raises(socket.gaierror):
        GUARDED.connect((NAME, 443), timeout=5)
    assert network.connected == []


def test_an_empty_answer(network: Network) -> None:
    """No address is no forbidden address."""
    network.resolves(NAME, [])
    with pytest.raises(OSError, match="empty list") as caught:
        GUARDED.connect((NAME, 443), timeout=5)
    assert not isinstance(caught.value, AddressForbidden)


@pytest.mark.parametrize("host", ["a..example", f"{'a' * 64}.example", ".example"])
def test_what_dns_cannot_be_asked(network: Network, host: str) -> None:
    """An empty or a long label is refused before it is asked for, as urllib3 does."""
    with pytest.raises(LocationParseError, match="label empty or too long"):
        GUARDED.resolve(host, 443)
    assert network.asked == []
