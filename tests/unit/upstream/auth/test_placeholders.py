"""Answers with tokens of our own, and the logins in token requests."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.source import TokenRequest
from app.upstream.auth import placeholders

BASIC = "Basic YWxpY2U6cHc="
STANDS_FOR_BASIC = "Bearer docxy.basic.YWxpY2U6cHc="


def test_answer() -> None:
    """It has all that clients look for: both names, a lifetime, and when it began."""
    before = datetime.now(UTC).replace(microsecond=0)
    reply = placeholders.build_token_reply("x")
    content = reply.read()
    document = json.loads(content)
    issued_at = datetime.fromisoformat(document.pop("issued_at"))
    assert document == {"token": "x", "access_token": "x", "expires_in": 3600}
    assert before <= issued_at <= datetime.now(UTC)
    assert (reply.status, reply.length) == (200, len(content))
    assert reply.header("content-type") == "application/json"


@pytest.mark.parametrize(
    ("authorization", "parameters", "expected"),
    [
        pytest.param(BASIC, [], BASIC, id="header"),
        pytest.param("bAsIc YTpi", [], "bAsIc YTpi", id="header, any case"),
        pytest.param("", [("username", "alice"), ("password", "pw")], BASIC, id="form"),
        pytest.param("", [("username", "alice")], "Basic YWxpY2U6", id="form, no password"),
        pytest.param(
            "Basic YTpi", [("username", "alice"), ("password", "pw")], "Basic YTpi", id="both"
        ),
        pytest.param(
            "Bearer t", [("username", "alice"), ("password", "pw")], BASIC, id="another scheme"
        ),
        pytest.param("Bearer t", [], "", id="another scheme alone"),
        pytest.param("", [("password", "pw")], "", id="a password alone"),
        pytest.param("", [("account", "alice")], "", id="an account"),
        pytest.param("", [], "", id="nothing"),
    ],
)
def test_basic(authorization: str, parameters: list[tuple[str, str]], expected: str) -> None:
    """A login may be in the header (GET) or in the form (POST)."""
    fields = [("Authorization", authorization)] if authorization else []
    request = TokenRequest(method="GET", parameters=parameters, headers=fields)
    assert placeholders.get_basic_authorization(request) == expected


@given(st.text().filter(lambda text: ":" not in text), st.text())
def test_written(username: str, password: str) -> None:
    """The password is whatever stands behind the first colon (RFC 7617)."""
    scheme, _, encoded = placeholders.format_basic_authorization(username, password).partition(" ")
    assert scheme == "Basic"
    decoded = base64.b64decode(encoded).decode(errors="surrogateescape")
    assert decoded == f"{username}:{password}"


def test_bytes_that_are_not_utf8() -> None:
    """They come from the form as surrogates, and go on as the bytes that they were."""
    encoded = base64.b64encode(b"a:p\xe4").decode()
    assert placeholders.format_basic_authorization("a", "p\udce4") == f"Basic {encoded}"


def identity(header: str = "", **form: str) -> str:
    """Return who asks, with these credentials and something else."""
    fields = [("Authorization", header)] if header else []
    parameters = [("scope", "repository:a:pull"), *form.items()]
    return placeholders.build_identity(
        TokenRequest(method="POST", parameters=parameters, headers=fields)
    )


def test_identity() -> None:
    """Credentials tell one from another, wherever they stand; what is asked for does not."""
    shown = [
        identity(),
        identity(BASIC),
        identity(username="alice"),
        identity(username="alice", password="pw"),  # noqa: S106 - nobody's
        identity(username="alice", password="other"),  # noqa: S106 - nobody's
        identity(username="alice&password=pw"),
        identity(password="pw"),  # noqa: S106 - nobody's
        identity(refresh_token="pw"),  # noqa: S106 - nobody's
        identity(BASIC, refresh_token="pw"),  # noqa: S106 - nobody's
    ]
    assert len(set(shown)) == len(shown)
    assert identity(BASIC, scope="b", client_id="c") == identity(BASIC)
    assert identity(account="alice", grant_type="password") == identity()
