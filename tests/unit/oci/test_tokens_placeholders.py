"""Tokens of our own, for registries that issue none: what they stand for, and nothing else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.headers import Headers
from app.oci.tokens import PLACEHOLDER, build_basic_token, redeem_placeholder

BASIC = "Basic YWxpY2U6cHc="
STANDS_FOR_BASIC = "Bearer docxy.basic.YWxpY2U6cHc="


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        pytest.param(f"Bearer {PLACEHOLDER}", [], id="nothing"),
        pytest.param(f"bearer {PLACEHOLDER}", [], id="nothing, lower case"),
        pytest.param(STANDS_FOR_BASIC, [BASIC], id="Basic credentials"),
        pytest.param(STANDS_FOR_BASIC.replace("Bearer", "BEARER"), [BASIC], id="upper case"),
        pytest.param("Bearer docxy", ["Bearer docxy"], id="a token that begins so"),
        pytest.param("Bearer docxy.basi", ["Bearer docxy.basi"], id="half of it"),
        pytest.param("Bearer docxy.none.x", ["Bearer docxy.none.x"], id="nothing, and more"),
        pytest.param("Bearer docxy.nonesuch", ["Bearer docxy.nonesuch"], id="begins like nothing"),
        pytest.param("Bearer x.docxy.none", ["Bearer x.docxy.none"], id="not in front"),
        pytest.param(
            f"Basic {PLACEHOLDER}",
            [f"Basic {PLACEHOLDER}"],
            id="scheme",
        ),
        pytest.param(BASIC, [BASIC], id="Basic as it is"),
        pytest.param("Bearer t", ["Bearer t"], id="the registry's own token"),
        pytest.param("Bearer", ["Bearer"], id="no token"),
        pytest.param("", [""], id="empty"),
    ],
)
def test_redeemed(authorization: str, expected: list[str]) -> None:
    """What a token of ours stands for takes its place; any other passes as it is."""
    fields: Headers = [("Accept", "a"), ("authorization", authorization), ("X", "y")]
    found = redeem_placeholder(fields, lambda: True)
    assert [text for name, text in found if name.lower() == "authorization"] == expected
    assert [one for one in found if one[0] in {"Accept", "X"}] == [("Accept", "a"), ("X", "y")]


def unasked() -> bool:
    """Stand for a ping that is not needed."""
    pytest.fail("the registry was asked what it takes")


def test_who_takes_no_passwords() -> None:
    """A registry that asks for tokens, or for nothing, is shown none."""
    fields: Headers = [("Accept", "a"), ("Authorization", STANDS_FOR_BASIC)]
    assert redeem_placeholder(fields, lambda: False) == [("Accept", "a")]


@pytest.mark.parametrize("authorization", [f"Bearer {PLACEHOLDER}", "Bearer t", BASIC])
def test_who_is_not_asked(authorization: str) -> None:
    """What stands for no password needs no ping."""
    redeem_placeholder([("Authorization", authorization)], unasked)


def test_no_authorization() -> None:
    """Nothing is put in the place of nothing."""
    assert redeem_placeholder([("Accept", "a")], unasked) == [("Accept", "a")]


@given(st.binary())
def test_basic_credentials_come_back(secret: bytes) -> None:
    """Whatever they are, the registry sees them as the client wrote them."""
    basic = f"Basic {base64.b64encode(secret).decode()}"
    token = build_basic_token(basic)
    if secret:
        fields = [("Authorization", f"Bearer {token}")]
        assert redeem_placeholder(fields, lambda: True) == [("Authorization", basic)]


@pytest.mark.parametrize("written", ["Basic YTpi", "basic YTpi", "BASIC  YTpi ", "Basic   YTpi"])
def test_for_basic(written: str) -> None:
    """However the client spaces it."""
    assert build_basic_token(written) == "docxy.basic.YTpi"
