"""What is written is what came, in order, and never waits in memory without a bound."""

import os
import threading

import pytest

from app.transfer.writing import _MAX_PENDING, GatheringWriter, Pieces
from tests.servers import wait_until


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([1] * 3000, id="single bytes"),
        pytest.param([16 * 1024] * 200, id="records of TLS"),
        pytest.param([256 * 1024, 1, 64 * 1024, 70_000, 0, 300_000] * 8, id="mixed"),
        pytest.param([3 * 1024 * 1024 + 1, 5], id="larger than what may gather"),
    ],
)
def test_pieces_of_all_sizes(sizes: list[int]) -> None:
    """They stay in order, however they are put together; and all is told."""
    written, told = bytearray(), list[int]()
    data = os.urandom(sum(sizes))

    def work(pieces: Pieces) -> None:
        for piece in pieces:
            written.extend(piece)

    writer, at = GatheringWriter(work, lambda: told.append(len(written))), 0
    for size in sizes:
        writer.write(data[at : at + size])
        at += size
    writer.flush()
    assert written == data
    wait_until(lambda: told[-1:] == [len(data)])


def test_what_gathers_is_bounded() -> None:
    """On a disk that is slower than the line, the line waits."""
    piece, count = 64 * 1024, 160
    accepted, done = [0], [0]
    ahead = list[int]()

    def work(pieces: Pieces) -> None:
        size = sum(map(len, pieces))
        # As slow as can be: nothing is done before all that may gather has gathered.
        wait_until(lambda: accepted[0] in {done[0] + size + _MAX_PENDING, count * piece})
        done[0] += size

    writer = GatheringWriter(work, lambda: None)
    for _ in range(count):
        writer.write(bytes(piece))
        accepted[0] += piece
        ahead.append(accepted[0] - done[0])
    writer.flush()
    assert done[0] == count * piece
    assert _MAX_PENDING < max(ahead) <= 2 * _MAX_PENDING


def test_a_failure_is_told() -> None:
    """By the next write too, so that nothing is written behind a gap."""
    calls = list[int]()

    def work(pieces: Pieces) -> None:
        calls.append(len(pieces))
        raise OSError(28, "no room")

    writer = GatheringWriter(work, lambda: None)
    writer.write(b"1")
    with pytest.raises(OSError, match="no room"):
        writer.flush()
    with pytest.raises(OSError, match="no room"):
        writer.write(b"2")
    with pytest.raises(OSError, match="no room"):
        writer.flush()
    assert calls == [1]


def test_whoever_waits_for_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that waits does not wait for ever."""
    monkeypatch.setattr("app.transfer.writing._MAX_PENDING", 10)
    accepted = list[bytes]()

    def work(_: Pieces) -> None:
        wait_until(lambda: len(accepted) > 2)  # the first piece is here, and two wait: it is full
        raise OSError(28, "no room")

    writer = GatheringWriter(work, lambda: None)

    def write_on() -> None:
        for _ in range(100):
            writer.write(b"12345")
            accepted.append(b"12345")

    with pytest.raises(OSError, match="no room"):
        write_on()


def test_what_nobody_expects_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits does not wait for ever."""
    raised = list[str]()
    monkeypatch.setattr(threading, "excepthook", lambda told: raised.append(told.exc_type.__name__))

    def fail(_: Pieces) -> None:
        raise LookupError

    writer = GatheringWriter(fail, lambda: None)
    writer.write(b"1")
    with pytest.raises(OSError, match="LookupError"):
        writer.flush()
    wait_until(lambda: raised == ["LookupError"])
