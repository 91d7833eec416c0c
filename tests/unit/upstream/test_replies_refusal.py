"""An upstream's refusal, in the shape that clients read."""

import json
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.errors import ErrorCode
from app.upstream.replies import (
    RETRY_AFTER_LIMIT,
    build_error_body,
    choose_retry_after,
    is_oci_error,
)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, {30}, id="a guess"),
        pytest.param({"Retry-After": "7"}, {7}, id="seconds"),
        pytest.param({"retry-after": " 7 "}, {7}, id="spaces"),
        pytest.param({"Retry-After": "0"}, {1}, id="zero"),
        pytest.param({"Retry-After": "000"}, {1}, id="zeros"),
        pytest.param({"Retry-After": "60"}, {60}, id="the limit"),
        pytest.param({"Retry-After": "61"}, {60}, id="beyond the limit"),
        pytest.param({"Retry-After": "21600"}, {60}, id="hours"),
        pytest.param({"Retry-After": "9" * 5000}, {60}, id="beyond numbers"),
        pytest.param({"Retry-After": "soon"}, {30}, id="garbage"),
        pytest.param({"Retry-After": "-5"}, {30}, id="negative"),
        pytest.param({"Retry-After": "1.5"}, {30}, id="fraction"),
        pytest.param({"Retry-After": "²"}, {30}, id="not ASCII"),
        pytest.param({"Retry-After": ""}, {30}, id="empty"),
        pytest.param({"RateLimit-Limit": "100;w=21600"}, {60}, id="Docker Hub's window"),
        pytest.param({"RateLimit-Limit": "100;w=15"}, {15}, id="a short window"),
        pytest.param({"RateLimit-Limit": "100;w=0"}, {1}, id="an empty window"),
        pytest.param({"RateLimit-Limit": "100"}, {30}, id="no window"),
        pytest.param({"RateLimit-Limit": "100;window=5"}, {30}, id="another parameter"),
        pytest.param({"Retry-After": "3", "RateLimit-Limit": "100;w=50"}, {3}, id="both"),
        pytest.param({"Retry-After": "soon", "RateLimit-Limit": "1;w=50"}, {50}, id="one bad"),
    ],
)  # fmt: skip
def test_retry_after(fields: dict[str, str], expected: set[int]) -> None:
    """The upstream's word, or the window, or a guess; a minute at the most."""
    assert int(choose_retry_after(list(fields.items()))) in expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param(20, {17, 18, 19, 20}, id="soon"),
        pytest.param(9999, {60}, id="late"),
        pytest.param(-9999, {1}, id="past"),
    ],
)
@pytest.mark.parametrize(
    "usegmt", [pytest.param([True], id="GMT"), pytest.param([False], id="-0000")]
)
def test_retry_after_a_date(seconds: int, expected: set[int], usegmt: list[bool]) -> None:
    """A date means the seconds until then."""
    date = formatdate(time.time() + seconds, usegmt=usegmt[0])
    assert int(choose_retry_after([("Retry-After", date)])) in expected


@given(
    st.text()
    | st.text(alphabet="0123456789 ,:+-GMTSunJan")
    | st.from_regex(r"[A-Z][a-z]{2}, \d\d? [A-Z][a-z]{2} \d{1,5} \d\d:\d\d:\d\d [-+A-Z0-9]{1,6}")
)
def test_no_retry_after_crashes(text: str) -> None:
    """Whatever an upstream sends, the client gets seconds within the limit."""
    for name in ("Retry-After", "RateLimit-Limit"):
        assert 1 <= int(choose_retry_after([(name, text)])) <= RETRY_AFTER_LIMIT


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"errors":[{"code":"DENIED","message":"no"}]}', id="one"),
        pytest.param(b' {"errors": [{}, {}]} ', id="two"),
        pytest.param('{"errors":[{"message":"ü"}]}'.encode(), id="UTF-8"),
    ],
)
def test_oci_json(body: bytes) -> None:
    """What the specification calls an error body passes as it is."""
    assert is_oci_error(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="a page"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"errors"', id="text"),
        pytest.param(b"{}", id="no errors"),
        pytest.param(b'{"errors":"x"}', id="errors as text"),
        pytest.param(b'{"errors":["x"]}', id="an error as text"),
        pytest.param(b'{"errors":[{}', id="half"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b"\x1f\x8b\x08", id="gzip"),
        pytest.param(b"[" * 60_000, id="depth"),
        pytest.param(b'{"errors":' * 6_000, id="depth of objects"),
        pytest.param(b"9" * 60_000, id="a number without end"),
    ],
)
def test_not_oci_json(body: bytes) -> None:
    """Everything else is told anew, and nothing crashes."""
    assert not is_oci_error(body)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        pytest.param(400, ErrorCode.UNKNOWN, id="400"),
        pytest.param(401, ErrorCode.UNAUTHORIZED, id="401"),
        pytest.param(403, ErrorCode.DENIED, id="403"),
        pytest.param(404, ErrorCode.BLOB_UNKNOWN, id="404"),
        pytest.param(405, ErrorCode.UNSUPPORTED, id="405"),
        pytest.param(416, ErrorCode.UNKNOWN, id="416"),
        pytest.param(429, ErrorCode.TOOMANYREQUESTS, id="429"),
        pytest.param(499, ErrorCode.UNKNOWN, id="not a status of HTTP"),
        pytest.param(500, ErrorCode.UNAVAILABLE, id="500"),
        pytest.param(502, ErrorCode.UNAVAILABLE, id="502"),
        pytest.param(503, ErrorCode.UNAVAILABLE, id="503"),
        pytest.param(599, ErrorCode.UNAVAILABLE, id="beyond"),
        pytest.param(999, ErrorCode.UNAVAILABLE, id="far beyond"),
    ],
)
def test_error_body(status: int, code: ErrorCode) -> None:
    """The code follows the status; a 404 is of what was asked for; the host is named."""
    body = build_error_body(status, ErrorCode.BLOB_UNKNOWN, "cdn.example")
    assert is_oci_error(body)
    (error,) = json.loads(body)["errors"]
    assert error["code"] == code
    assert "cdn.example" in error["message"]
    assert str(status) in error["message"]


@pytest.mark.parametrize(
    ("status", "told", "phrase"),
    [
        pytest.param(503, 401, "401 Unauthorized", id="401 as 503"),
        pytest.param(404, 403, "403 Forbidden", id="403 as 404"),
        pytest.param(503, 799, "799 an unknown status", id="unknown as 503"),
        pytest.param(503, None, "503 Service Unavailable", id="as it is"),
    ],
)
def test_error_body_tells_what_the_upstream_said(
    status: int, told: int | None, phrase: str
) -> None:
    """The message has the upstream's status, the code that of the answer."""
    (error,) = json.loads(build_error_body(status, ErrorCode.BLOB_UNKNOWN, "cdn.example", told))[
        "errors"
    ]
    assert error["message"] == f"cdn.example answered {phrase}"
    assert error["code"] == (ErrorCode.BLOB_UNKNOWN if status == 404 else ErrorCode.UNAVAILABLE)
