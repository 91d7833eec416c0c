"""Which tokens are nobody's."""

import base64
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.upstream.auth.issued import AnonymousTokens


def jwt(claims: object) -> str:
    """Return a token that claims this; its signature is nobody's business here."""
    parts = (json.dumps({"alg": "none"}).encode(), json.dumps(claims).encode(), b"signed")
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        pytest.param(f"Bearer {jwt({'sub': ''})}", True, id="no subject"),
        pytest.param(f"bearer {jwt({'sub': '', 'x': '-'})}", True, id="lower case"),
        pytest.param(f"Bearer {jwt({'sub': 'alice'})}", False, id="alice"),
        pytest.param(f"Bearer {jwt({'sub': None})}", False, id="null"),
        pytest.param(f"Bearer {jwt({'sub': 0})}", False, id="zero"),
        pytest.param(f"Bearer {jwt({})}", False, id="not told"),
        pytest.param(f"Bearer {jwt([''])}", False, id="a list"),
        pytest.param(f"Basic {jwt({'sub': ''})}", False, id="Basic"),
        pytest.param(f"Bearer x.{jwt({'sub': ''})}", False, id="four parts"),
        pytest.param("Bearer opaque", False, id="opaque"),
        pytest.param("Bearer a.b.c", False, id="no base64"),
        pytest.param("Bearer a.\u00e9.c", False, id="not even ASCII"),
        pytest.param("Bearer", False, id="no token"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_what_a_token_says_itself(authorization: str, *, expected: bool) -> None:
    """An empty `sub` is nobody's, as distribution's token service writes it."""
    assert AnonymousTokens("r.example").is_anonymous(authorization) is expected


@pytest.mark.parametrize("name", ["token", "access_token"])
def test_what_was_issued_here(name: str) -> None:
    """Tokens that say nothing are known where they passed by, whatever their name was."""
    known = AnonymousTokens("r.example")
    known.record(json.dumps({name: "opaque", "expires_in": 300}).encode())
    assert known.is_anonymous("Bearer opaque")
    assert not known.is_anonymous("Bearer other")
    assert not known.is_anonymous("Basic opaque")
    assert AnonymousTokens("r.example").is_anonymous("Bearer opaque"), "another worker's"
    assert not AnonymousTokens("other.example").is_anonymous("Bearer opaque")


@pytest.mark.parametrize(
    "answer", [b"", b"null", b"[]", b"{", b'{"token":7}', b'{"token":""}', b"[" * 100_000, b"\xff"]
)
def test_answers_that_hold_none(answer: bytes) -> None:
    """They are passed on, and nothing is known by them."""
    known = AnonymousTokens("r.example")
    known.record(answer)
    assert not known.is_anonymous("Bearer ")
    assert not known.is_anonymous("Bearer 7")


def test_memory_is_bounded() -> None:
    """Newer ones take the places of older ones; most of the last thousands are known."""
    known = AnonymousTokens("r.example")
    for number in range(100_000):
        known.record(json.dumps({"token": f"t{number}"}).encode())
    assert known.is_anonymous("Bearer t99999")
    assert sum(known.is_anonymous(f"Bearer t{number}") for number in range(90_000, 100_000)) > 8_000
    assert sum(known.is_anonymous(f"Bearer t{number}") for number in range(10_000)) < 5_000


def test_what_another_worker_issued() -> None:
    """Both are forked from one process."""
    known = AnonymousTokens("r.example")
    assert not known.is_anonymous("Bearer from a child")
    if (child := os.fork()) == 0:
        known.record(b'{"token":"from a child"}')
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert known.is_anonymous("Bearer from a child")


@given(st.text(), st.binary())
def test_nothing_is_an_error(authorization: str, answer: bytes) -> None:
    """Whatever clients and token services write."""
    known = AnonymousTokens("r.example")
    known.record(answer)
    assert known.is_anonymous(authorization) in {True, False}
    assert known.is_anonymous(f"Bearer {authorization}") in {True, False}
