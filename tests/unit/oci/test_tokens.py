"""What a token says of itself, in `app.oci.tokens`."""

import base64
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from app.oci.tokens import build_answer, get_token, list_tokens, parse_claims


def _assemble(header: bytes, payload: bytes) -> str:
    parts = [base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (header, payload)]
    return ".".join([*parts, "c2lnbmVk"])


def test_claims_are_read_without_a_key() -> None:
    """Neither the signature, the time nor the audience is verified."""
    claims = {"sub": "alice", "aud": "registry", "exp": 1, "nbf": 2**40}
    assert parse_claims(jwt.encode(claims, "k" * 32, algorithm="HS256")) == claims


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("opaque", id="opaque"),
        pytest.param("a.b", id="two parts"),
        pytest.param("a.\udce9.c", id="a byte that is not UTF-8"),
        pytest.param(_assemble(b'{"alg":"none"}', b"[]"), id="a list"),
        pytest.param(_assemble(b'{"alg":"none"}', b"\xff"), id="not text"),
        pytest.param(_assemble(b'{"alg":"none"}', b"[" * 100_000), id="nested payload"),
        pytest.param(_assemble(b"[" * 100_000, b"{}"), id="nested header"),
        pytest.param("x." + _assemble(b'{"alg":"none"}', b"{}"), id="four parts"),
    ],
)
def test_other_tokens_have_no_claims(token: str) -> None:
    """A token that is no JWT is opaque, and says nothing."""
    assert parse_claims(token) == {}


@pytest.mark.parametrize("refresh", [None, "r"])
def test_an_answer(refresh: str | None) -> None:
    """The token has both names, and `issued_at` is in a form that Go's time.RFC3339 reads."""
    document = json.loads(build_answer("t", 60.9, refresh))
    issued = datetime.strptime(document.pop("issued_at"), "%Y-%m-%dT%H:%M:%S%z")
    assert abs(datetime.now(UTC) - issued) < timedelta(seconds=30)
    more = {} if refresh is None else {"refresh_token": "r"}
    assert document == {"token": "t", "access_token": "t", "expires_in": 60, **more}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        pytest.param({"token": "t"}, ["t"], id="as GET reads it"),
        pytest.param({"access_token": "a"}, ["a"], id="as POST reads it"),
        pytest.param({"access_token": "t", "token": "t"}, ["t"], id="the same"),
        pytest.param({"access_token": "a", "token": "t"}, ["t", "a"], id="two"),
        pytest.param({"token": "", "access_token": "a"}, ["a"], id="an empty one"),
        pytest.param({"token": 7, "access_token": ["a"]}, [], id="other types"),
        pytest.param({}, [], id="none"),
    ],
)
def test_the_tokens_of_an_answer(answer: dict[str, object], found: list[str]) -> None:
    """Each is listed once, and the first of them is the token."""
    assert list_tokens(answer) == found
    assert get_token(answer) == next(iter(found), "")
