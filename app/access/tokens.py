"""The tokens that this proxy gives to its users, and takes: signed JWTs (RFC 7519)."""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from app.access.logins import Logins
from app.access.users import Users
from app.oci.errors import TokenWrong

SERVICE: Final = "docxy"
"""What this proxy is called in a challenge, and in its tokens."""

LIFETIME: Final = 300
_REFRESH_LIFETIME: Final = 180 * 24 * 3600
_SKEW: Final = 5
"""Seconds by which the clocks of replicas may differ."""
_MOST: Final = 50
"""Repositories of one token: it has to fit into a header."""
_MOST_GOOD: Final = 1024
_ALGORITHM: Final = "HS256"
_REQUIRED: Final = ("iss", "aud", "sub", "iat", "nbf", "exp")
_FINGERPRINT: Final = "docxy_user"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who shows an access token, and the repositories that it is good for, `<registry>/<name>`."""

    user: str
    repositories: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Good:
    """A token whose signature was right, while its user had this secret."""

    bearer: Bearer
    secret: str = field(repr=False)
    until: float


class Tokens:
    """Gives tokens to users, and tells whose a token is, as long as the user is the same.

    A user who is removed, or gets another password, has no token any more.
    """

    def __init__(self, key: bytes, users: Users, clock: Callable[[], float] = time.time) -> None:
        """Take the key that all workers and replicas share."""
        self._users, self._clock = users, clock
        self._good: OrderedDict[str, _Good] = OrderedDict()
        # Two keys, so that neither kind of token can be taken for the other.
        self._access, self._refresh, self._prints = (
            hmac.digest(key, use, hashlib.sha256) for use in (b"access", b"refresh", b"user")
        )

    def access(self, user: str, repositories: Iterable[str]) -> str:
        """Return a token to pull from some repositories, as the registry calls them."""
        granted = [
            {"type": "repository", "name": name, "actions": ["pull"]}
            for name in list(dict.fromkeys(repositories))[:_MOST]
        ]
        return self._signed(self._access, user, LIFETIME, access=granted)

    def refresh(self, user: str) -> str:
        """Return a token that gets others, in place of the password."""
        return self._signed(self._refresh, user, _REFRESH_LIFETIME)

    def bearer(self, token: str) -> Bearer:
        """Return whose an access token is; raise TokenWrong.

        The same one comes with each layer: its signature is checked once, its time and its user
        each time.
        """
        found = self._good.get(token)
        if found is None:
            found = self._verified(token)
            self._good[token] = found
            while len(self._good) > _MOST_GOOD:
                self._good.popitem(last=False)
        is_over = found.until <= self._clock()
        if is_over or self._users.secret_of(found.bearer.user) != found.secret:
            raise TokenWrong
        return found.bearer

    def _verified(self, token: str) -> _Good:
        claims, secret = self._claims(self._access, token)
        try:
            granted = frozenset(one["name"] for one in claims.get("access") or [])
            until = claims["exp"] + _SKEW
        except (KeyError, TypeError) as error:  # whoever has the key may write what we never do
            raise TokenWrong from error
        return _Good(Bearer(claims["sub"], granted), secret, until)

    def refreshed(self, token: str) -> str:
        """Return the user of a refresh token; raise TokenWrong."""
        claims, _ = self._claims(self._refresh, token)
        return str(claims["sub"])

    def _signed(self, key: bytes, user: str, lifetime: int, **more: object) -> str:
        now = int(self._clock())
        claims = {
            "iss": SERVICE,
            "aud": SERVICE,
            "sub": user,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            _FINGERPRINT: self._fingerprint(user, self._users.secret_of(user)),
            **more,
        }
        return jwt.encode(claims, key, algorithm=_ALGORITHM)

    def _claims(self, key: bytes, token: str) -> tuple[dict[str, Any], str]:
        """Return what a token says, and the secret of its user; raise TokenWrong."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=SERVICE,
                issuer=SERVICE,
                leeway=_SKEW,
                options={"require": list(_REQUIRED)},
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenWrong from error
        user, shown = str(claims["sub"]), str(claims.get(_FINGERPRINT, ""))
        secret = self._users.secret_of(user)
        known = self._fingerprint(user, secret)
        if secret is None or not (shown.isascii() and hmac.compare_digest(known, shown)):
            raise TokenWrong
        return claims, secret

    def _fingerprint(self, user: str, secret: str | None) -> str:
        """Return what changes with a user's password, and tells nothing of it; "" for nobody."""
        if secret is None:
            return ""
        message = f"{len(user)}:{user}\0{secret}".encode(errors="surrogateescape")
        return hmac.digest(self._prints, message, hashlib.sha256).hex()[:32]


# What knows the users of this proxy: their passwords and their tokens.


@dataclass(frozen=True, slots=True)
class Guard:
    """Checks logins, gives tokens, takes them."""

    logins: Logins
    tokens: Tokens
