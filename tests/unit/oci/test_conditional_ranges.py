"""Range headers, read as RFC 9110 has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.conditional import ByteRange, parse_range


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
