"""The client's connection: real sockets, as gunicorn hands them over."""

import socket
import struct
from collections.abc import Iterator

import pytest

from app.routes.connection import ClientConnection
from tests.servers import wait_until


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the two ends of a TCP connection over loopback: ours and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname(), timeout=10)
        ours, _ = listener.accept()
    ours.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def connection(sock: socket.socket, protocol: str = "HTTP/1.1") -> ClientConnection:
    """Return what a view would have."""
    return ClientConnection({"gunicorn.socket": sock, "SERVER_PROTOCOL": protocol})


def test_a_client_that_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    """It is there while nothing happens; looking neither waits nor changes the timeout."""
    ours, _ = pair
    assert not connection(ours).is_gone()
    assert ours.gettimeout() == 10


def test_a_client_that_has_left(pair: tuple[socket.socket, socket.socket]) -> None:
    """It is gone once its end has arrived."""
    ours, theirs = pair
    theirs.close()
    assert ours.recv(1, socket.MSG_PEEK) == b""
    assert connection(ours).is_gone()


def test_a_connection_whose_reading_was_ended(pair: tuple[socket.socket, socket.socket]) -> None:
    """It made room, or the worker stops: its client waits for an answer until it leaves itself."""
    ours, theirs = pair
    ours.shutdown(socket.SHUT_RD)
    assert ours.recv(1, socket.MSG_PEEK) == b""
    assert not connection(ours).is_gone()
    theirs.close()
    wait_until(connection(ours).is_gone, what="the end")


def test_a_client_that_has_left_a_unix_socket() -> None:
    """Nothing but the end tells there."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not connection(ours).is_gone()
        theirs.close()
        assert connection(ours).is_gone()


def test_a_client_that_was_reset(pair: tuple[socket.socket, socket.socket]) -> None:
    """A reset is gone too, and no error."""
    ours, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    with pytest.raises(ConnectionResetError):
        ours.recv(1)
    assert connection(ours).is_gone()


def test_a_client_that_sends_its_next_request(pair: tuple[socket.socket, socket.socket]) -> None:
    """Pipelined bytes are no end, and they stay where they are."""
    ours, theirs = pair
    theirs.sendall(b"GET")
    assert ours.recv(1, socket.MSG_PEEK) == b"G"
    assert not connection(ours).is_gone()
    assert ours.recv(3) == b"GET"


def test_no_socket() -> None:
    """Where the server hands over none, nothing is known and nothing breaks."""
    nobody = ClientConnection({})
    assert not nobody.is_gone()
    nobody.set_stall_timeout(5)
    nobody.restore_timeout()
    nobody.reset_unless_completed(length_known=False)
    nobody.cancel_reset()


@pytest.mark.parametrize("usual", [None, 10.0], ids=["none", "one"])
def test_stalls_are_limited(pair: tuple[socket.socket, socket.socket], usual: float | None) -> None:
    """The socket waits so long for a client, then as long as before; looking changes nothing."""
    ours, _ = pair
    ours.settimeout(usual)
    client = connection(ours)
    client.set_stall_timeout(2.5)
    assert ours.gettimeout() == 2.5
    assert not client.is_gone()
    assert ours.gettimeout() == 2.5
    client.restore_timeout()
    assert ours.gettimeout() == usual


def test_a_client_that_takes_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    """A write to it fails; the socket is of no use then, and nothing else breaks."""
    ours, _ = pair
    client = connection(ours)
    client.set_stall_timeout(0.2)
    with pytest.raises(TimeoutError):
        ours.sendall(bytes(64 * 1024 * 1024))
    client.restore_timeout()
    assert ours.gettimeout() == 10


def test_stalls_of_a_unix_socket() -> None:
    """A Unix socket has the limit too."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = connection(ours)
        client.set_stall_timeout(0.2)
        with pytest.raises(TimeoutError):
            ours.sendall(bytes(64 * 1024 * 1024))
        client.restore_timeout()
        assert ours.gettimeout() is None


@pytest.mark.parametrize(
    ("protocol", "known", "complete", "reset"),
    [
        pytest.param("HTTP/1.0", [False], [False], [True], id="1.0 unfinished"),
        pytest.param("HTTP/1.0", [False], [True], [False], id="1.0 finished"),
        pytest.param("HTTP/1.0", [True], [False], [False], id="1.0 with a length"),
        pytest.param("HTTP/1.1", [False], [False], [False], id="1.1 has chunks"),
    ],
)
def test_an_end_without_a_length(
    pair: tuple[socket.socket, socket.socket],
    protocol: str,
    known: list[bool],
    complete: list[bool],
    reset: list[bool],
) -> None:
    """HTTP/1.0 without a length: what is unfinished ends in a reset, what is whole does not."""
    ours, theirs = pair
    client = connection(ours, protocol)
    client.reset_unless_completed(length_known=known[0])
    ours.sendall(b"body")
    if complete[0]:
        client.cancel_reset()
    ours.close()
    ended = b""
    try:
        while piece := theirs.recv(100):
            ended += piece
    except ConnectionResetError:
        assert reset == [True]
    else:
        assert reset == [False]
        assert ended == b"body"


def test_reading_ends_in_time(pair: tuple[socket.socket, socket.socket]) -> None:
    """Whoever goes on sending bytes is not read beyond the limit, and can still be answered."""
    ours, theirs = pair
    got = 0
    with connection(ours).limit_read_time(0.3) as late:
        theirs.send(b"a")
        while ours.recv(1):
            got += 1
            if not late.wait(0.05):
                theirs.send(b"a")
    assert late.is_set()
    assert 1 <= got <= 8
    ours.sendall(b"too late")
    assert theirs.recv(8) == b"too late"


def test_reading_that_ends_before_its_limit(pair: tuple[socket.socket, socket.socket]) -> None:
    """The connection stays as it was."""
    ours, theirs = pair
    with connection(ours).limit_read_time(0.2) as late:
        theirs.send(b"a")
        assert ours.recv(1) == b"a"
    assert not late.wait(0.4)
    theirs.send(b"b")
    assert ours.recv(1) == b"b"


def test_reading_without_a_socket() -> None:
    """A server that hands over none is not limited, nor troubled."""
    with ClientConnection({}).limit_read_time(0.01) as late:
        assert late.wait(5)
