"""The tokens that this proxy issues to its users and verifies: signed JWTs (RFC 7519)."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cachetools import FIFOCache

from app.access.logins import LoginChecker
from app.access.users import Users
from app.oci.errors import TokenInvalid
from app.oci.scope import Action

SERVICE: Final = "docxy"
"""The name of this proxy in its challenges (`service`) and tokens (`iss` and `aud`)."""

LIFETIME: Final = 300
"""Seconds for which an access token is valid."""
_REFRESH_LIFETIME: Final = 180 * 24 * 3600
_CLOCK_SKEW: Final = 5
"""Seconds by which the clocks of replicas may differ."""
_MAX_REPOSITORIES: Final = 50
"""Repositories in one token, which has to fit into a header."""
_CACHE_SIZE: Final = 1024
"""Verified tokens that are cached."""
_ALGORITHM: Final = "HS256"
_REQUIRED_CLAIMS: Final = ("iss", "aud", "sub", "iat", "nbf", "exp")
_FINGERPRINT_CLAIM: Final = "docxy_user"


@dataclass(frozen=True, slots=True)
class Bearer:
    """The user of an access token, and the repositories it is valid for, as `<registry>/<name>`."""

    user: str
    repositories: frozenset[str]


@dataclass(frozen=True, slots=True)
class _VerifiedToken:
    """A token whose signature was valid while its user had this secret.

    `expires_at` is wall-clock seconds since the epoch.
    """

    bearer: Bearer
    secret: str = field(repr=False)
    expires_at: float


class TokenIssuer:
    """Issues tokens to users, and verifies them.

    All tokens of a user become invalid when the user is removed or gets another password. `clock`
    is wall-clock time.
    """

    def __init__(self, key: bytes, users: Users, clock: Callable[[], float] = time.time) -> None:
        """Derive the signing keys from `key`, which all workers and replicas share."""
        self._users, self._clock = users, clock
        self._verified_tokens = FIFOCache[str, _VerifiedToken](_CACHE_SIZE)
        # Two keys, so that neither kind of token can be taken for the other.
        self._access_key, self._refresh_key, self._fingerprint_key = (
            hmac.digest(key, use, hashlib.sha256) for use in (b"access", b"refresh", b"user")
        )

    def issue_access_token(self, user: str, repositories: Iterable[str]) -> str:
        """Return a token to pull from `repositories`, valid for LIFETIME seconds.

        Each is `<registry>/<name>`, as the registry itself calls it. Only the first 50 are granted.
        """
        access = [
            {"type": "repository", "name": name, "actions": [Action.PULL]}
            for name in list(dict.fromkeys(repositories))[:_MAX_REPOSITORIES]
        ]
        return self._sign(self._access_key, user, LIFETIME, access=access)

    def issue_refresh_token(self, user: str) -> str:
        """Return a refresh token, which for 180 days buys access tokens without the password."""
        return self._sign(self._refresh_key, user, _REFRESH_LIFETIME)

    def verify_access_token(self, token: str) -> Bearer:
        """Return the user and the repositories of an access token.

        Raise TokenInvalid if it is invalid or expired, or if the user has been removed or has
        another password. Each layer has the same token: its signature is checked once, its
        expiry and its user every time.
        """
        verified = self._verified_tokens.get(token)
        if verified is None:
            verified = self._verify(token)
            self._verified_tokens[token] = verified
        is_over = verified.expires_at <= self._clock()
        if is_over or self._users.lookup_secret(verified.bearer.user) != verified.secret:
            raise TokenInvalid
        return verified.bearer

    def _verify(self, token: str) -> _VerifiedToken:
        claims, secret = self._decode_claims(self._access_key, token)
        try:
            repositories = frozenset(entry["name"] for entry in claims.get("access") or [])
            expires_at = claims["exp"] + _CLOCK_SKEW
        except (KeyError, TypeError) as error:  # another holder of the key may sign other claims
            raise TokenInvalid from error
        return _VerifiedToken(Bearer(claims["sub"], repositories), secret, expires_at)

    def verify_refresh_token(self, token: str) -> str:
        """Return the user of a refresh token; raise TokenInvalid if the token is not valid."""
        claims, _ = self._decode_claims(self._refresh_key, token)
        return str(claims["sub"])

    def _sign(self, key: bytes, user: str, lifetime: int, **extra_claims: object) -> str:
        now = int(self._clock())
        claims = {
            "iss": SERVICE,
            "aud": SERVICE,
            "sub": user,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            _FINGERPRINT_CLAIM: self._compute_fingerprint(user, self._users.lookup_secret(user)),
            **extra_claims,
        }
        return jwt.encode(claims, key, algorithm=_ALGORITHM)

    def _decode_claims(self, key: bytes, token: str) -> tuple[dict[str, Any], str]:
        """Return the claims of a token and the secret of its user; may raise TokenInvalid."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=SERVICE,
                issuer=SERVICE,
                leeway=_CLOCK_SKEW,
                options={"require": list(_REQUIRED_CLAIMS)},
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenInvalid from error
        user, fingerprint = str(claims["sub"]), str(claims.get(_FINGERPRINT_CLAIM, ""))
        secret = self._users.lookup_secret(user)
        expected = self._compute_fingerprint(user, secret)
        if secret is None or not (
            fingerprint.isascii() and hmac.compare_digest(expected, fingerprint)
        ):
            raise TokenInvalid
        return claims, secret

    def _compute_fingerprint(self, user: str, secret: str | None) -> str:
        """Return a digest that changes with a user's password but does not reveal it.

        Return "" if there is no such user.
        """
        if secret is None:
            return ""
        message = f"{len(user)}:{user}\0{secret}".encode(errors="surrogateescape")
        return hmac.digest(self._fingerprint_key, message, hashlib.sha256).hex()[:32]


@dataclass(frozen=True, slots=True)
class Guard:
    """The checks of a proxy that has users: their logins and their tokens."""

    logins: LoginChecker
    tokens: TokenIssuer
