"""Bodies: read as they are, and never ended quietly."""

import io
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import requests
from urllib3 import HTTPHeaderDict, HTTPResponse

from app.oci.errors import UpstreamMisbehaved, UpstreamUnavailable
from app.source import BodyBroken, has_body
from app.upstream.http.body import Body, get_content_length, read_document, read_whole
from app.upstream.http.deadlines import NO_LIMIT
from tests.unit.upstream.clock import Clock


def response(
    body: io.IOBase | bytes = b"", headers: list[tuple[str, str]] | None = None, status: int = 200
) -> requests.Response:
    """Return a response as requests has it with `stream=True`."""
    made = requests.Response()
    made.status_code = status
    stream = io.BytesIO(body) if isinstance(body, bytes) else body
    made.raw = HTTPResponse(
        body=stream, headers=HTTPHeaderDict(headers or []), status=status, preload_content=False
    )
    return made


class Breaks(io.BytesIO):
    """Gives what it has, and then breaks."""

    def read1(self, size: int | None = -1, /) -> bytes:
        """Give the next bytes."""
        if data := super().read1(-1 if size is None else size):
            return data
        raise ConnectionResetError


def test_a_body_comes_raw() -> None:
    """What is compressed stays compressed: digests are of what is stored."""
    packed = b"\x1f\x8b" + bytes(range(50))
    got = response(packed, [("Content-Encoding", "gzip"), ("Content-Length", str(len(packed)))])
    assert b"".join(Body(got)) == packed


def test_pieces_are_bounded() -> None:
    """Memory does not grow with the size of a layer."""
    data = b"x" * (1024 * 1024)
    pieces = list(Body(response(data)))
    assert max(map(len, pieces)) <= 256 * 1024
    assert b"".join(pieces) == data


class Endless(io.RawIOBase):
    """Gives as much as it is asked for."""

    def read1(self, size: int = -1, /) -> bytes:
        """Give zeros."""
        return bytes(size)


MIB = 1024 * 1024


def taken(pieces: Iterator[bytes], size: int) -> list[int]:
    """Take so many bytes and return the lengths of the pieces."""
    lengths: list[int] = []
    while sum(lengths) < size:
        lengths.append(len(next(pieces)))
    return lengths


def test_pieces_grow_for_those_who_take_them(clock: Clock) -> None:
    """The first ones may only fill the kernel's buffers; then they are as large as they get."""
    del clock
    pieces = iter(Body(response(Endless())))
    assert set(taken(pieces, 8 * MIB)) == {64 * 1024}
    assert set(taken(pieces, 8 * MIB)) == {256 * 1024}


def test_pieces_are_small_for_those_who_let_them_wait(clock: Clock) -> None:
    """Once in a while is enough, since a buffer that has room takes several at once."""
    pieces = iter(Body(response(Endless())))
    taken(pieces, 16 * MIB)
    for _ in range(3):
        clock.pass_by(0.6)
        assert set(taken(pieces, 4 * MIB)) == {64 * 1024}
    assert set(taken(pieces, 4 * MIB + 1)) == {64 * 1024, 256 * 1024}


def test_pieces_stay_large_for_one_among_many(clock: Clock) -> None:
    """Whoever waits for the others' turns is not slow."""
    pieces = iter(Body(response(Endless())))
    taken(pieces, 8 * MIB)
    for _ in range(100):
        clock.pass_by(0.4)
        assert len(next(pieces)) == 256 * 1024


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(Breaks(b"half"), [], id="reset"),
        pytest.param(Breaks(b"half"), [("Content-Length", "9")], id="reset, length known"),
        pytest.param(b"half", [("Content-Length", "9")], id="short"),
    ],
)
def test_a_broken_body_is_broken(body: io.IOBase | bytes, headers: list[tuple[str, str]]) -> None:
    """What came is handed on, and then it breaks; the reader of small answers says 503."""
    pieces = iter(Body(response(body, headers)))
    assert next(pieces) == b"half"
    with pytest.raises(BodyBroken):
        next(pieces)


def test_read_whole() -> None:
    """Up to the limit, and not a byte more."""
    assert read_whole(response(b"1234"), 4, NO_LIMIT) == b"1234"
    with pytest.raises(UpstreamMisbehaved, match="larger than 3"):
        read_whole(response(b"1234"), 3, NO_LIMIT)


def test_read_whole_of_what_breaks() -> None:
    """Nothing of it has reached the client: 503, and the host that failed is named."""
    got = response(Breaks(b"half"))
    got.url = "https://user:s3cr3t@r.example/x?y"
    with pytest.raises(UpstreamUnavailable, match=r"^r\.example: ") as caught:
        read_whole(got, 100, NO_LIMIT)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("count", range(1, 12))
def test_a_document_whose_end_is_the_connections(count: int) -> None:
    """A cut looks like an end there, but leaves no JSON."""
    document = b' {"a": {}} \n'
    assert read_document(response(document), 100, NO_LIMIT) == document
    with pytest.raises(UpstreamUnavailable) if count in range(2, 10) else nullcontext():
        read_document(response(document[:count]), 100, NO_LIMIT)


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        pytest.param(b'{"a"', [("Content-Length", "4")], id="length"),
        pytest.param(b"\x1f\x8b{", [("Content-Encoding", "gzip")], id="encoded"),
        pytest.param(b"<html>{", [], id="no JSON at all"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_what_is_no_document_passes(content: bytes, fields: list[tuple[str, str]]) -> None:
    """It has come as it was sent, and is the client's to refuse."""
    assert read_document(response(content, fields), 100, NO_LIMIT) == content


@pytest.mark.parametrize("limit", [3, 4], ids=["too large", "whole"])
def test_read_whole_closes(limit: int) -> None:
    """However it ends."""
    got = response(b"1234")
    if limit < 4:
        with pytest.raises(UpstreamMisbehaved):
            read_whole(got, limit, NO_LIMIT)
    else:
        read_whole(got, limit, NO_LIMIT)
    assert got.raw.closed


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        pytest.param("GET", 200, [True], id="GET"),
        pytest.param("HEAD", 200, [False], id="HEAD"),
        pytest.param("GET", 204, [False], id="204"),
        pytest.param("GET", 304, [False], id="304"),
        pytest.param("GET", 416, [True], id="416"),
        pytest.param("HEAD", 404, [False], id="HEAD, 404"),
    ],
)
def test_has_body(method: str, status: int, expected: list[bool]) -> None:
    """RFC 9112, section 6.3."""
    assert [has_body(method, status)] == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([("Content-Length", "0")], 0, id="zero"),
        pytest.param([("Content-Length", "42")], 42, id="some"),
        pytest.param([("Transfer-Encoding", "chunked")], None, id="chunks"),
    ],
)
def test_content_length(headers: list[tuple[str, str]], expected: int | None) -> None:
    """What is declared; chunks have no length."""
    assert get_content_length(response(headers=headers)) == expected
