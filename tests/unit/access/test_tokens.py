"""Tokens of this proxy: whose they are, for what, and which are none."""

import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from app.access.tokens import LIFETIME, Bearer, TokenIssuer
from app.oci.errors import TokenInvalid

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
NGINX, APP = "docker.io/library/nginx", "ghcr.io/owner/app"


class Passwords:
    """Users by name, with what their passwords are checked with."""

    is_slow = False

    def __init__(self) -> None:
        self.secrets = {"alice": "1", "bob": "1"}

    def lookup_secret(self, name: str) -> str | None:
        """Return a user's."""
        return self.secrets.get(name)

    def get_decoy_secret(self, name: str) -> str:
        """Return anything."""
        return name

    def matches(self, secret: str, password: bytes) -> bool:
        """Compare."""
        return secret.encode() == password


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return time.time() + self.ahead


@pytest.fixture
def users() -> Passwords:
    return Passwords()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(users: Passwords, clock: Clock) -> TokenIssuer:
    return TokenIssuer(KEY, users, clock)


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token claims."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_an_access_token(tokens: TokenIssuer) -> None:
    """It says whose it is and what for, and lives for some minutes."""
    token = tokens.issue_access_token("alice", [NGINX, APP, NGINX])
    assert tokens.verify_access_token(token) == Bearer("alice", frozenset({NGINX, APP}))
    claims = claims_of(token)
    assert claims["exp"] - claims["iat"] == LIFETIME == 300
    assert claims["access"][0] == {"type": "repository", "name": NGINX, "actions": ["pull"]}
    assert tokens.verify_access_token(tokens.issue_access_token("bob", [])) == Bearer(
        "bob", frozenset()
    )


def test_another_worker_takes_it(tokens: TokenIssuer, users: Passwords) -> None:
    """All have the same key."""
    assert (
        TokenIssuer(KEY, users).verify_access_token(tokens.issue_access_token("alice", [APP])).user
        == "alice"
    )
    assert (
        TokenIssuer(KEY, users).verify_refresh_token(tokens.issue_refresh_token("alice")) == "alice"
    )


def test_one_kind_is_not_the_other(tokens: TokenIssuer) -> None:
    """A token that lives for months opens nothing by itself."""
    with pytest.raises(TokenInvalid):
        tokens.verify_access_token(tokens.issue_refresh_token("alice"))
    with pytest.raises(TokenInvalid):
        tokens.verify_refresh_token(tokens.issue_access_token("alice", [APP]))


@pytest.mark.parametrize("change", ["removed", "another password"])
def test_a_user_changes(tokens: TokenIssuer, users: Passwords, change: str) -> None:
    """Both kinds end with what they were given for; other users' go on."""
    access, refresh, others = (
        tokens.issue_access_token("alice", []),
        tokens.issue_refresh_token("alice"),
        tokens.issue_refresh_token("bob"),
    )
    if change == "removed":
        del users.secrets["alice"]
    else:
        users.secrets["alice"] = "2"
    with pytest.raises(TokenInvalid):
        tokens.verify_access_token(access)
    with pytest.raises(TokenInvalid):
        tokens.verify_refresh_token(refresh)
    assert tokens.verify_refresh_token(others) == "bob"


@pytest.mark.parametrize("ahead", [-(LIFETIME + 6), 60], ids=["expired", "not yet"])
def test_times(tokens: TokenIssuer, clock: Clock, ahead: float) -> None:
    """A token is good from when it was given until it ends."""
    clock.ahead = ahead
    with pytest.raises(TokenInvalid):
        tokens.verify_access_token(tokens.issue_access_token("alice", [APP]))


def test_it_ends_where_it_was_seen_before(
    tokens: TokenIssuer, clock: Clock, users: Passwords
) -> None:
    """What is remembered of a token is its signature alone."""
    token = tokens.issue_access_token("alice", [APP])
    assert tokens.verify_access_token(token).user == "alice"
    users.secrets["alice"] = "2"
    with pytest.raises(TokenInvalid):
        tokens.verify_access_token(token)
    users.secrets["alice"] = "1"
    assert tokens.verify_access_token(token).user == "alice"
    clock.ahead = LIFETIME + 6
    with pytest.raises(TokenInvalid):
        tokens.verify_access_token(token)


def test_a_refresh_token_ends_too(tokens: TokenIssuer, clock: Clock) -> None:
    """After half a year one logs in again."""
    clock.ahead = -179 * 24 * 3600
    assert tokens.verify_refresh_token(tokens.issue_refresh_token("alice")) == "alice"
    clock.ahead = -181 * 24 * 3600
    with pytest.raises(TokenInvalid):
        tokens.verify_refresh_token(tokens.issue_refresh_token("alice"))


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    """Write a JWT with whatever stands in it."""
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join(
        [*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), signature]
    )


def test_forgeries(tokens: TokenIssuer, users: Passwords) -> None:
    """Only our own key, our own algorithm, and all claims."""
    good = tokens.issue_access_token("alice", [APP])
    claims, (head, body, signature) = claims_of(good), good.split(".")
    other = claims_of(tokens.issue_access_token("bob", [NGINX]))
    signing = tokens._access_key  # noqa: SLF001 - to sign what is never given
    assert (
        tokens.verify_access_token(jwt.encode(claims, signing, algorithm="HS256")).user == "alice"
    )
    forged = {
        "none": unsigned({"alg": "none", "typ": "JWT"}, claims),
        "None": unsigned({"alg": "None"}, claims, signature),
        "no signature": f"{head}.{body}.",
        "another signature": f"{head}.{body}.{signature[:-4]}AAAA",
        "another's claims": f"{head}.{unsigned({}, other).split('.')[1]}.{signature}",
        "another key": TokenIssuer(OTHER_KEY, users).issue_access_token("alice", [APP]),
        "the key itself": jwt.encode(claims, KEY, algorithm="HS256"),
        "HS512": jwt.encode(claims, signing * 2, algorithm="HS512"),
        "HS384": jwt.encode(claims, signing * 2, algorithm="HS384"),
        "RS256": unsigned({"alg": "RS256", "typ": "JWT"}, claims, signature),
        "a key along": unsigned({"alg": "HS256", "jwk": {"k": "AA"}}, claims, signature),
        "nothing": "", "dots": "..", "no JWT": "docxy.none", "long": "a" * 100_000,
        "deep": f"{head}.{'W1tb' * 20_000}.{signature}",
    }  # fmt: skip
    for claim in ("iss", "aud", "sub", "iat", "nbf", "exp", "docxy_user"):
        left = {name: value for name, value in claims.items() if name != claim}
        forged[f"without {claim}"] = jwt.encode(left, signing, algorithm="HS256")
    for claim, value in {"iss": "x", "aud": "x", "sub": "bob", "docxy_user": "", "exp": 0}.items():
        forged[f"{claim}={value}"] = jwt.encode(claims | {claim: value}, signing, algorithm="HS256")
    for token in forged.values():
        with pytest.raises(TokenInvalid):
            tokens.verify_access_token(token)


ODD: list[dict[str, Any]] = [
    {"access": 1}, {"access": "x"}, {"access": {"a": 1}}, {"access": [1]}, {"access": ["x"]},
    {"access": [None]}, {"access": [{}]}, {"access": [{"name": []}]},
    {"sub": 1}, {"sub": None}, {"sub": ["alice"]}, {"sub": {}}, {"sub": "\ud800"},
    {"exp": "x"}, {"exp": "9999999999"}, {"exp": None}, {"exp": []}, {"exp": 1e400},
    {"iat": "x"}, {"iat": []}, {"iat": 10**400}, {"nbf": 1e308}, {"aud": 1}, {"iss": []},
    {"docxy_user": "\xe9"}, {"docxy_user": "\ud800"}, {"docxy_user": 1}, {"docxy_user": None},
]  # fmt: skip


def test_odd_claims(tokens: TokenIssuer) -> None:
    """Also with the right signature, such a token is none: it is no error of ours."""
    for odd in ODD:
        claims = claims_of(tokens.issue_access_token("alice", [APP]))
        parts = (json.dumps(part).encode() for part in ({"alg": "HS256"}, claims | odd))
        text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        signature = hmac.digest(tokens._access_key, text, "sha256")  # noqa: SLF001 - as above
        end = base64.urlsafe_b64encode(signature).rstrip(b"=")
        with pytest.raises(TokenInvalid):
            tokens.verify_access_token(b".".join([text, end]).decode())


def test_it_fits_into_a_header(tokens: TokenIssuer) -> None:
    """However much is asked for."""
    names = [f"docker.io/{'x' * 200}/{number}" for number in range(1000)]
    assert len(tokens.issue_access_token("alice", names)) < 32_000
