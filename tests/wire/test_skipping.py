"""An upstream that ignores Range sends what the client has already: it is read, within bounds."""

import time

import pytest

from tests.wire.upstream import Connection, head
from tests.wire.wires import BLOB, Start, Wire

SIZE = 4_000_000
HAD = 1_000_000
BYTES = bytes(range(250)) * (SIZE // 250)


@pytest.fixture
def resuming(start: Start) -> Wire:
    """Return a proxy that goes on for a second without a byte."""
    return start(DOCXY_RESUME_BUDGET="1", DOCXY_RETRY_BUDGET="1")


def dripping(connection: Connection) -> None:
    """Send the beginning and cut it; to whoever asks again, send all of it, but slowly."""
    asked = connection.head()
    connection.send(head(f"Content-Length: {SIZE}"))
    if not asked.value("Range"):
        connection.send(BYTES[:HAD])
        return
    for at in range(0, SIZE, 100):
        connection.send(BYTES[at : at + 100])
        if connection.left.wait(0.05):
            return


def test_nothing_is_dropped_for_a_client_that_has_left(resuming: Wire) -> None:
    """However steadily it drips."""
    resuming.upstream.play(dripping)
    with resuming.client() as client:
        client.ask(BLOB)
        client.head()
        assert client.exactly(HAD) == BYTES[:HAD]
        second = resuming.upstream.connection(1)
        resuming.upstream.wait_for_requests(2)
    assert second.left.wait(2)
    resuming.upstream.play(dripping)


def test_what_is_dropped_too_slowly_is_given_up(resuming: Wire) -> None:
    """The client hears of it soon after the time that a body may bring nothing."""
    resuming.upstream.play(dripping)
    started = time.monotonic()
    with resuming.client() as client:
        answer = client.get(BLOB)
    assert not answer.complete
    assert answer.body == BYTES[:HAD]
    assert time.monotonic() - started < 10
    resuming.upstream.play(dripping)


def test_nothing_is_waited_for_beyond_the_range(resuming: Wire) -> None:
    """The client has all that it wanted, and asks on over the same connection."""

    def script(connection: Connection) -> None:
        asked = connection.head()
        if not asked.value("Range").endswith(f"-{HAD - 1}"):
            connection.send(head("Content-Length: 2"), b"{}")
        elif asked.value("Range").startswith("bytes=0-"):
            part = f"Content-Range: bytes 0-{HAD - 1}/{SIZE}"
            status = "206 Partial Content"
            connection.send(head(f"Content-Length: {HAD}", part, status=status), BYTES[: HAD // 2])
        else:
            connection.send(head(f"Content-Length: {SIZE}"), BYTES[:HAD])
            connection.until_left()

    resuming.upstream.play(script)
    with resuming.client() as client:
        answer = client.get(BLOB, f"Range: bytes=0-{HAD - 1}")
        assert (answer.body, answer.complete) == (BYTES[:HAD], True)
        client.settimeout(5)
        assert client.get("/health").status == 200
