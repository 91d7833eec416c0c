"""Which bytes of a blob an answer carries."""

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from app.oci.conditional import ContentRange
from app.upstream.http.body import get_content_range, parse_unsatisfied_total


def answer(status: int, *fields: tuple[str, str]) -> requests.Response:
    """Return an answer with these fields."""
    response = requests.Response()
    response.status_code = status
    response.url = "https://cdn.example/"
    headers = urllib3.HTTPHeaderDict(list(fields))
    response.headers = requests.structures.CaseInsensitiveDict(headers)
    response.raw = urllib3.HTTPResponse(b"", headers, status, preload_content=False)
    return response


def ranged(value: str, *fields: tuple[str, str]) -> requests.Response:
    """Return a 206 with this Content-Range."""
    return answer(206, ("Content-Range", value), *fields)


TEN = ("Content-Length", "10")


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        pytest.param(answer(200, TEN), ContentRange(0, 10, 10), id="200"),
        pytest.param(answer(200), ContentRange(0, None, None), id="200, no length"),
        pytest.param(answer(200, ("Content-Length", "0")), ContentRange(0, 0, 0), id="empty"),
        pytest.param(
            answer(200, TEN, ("Content-Encoding", "Identity")),
            ContentRange(0, 10, 10),
            id="identity",
        ),
        pytest.param(answer(200, TEN, ("Content-Encoding", "gzip")), None, id="gzip"),
        pytest.param(ranged("bytes 5-14/20", TEN), ContentRange(5, 15, 20), id="206"),
        pytest.param(ranged(" bytes 5-14/20 ", TEN), ContentRange(5, 15, 20), id="spaces"),
        pytest.param(ranged("bytes 5-14/20"), ContentRange(5, 15, 20), id="206, no length"),
        pytest.param(ranged("bytes 5-14/*", TEN), ContentRange(5, 15, None), id="no total"),
        pytest.param(ranged("bytes 0-9/10", TEN), ContentRange(0, 10, 10), id="all of it"),
        pytest.param(ranged("bytes 5-14/14", TEN), None, id="beyond the total"),
        pytest.param(ranged("bytes 5-15/20", TEN), None, id="another length"),
        pytest.param(ranged("bytes 9-5/20"), None, id="backwards"),
        pytest.param(ranged("bytes */20"), None, id="none"),
        pytest.param(ranged("items 5-14/20"), None, id="another unit"),
        pytest.param(ranged("bytes -5-14/20"), None, id="negative"),
        pytest.param(ranged("bytes 5-14/20, bytes 5-14/20"), None, id="two"),
        pytest.param(ranged("bytes 5-14/" + "9" * 19), None, id="absurd"),
        pytest.param(answer(206, TEN), None, id="206 alone"),
        pytest.param(
            answer(206, TEN, ("Content-Type", "multipart/byteranges; boundary=x")), None,
            id="several",
        ),
        *(pytest.param(answer(one, TEN), None, id=str(one)) for one in (201, 204, 307, 403, 416)),
    ],
)  # fmt: skip
def test_part_of(response: requests.Response, expected: ContentRange | None) -> None:
    """What can be read with certainty, or nothing."""
    assert get_content_range(response) == expected


@pytest.mark.parametrize(
    ("part", "wanted", "expected"),
    [
        pytest.param(ContentRange(5, 20, 20), ContentRange(5, 20, 20), True, id="the rest"),
        pytest.param(ContentRange(5, 10, 20), ContentRange(5, 20, 20), True, id="some of it"),
        pytest.param(ContentRange(5, 20, None), ContentRange(5, 20, 20), True, id="no total"),
        pytest.param(
            ContentRange(5, 20, 20), ContentRange(5, None, None), True, id="nothing known"
        ),
        pytest.param(ContentRange(0, None, None), ContentRange(0, 20, 20), True, id="no length"),
        pytest.param(ContentRange(4, 20, 20), ContentRange(5, 20, 20), False, id="before"),
        pytest.param(ContentRange(6, 20, 20), ContentRange(5, 20, 20), False, id="after"),
        pytest.param(ContentRange(5, 20, 21), ContentRange(5, 20, 20), False, id="another total"),
        pytest.param(ContentRange(5, 20, 20), ContentRange(5, 15, 20), False, id="more than asked"),
        pytest.param(
            ContentRange(5, 20, 30), ContentRange(5, 25, None), True, id="a total is told now"
        ),
        pytest.param(
            ContentRange(5, 20, 20),
            ContentRange(5, 25, None),
            False,
            id="a total that is too short",
        ),
    ],
)
def test_continues(part: ContentRange, wanted: ContentRange, *, expected: bool) -> None:
    """It begins where it should, goes no further, and is of the same whole."""
    assert part.continues(wanted) is expected


NUMBERS = st.integers(0, 30)


@given(NUMBERS, NUMBERS, NUMBERS | st.none(), NUMBERS | st.none())
def test_any_numbers(start: int, last: int, total: int | None, length: int | None) -> None:
    """A part is what fits together, and nothing else is one."""
    told = f"bytes {start}-{last}/{'*' if total is None else total}"
    fields = [] if length is None else [("Content-Length", str(length))]
    fits = start <= last and (total is None or last < total) and length in {None, last + 1 - start}
    expected = ContentRange(start, last + 1, total) if fits else None
    assert get_content_range(ranged(told, *fields)) == expected


@given(st.text() | st.from_regex(r"\Abytes \*/[0-9]+\Z"))
def test_any_refusal_of_a_part(value: str) -> None:
    """It tells a total that can be read, or nothing; and only a 416 does."""
    told = ("Content-Range", value.encode("ascii", "replace").decode())
    total = parse_unsatisfied_total(answer(416, told))
    assert total is None or told[1].strip() == f"bytes */{total}".replace(
        str(total), told[1].strip().rpartition("/")[2]
    )
    assert parse_unsatisfied_total(answer(206, told)) is None


@given(st.text() | st.from_regex(r"\Abytes \d+-\d+/(\d+|\*)\Z"))
def test_any_content_range(value: str) -> None:
    """Whatever it says, what is taken for a part is one."""
    part = get_content_range(ranged(value.encode("ascii", "replace").decode()))
    if part is not None:
        assert part.end is not None
        assert 0 <= part.start < part.end <= (part.total or part.end)
