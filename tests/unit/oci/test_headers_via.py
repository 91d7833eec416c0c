"""How often a question has come by a proxy of this kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.errors import LoopDetected
from app.oci.headers import get_all, mark_via

MARK = "1.1 docxy"


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        pytest.param([], MARK, id="first"),
        pytest.param(["1.1 somewhere, 1.0 fred (a, b)"], MARK, id="by others"),
        pytest.param([MARK], f"{MARK}, {MARK}", id="second"),
        pytest.param(["1.0 x", f"{MARK} ,{MARK}"], f"{MARK}, {MARK}, {MARK}", id="third"),
        pytest.param(["1.1 docxy.example, 1.1 docxy2"], MARK, id="names like it"),
    ],
)
def test_one_mark_more(came: list[str], expected: str) -> None:
    """Only marks go on: what else is there tells of the client."""
    fields = [("Accept", "a"), *(("via", one) for one in came), ("X", "b")]
    assert mark_via(fields) == [("Accept", "a"), ("X", "b"), ("Via", expected)]


def test_a_question_that_goes_round() -> None:
    """It ends after four rounds."""
    fields = mark_via(mark_via(mark_via(mark_via([("Accept", "a")]))))
    with pytest.raises(LoopDetected):
        mark_via(fields)


@given(st.lists(st.text() | st.just(MARK) | st.from_regex(r"\A1\.1 \w+(, 1\.1 docxy)?\Z")))
def test_any_way(came: list[str]) -> None:
    """Whatever it says, nothing but marks goes up."""
    try:
        (via,) = get_all(mark_via([("Via", one) for one in came]), "via")
    except LoopDetected:
        assert ",".join(came).count("docxy") > 3
    else:
        assert set(via.split(", ")) == {MARK}
