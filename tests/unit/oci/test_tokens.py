"""What a token says of itself, in `app.oci.tokens`."""

import base64

import jwt
import pytest

from app.oci.tokens import parse_claims


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
