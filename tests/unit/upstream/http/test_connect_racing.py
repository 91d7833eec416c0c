"""The first address to let us in, over real sockets."""

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from app.threads import AddressInfo, ResolutionTimeout
from app.upstream.http import connect
from app.upstream.http.connect import Connector, connect_first
from tests.unit.network import PUBLIC, PUBLIC_6, Network
from tests.unit.upstream.server import PATIENCE

NAME = "registry.example"


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Give a port that answers no connection: nobody accepts, and its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = int(listener.getsockname()[1])
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)  # noqa: FBT003 - socket's own
            filling.connect_ex(("127.0.0.1", port))
        yield port


@pytest.fixture
def hole() -> Iterator[int]:
    """Return the port of a black hole."""
    with black_hole() as port:
        yield port


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port that lets everybody in."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture
def closed() -> int:
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def at(port: int) -> AddressInfo:
    """Return what the resolver would."""
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port)


def winner(*ports: int, timeout: float | None = PATIENCE) -> tuple[int, float]:
    """Return the port that let us in, and after how many seconds."""
    began = time.monotonic()
    with connect_first([at(port) for port in ports], timeout=timeout) as sock:
        assert sock.gettimeout() == timeout
        sock.sendall(b"it works")
        return int(sock.getpeername()[1]), time.monotonic() - began


@pytest.mark.parametrize("timeout", [PATIENCE, None])
def test_the_first_one(port: int, hole: int, timeout: float | None) -> None:
    """Who lets us in at once has no rival."""
    found, seconds = winner(port, hole, timeout=timeout)
    assert found == port
    assert seconds < 0.2


def test_a_refusal_costs_no_time(port: int, closed: int) -> None:
    """The next address is tried at once."""
    found, seconds = winner(closed, closed, port)
    assert found == port
    assert seconds < 0.2


def test_a_black_hole_costs_little(port: int, hole: int) -> None:
    """A quarter of a second, and the next address is tried beside it."""
    found, seconds = winner(hole, port)
    assert found == port
    assert 0.2 < seconds < 2


def test_none_but_black_holes(hole: int) -> None:
    """Each has the timeout, and they have it beside each other."""
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        connect_first([at(hole)] * 3, timeout=0.3)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("order", ["hole first", "refusal first"])
def test_the_last_error_counts(hole: int, closed: int, order: str) -> None:
    """A refusal, or no answer, whichever came last."""
    ports = [hole, closed] if order == "hole first" else [closed, hole]
    with pytest.raises(TimeoutError):
        connect_first([at(port) for port in ports], timeout=0.4)


def test_nowhere_to_go() -> None:
    """As urllib3 says it."""
    with pytest.raises(OSError, match="empty list"):
        connect_first([], timeout=1)


def test_a_family_that_is_not_here(port: int) -> None:
    """A system without IPv6 makes no such socket; the next address is tried."""
    strange: AddressInfo = (socket.AddressFamily(socket.AF_UNSPEC), *at(port)[1:])
    with connect_first([strange, at(port)], timeout=PATIENCE) as sock:
        assert sock.getpeername()[1] == port


def test_the_losers_are_closed(network: Network, hole: int, port: int) -> None:
    """Nothing is left behind, whoever wins: a ResourceWarning would fail this test."""
    network.resolves(NAME, [PUBLIC_6, PUBLIC])
    network.routed(PUBLIC_6, hole)
    network.routed(PUBLIC, port)
    with connector().connect((NAME, 443), timeout=PATIENCE) as sock:
        assert sock.family == socket.AF_INET


def connector(*, prefer_ipv4: bool = False) -> Connector:
    """Return what connects to public addresses."""
    return Connector(allow_private=False, prefer_ipv4=prefer_ipv4)


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_ipv6_without_a_route(
    network: Network, port: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many machines have addresses for names, and no way there: IPv4 follows at once."""
    monkeypatch.setattr(connect, "_HEAD_START", PATIENCE)  # or nobody could tell on a slow machine
    network.resolves(NAME, [PUBLIC_6, PUBLIC])
    network.routed(PUBLIC_6, OSError(code, "no route"))
    network.routed(PUBLIC, port)
    began = time.monotonic()
    connector().connect((NAME, 443), timeout=PATIENCE).close()
    assert time.monotonic() - began < PATIENCE / 2
    assert network.connected == [PUBLIC_6, PUBLIC]


FOUR, SIX = ["93.184.215.1", "93.184.215.2", "93.184.215.3"], ["2606:2800::1", "2606:2800::2"]


@pytest.mark.parametrize(
    ("answer", "prefer_ipv4", "expected"),
    [
        pytest.param([*SIX, *FOUR], False, [SIX[0], FOUR[0], SIX[1], *FOUR[1:]], id="6 first"),
        pytest.param([*FOUR, *SIX], False, [FOUR[0], SIX[0], FOUR[1], SIX[1], FOUR[2]], id="4"),
        pytest.param([*SIX, *FOUR], True, [FOUR[0], SIX[0], FOUR[1], SIX[1], FOUR[2]], id="prefer"),
        pytest.param(SIX, True, SIX, id="there is no other"),
        pytest.param(FOUR, False, FOUR, id="one family"),
    ],
)
def test_the_order(
    network: Network, answer: list[str], expected: list[str], *, prefer_ipv4: bool
) -> None:
    """The families alternate, the system's first choice first (RFC 8305, section 4)."""
    network.resolves(NAME, answer)
    for address in answer:
        network.routed(address, ConnectionRefusedError())
    with pytest.raises(ConnectionRefusedError):
        connector(prefer_ipv4=prefer_ipv4).connect((NAME, 443), timeout=PATIENCE)
    assert network.connected == expected


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout is for the name too, and other registries have threads of their own."""
    answered = threading.Event()
    real = socket.getaddrinfo

    def resolve(host: str, *arguments: object) -> object:
        if host == NAME:
            answered.wait(PATIENCE)
        return real("127.0.0.1", *arguments)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    slow = Connector(allow_private=True, prefer_ipv4=False)
    quick = Connector(allow_private=True, prefer_ipv4=False)
    try:
        for _ in range(8):
            with pytest.raises(ResolutionTimeout):
                slow.resolve(NAME, 443, timeout=0.02)
        assert quick.resolve("other.example", 443, timeout=PATIENCE)
    finally:
        answered.set()
    assert slow.resolve(NAME, 443, timeout=PATIENCE)
