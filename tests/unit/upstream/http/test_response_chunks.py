"""The reader of chunks: any content, however it comes; and no cut is an end."""

import http.client
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.upstream.http.response import ChunkedReader, MalformedResponse


@dataclass
class Packets(io.RawIOBase):
    """Gives what has come, a packet at a time."""

    packets: list[bytes]
    asleep: bool = False

    def readable(self) -> bool:
        """Tell that it is."""
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override] # typeshed: Buffer
        """Give the next packet, or as much of it as fits."""
        if self.asleep:
            return None
        if not self.packets:
            return 0
        packet = self.packets.pop(0)
        size = min(len(packet), len(buffer))
        buffer[:size] = packet[:size]
        if packet[size:]:
            self.packets.insert(0, packet[size:])
        return size


def chunks_of(packets: list[bytes], buffer: int = 8192) -> ChunkedReader:
    """Return a reader of chunks that come in these packets."""
    raw = Packets([packet for packet in packets if packet])
    reader = io.BufferedReader(raw, buffer)

    def buffered() -> bytes:
        raw.asleep = True
        held = reader.peek()
        raw.asleep = False
        return held

    return ChunkedReader(reader, buffered)


def content(chunks: ChunkedReader, n: int = 1 << 18) -> bytes:
    """Read all."""
    pieces = []
    while data := chunks.read1(n):
        assert len(data) <= n
        pieces.append(data)
    assert chunks.read1(n) == b""
    return b"".join(pieces)


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """Return a chunk."""
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


EXTENSIONS = st.sampled_from([b"", b"", b"", b";a", b" ;a=b", b';a="b;c"', b" "])
TRAILERS = st.sampled_from([b"", b"", b"X-Trailer: a\r\n", b"A: b\r\nC: d\r\n"])
CHUNKS = st.lists(st.tuples(st.binary(min_size=1, max_size=40), EXTENSIONS), max_size=30)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Return a content and a chunked body that has it."""
    pieces = draw(CHUNKS)
    last = b"0%b\r\n%b\r\n" % (draw(EXTENSIONS), draw(TRAILERS))
    whole = b"".join(data for data, _ in pieces)
    return whole, b"".join(chunk(*piece) for piece in pieces) + last


@st.composite
def packets(draw: st.DrawFn, body: bytes) -> list[bytes]:
    """Return a body as it may come."""
    cuts = draw(st.lists(st.integers(0, len(body)), max_size=10))
    bounds = [0, *sorted(cuts), len(body)]
    return [body[begin:end] for begin, end in pairwise(bounds)]


@given(st.data(), bodies(), st.integers(1, 100), st.sampled_from([16, 64, 8192]))
def test_any_content(data: st.DataObject, body: tuple[bytes, bytes], n: int, buffer: int) -> None:
    """It comes as it was, whatever the chunks, the packets, the buffer and the pieces."""
    whole, sent = body
    assert content(chunks_of(data.draw(packets(sent)), buffer), n) == whole


def _noting(chunks: ChunkedReader, came: bytearray) -> Iterator[bytes]:
    """Read all, and note what comes before it breaks."""
    while piece := chunks.read1(1 << 18):
        came += piece
        yield piece


@given(bodies(), st.data())
def test_a_cut_is_no_end(body: tuple[bytes, bytes], data: st.DataObject) -> None:
    """However little is missing, what was read is a beginning of it."""
    whole, sent = body
    cut = data.draw(st.integers(0, len(sent) - 1))
    chunks = chunks_of([sent[:cut]])
    came = bytearray()
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        list(_noting(chunks, came))
    assert whole.startswith(came)


@given(bodies(), st.binary(min_size=1, max_size=40))
def test_what_follows_is_left(body: tuple[bytes, bytes], more: bytes) -> None:
    """Not a byte of what comes after the end is taken."""
    whole, sent = body
    raw = io.BufferedReader(io.BytesIO(sent + more))
    chunks = ChunkedReader(raw, lambda: b"")
    assert content(chunks) == whole
    assert raw.read() == more


@given(st.binary(max_size=60))
def test_whatever_comes(body: bytes) -> None:
    """It ends, or it is refused; nothing else is raised."""
    try:
        content(chunks_of([body]))
    except http.client.HTTPException:
        pass
    else:
        assert body.count(b"0") >= 1


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"1;" + b"x" * 4092 + b"\r\n", id="longest line"),
        pytest.param(b"000000000000001\r\n", id="longest size"),
    ],
)
def test_the_limits_can_be_reached(line: bytes) -> None:
    """What is allowed is read."""
    assert content(chunks_of([line + b"a\r\n0\r\n\r\n"])) == b"a"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"1;" + b"x" * 4093 + b"\r\n", id="longer line"),
        pytest.param(b"0000000000000001\r\n", id="longer size"),
    ],
)
def test_beyond_the_limits(line: bytes) -> None:
    """What is longer is refused, and not taken for a cut."""
    with pytest.raises(MalformedResponse):
        content(chunks_of([line + b"a\r\n0\r\n\r\n"]))


def test_small_chunks_come_together() -> None:
    """A thousand of a byte are no thousand pieces; what is not there is not waited for."""
    chunks = chunks_of([chunk(b"a") * 1000 + chunk(b"b")[:3]])
    assert chunks.read1(1 << 18) == b"a" * 1000


def test_small_chunks_are_no_more_than_was_asked_for() -> None:
    """Each of them would fit; all of them together would not."""
    chunks = chunks_of([chunk(b"abc") * 10 + b"0\r\n\r\n"])
    assert content(chunks, 8) == b"abc" * 10


def test_a_large_chunk_comes_as_it_is_there() -> None:
    """Its end is not waited for."""
    chunks = chunks_of([b"4000\r\nabc"])
    assert chunks.read1(1 << 18) == b"abc"
    with pytest.raises(http.client.IncompleteRead):
        chunks.read1(1)
