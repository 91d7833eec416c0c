"""Whether an answer is what a blob, or a part of it, was asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.source import Reply, Request
from app.upstream.replies import find_mismatch


def asked(range_: str = "", method: str = "GET") -> Request:
    """Return a question for a blob."""
    return Request(method=method, headers=[("Range", range_)] if range_ else [])


def part(content_range: str, length: int | None = None) -> Reply:
    """Return a 206."""
    fields = [("Content-Range", content_range)] if content_range else []
    return Reply(status=206, headers=fields, length=length)


@pytest.mark.parametrize(
    ("wanted", "reply"),
    [
        pytest.param("bytes=5-9", part("bytes 5-9/20", 5), id="as asked"),
        pytest.param("bytes=5-9", part("bytes 5-9/*"), id="no total, no length"),
        pytest.param("bytes=5-9", part("bytes 5-7/20", 3), id="less"),
        pytest.param("bytes=5-99", part("bytes 5-19/20", 15), id="to the end"),
        pytest.param("bytes=5-", part("bytes 5-19/20", 15), id="open"),
        pytest.param("bytes=-5", part("bytes 15-19/20", 5), id="the last"),
        pytest.param("bytes=-5", part("bytes 15-19/*", 5), id="the last, no total"),
        pytest.param("bytes=-50", part("bytes 0-19/20", 20), id="more than there is"),
        pytest.param("bytes=0-1,5-9", part("", 90), id="several"),
        pytest.param("bytes=5-9", Reply(status=200, length=20), id="whole"),
        pytest.param("", Reply(status=200), id="whole as asked"),
        pytest.param("bytes=99-", Reply(status=416), id="refused"),
    ],
)
def test_it_fits(wanted: str, reply: Reply) -> None:
    """What was asked for, or less of it, or the whole."""
    assert find_mismatch(asked(wanted), reply) == ""


@pytest.mark.parametrize(
    ("wanted", "reply"),
    [
        pytest.param("bytes=5-9", part("bytes 0-4/20", 5), id="before"),
        pytest.param("bytes=5-9", part("bytes 6-9/20", 4), id="after"),
        pytest.param("bytes=5-9", part("bytes 5-10/20", 6), id="further"),
        pytest.param("bytes=5-", part("bytes 0-19/20", 20), id="all of it as a part"),
        pytest.param("bytes=5-9", part("", 5), id="no Content-Range"),
        pytest.param("bytes=5-9", part("bytes 9-5/20"), id="backwards"),
        pytest.param("bytes=5-9", part("bytes 5-9/20", 15), id="another length"),
        pytest.param("bytes=5-9", part("", 90), id="several for one"),
        pytest.param("bytes=-5", part("bytes 0-4/20", 5), id="not the last"),
        pytest.param("bytes=-5", part("bytes 14-18/20", 5), id="not to the end"),
    ],
)
def test_another_part(wanted: str, reply: Reply) -> None:
    """Its bytes would be joined to what the client has, where they do not belong."""
    assert "a different part" in find_mismatch(asked(wanted), reply)
    assert find_mismatch(asked(wanted, method="HEAD"), reply) == ""


@given(st.integers(0, 30), st.integers(0, 30), st.none() | st.integers(0, 30), st.integers(0, 30))
def test_any_part(first: int, start: int, last: int | None, count: int) -> None:
    """Of one range, what is let through begins where it should and goes no further."""
    told = part(f"bytes {start}-{start + count}/100", count + 1)
    wanted = f"bytes={first}-{'' if last is None else last}"
    fits = start == first and (last is None or start + count <= last)
    assert (find_mismatch(asked(wanted), told) == "") == (
        fits or (last is not None and last < first)
    )
