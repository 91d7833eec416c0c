"""Range and Content-Range headers, read as RFC 9110 has them, and where Werkzeug differs."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_content_range_header, parse_range_header

from app.oci.conditional import (
    ByteRange,
    ContentRange,
    build_range,
    parse_content_range,
    parse_range,
)


@pytest.mark.parametrize(
    ("header", "size", "part"),
    [
        pytest.param("bytes=0-9", 100, (0, 10), id="the first ten"),
        pytest.param("bytes=90-99", 100, (90, 100), id="the last ten"),
        pytest.param("bytes=90-100", 100, (90, 100), id="one too many"),
        pytest.param("bytes=90-999999999999", 100, (90, 100), id="far too many"),
        pytest.param("bytes=10-", 100, (10, 100), id="from a byte on"),
        pytest.param("bytes=-10", 100, (90, 100), id="the last so many"),
        pytest.param("bytes=-1000", 100, (0, 100), id="more than there are"),
        pytest.param("bytes=-0", 100, None, id="the last none"),
        pytest.param("bytes=100-", 100, None, id="past the end"),
        pytest.param("bytes=0-0", 0, None, id="of nothing"),
        pytest.param("BYTES=0-0", 1, (0, 1), id="in capitals"),
        pytest.param(" bytes= 5-6 ", 10, (5, 7), id="with blanks"),
    ],
)
def test_a_range_is_cut_to_what_there_is(
    header: str, size: int, part: tuple[int, int] | None
) -> None:
    """The start must be there; the end need not."""
    wanted = parse_range(header)
    assert wanted is not None
    assert wanted.resolve(size) == part


NO_SINGLE_RANGES = [
    "",
    "bytes",
    "bytes=",
    "bytes=-",
    "bytes=5-4",
    "bytes=a-b",
    "items=0-1",
    "bytes=0-1,5-6",
    "bytes=0--1",
    "bytes=+1-2",
    "bytes=1-2-3",
    f"bytes={'9' * 30}-",
    "bytes=\u0663-",
    "bytes =0-1",
    "bytes=0 -1",
]


def test_what_is_no_single_range_asks_for_the_whole() -> None:
    """As RFC 9110 lets a server do."""
    for header in NO_SINGLE_RANGES:
        assert parse_range(header) is None


@given(st.integers(0, 1000), st.integers(0, 1000) | st.none(), st.integers(0, 1000))
def test_a_part_lies_in_the_whole(first: int, last: int | None, size: int) -> None:
    """Whatever is asked for."""
    part = ByteRange(first, last).resolve(size)
    expected = range(size)[first : None if last is None else last + 1]
    assert part == ((expected.start, expected.stop) if expected else None)


@given(st.text(alphabet="bytes=0123456789-, ", max_size=20))
def test_no_header_fails(header: str) -> None:
    """Nothing that a client sends raises."""
    wanted = parse_range(header)
    if wanted is not None:
        wanted.resolve(10)


@given(st.integers(0, 10**17), st.integers(1, 10**17) | st.none())
def test_what_is_asked_for_is_read_as_that(start: int, count: int | None) -> None:
    """A range that is built is the range that is read."""
    end = None if count is None else start + count
    _, header = build_range(start, end)
    assert parse_range(header) == ByteRange(start, None if end is None else end - 1)


NUMBERS = st.integers(0, 10**18 - 1).map(str) | st.text(string.digits, min_size=1, max_size=3)


UNITS = st.sampled_from(["bytes=", "BYTES=", "items="])


@given(UNITS, NUMBERS | st.just(""), NUMBERS | st.just(""))
def test_a_range_is_what_werkzeug_reads(unit: str, first: str, last: str) -> None:
    """In all headers that the grammar allows, but for the last 0 bytes, which are a range too."""
    header = f"{unit}{first}-{last}"
    read, ours = parse_range_header(header), parse_range(header)
    if not first and last and not int(last):
        assert read is None
        assert ours == (None if unit == "items=" else ByteRange(None, 0))
        return
    expected = None
    if read is not None and read.units == "bytes":
        ((start, end),) = read.ranges
        last_byte = None if end is None else end - 1
        expected = ByteRange(None, -start) if start < 0 else ByteRange(start, last_byte)
    assert ours == expected


@given(NUMBERS, NUMBERS, NUMBERS | st.just("*"))
def test_a_content_range_is_what_werkzeug_reads(first: str, last: str, total: str) -> None:
    """In all headers that the grammar allows, but for an end past the whole, which is invalid."""
    value = f"bytes {first}-{last}/{total}"
    read, ours = parse_content_range_header(value), parse_content_range(value)
    if (total != "*" and int(last) >= int(total)) or read is None:
        assert ours is None
    else:
        assert ours == ContentRange(int(first), int(last) + 1, read.length)


def test_the_last_0_bytes_are_a_range() -> None:
    """Werkzeug would have the whole sent; see docs/decisions/reading-upstream/ranges.md."""
    assert parse_range_header("bytes=-0") is None
    assert parse_range("bytes=-0") is not None


@pytest.mark.parametrize("header", ["bytes =0-1", "bytes=0 - 1", f"bytes={'9' * 30}-"])
def test_a_range_outside_the_grammar(header: str) -> None:
    """Werkzeug reads it."""
    assert parse_range_header(header) is not None
    assert parse_range(header) is None


@pytest.mark.parametrize(
    "value",
    ["bytes 5-14/14", "bytes  5-14/20", "bytes 5 - 14/ 20", f"bytes 5-14/{'9' * 30}"],
)
def test_an_invalid_content_range(value: str) -> None:
    """Werkzeug reads it."""
    assert parse_content_range_header(value) is not None
    assert parse_content_range(value) is None
