"""Conditional headers, for content that is known by its ETag."""

import pytest

from app.oci.conditional import build_etag, evaluate_conditions, get_range_header
from app.oci.reference import Digest

DIGEST = Digest("sha256:abc")
ETAG = build_etag(DIGEST)


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        pytest.param("If-None-Match", ETAG, 304, id="known"),
        pytest.param("If-None-Match", f"W/{ETAG}", 304, id="known weakly"),
        pytest.param("If-None-Match", f'"other", {ETAG}', 304, id="known among others"),
        pytest.param("If-None-Match", "*", 304, id="known, whatever it is"),
        pytest.param("If-None-Match", '"other"', None, id="not known"),
        pytest.param("If-None-Match", '"sha256:abcd"', None, id="not known, but alike"),
        pytest.param("If-None-Match", f'"a,b", {ETAG}', 304, id="known, after a comma in a tag"),
        pytest.param("If-None-Match", f',, "a" ,\t{ETAG} ,', 304, id="known, with empty members"),
        pytest.param("If-None-Match", DIGEST, 304, id="known, without quotes"),
        pytest.param("If-None-Match", f"x{ETAG}, {ETAG}x", None, id="no tags"),
        pytest.param("If-None-Match", "", None, id="nothing"),
        pytest.param("If-None-Match", " * ", 304, id="known, whatever it is, with blanks"),
        pytest.param("If-Match", ETAG, None, id="as wanted"),
        pytest.param("If-Match", "*", None, id="wanted, whatever it is"),
        pytest.param("If-Match", f'"other", {ETAG}', None, id="as wanted, among others"),
        pytest.param("If-Match", f"W/{ETAG}", 412, id="wanted weakly"),
        pytest.param("If-Match", f"w/{ETAG}", 412, id="wanted weakly, in small letters"),
        pytest.param("If-Match", "", 412, id="nothing wanted"),
        pytest.param("If-Match", '"other"', 412, id="another one wanted"),
        pytest.param("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT", None, id="a date"),
        pytest.param("Accept", "*/*", None, id="no condition"),
    ],
)
def test_a_condition_is_judged(name: str, value: str, status: int | None) -> None:
    """By the ETag alone."""
    assert evaluate_conditions([(name, value)], DIGEST) == status


def test_what_is_wanted_comes_first() -> None:
    """If-Match is judged before If-None-Match (RFC 9110, section 13.2.2)."""
    assert evaluate_conditions([("If-None-Match", ETAG), ("If-Match", '"other"')], DIGEST) == 412


def test_conditions_may_come_in_several_lines() -> None:
    """They are one list."""
    assert (
        evaluate_conditions([("If-None-Match", '"other"'), ("If-None-Match", ETAG)], DIGEST) == 304
    )


@pytest.mark.parametrize(
    ("only", "counts"),
    [(None, True), (ETAG, True), ('"other"', False), (f"W/{ETAG}", False), ("a date", False)],
)
def test_a_range_may_be_meant_for_one_tag(only: str | None, counts: bool) -> None:  # noqa: FBT001 - the table's
    """If-Range lets it count for that one only."""
    fields = [("Range", "bytes=0-1"), *([("If-Range", only)] if only else [])]
    assert get_range_header(fields, DIGEST) == ("bytes=0-1" if counts else "")
