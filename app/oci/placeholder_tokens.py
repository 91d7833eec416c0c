"""Placeholder tokens: tokens of our own that go to no registry as they are.

A client that insists on a token gets one of them if it gets none from the registry. It stands for
no credentials, or for the Basic credentials that it contains.
"""

from collections.abc import Callable
from typing import Final

from app.oci import headers
from app.oci.headers import Headers

NOTHING: Final = "docxy.none"
"""Stands for no credentials."""

STALE: Final = "docxy.stale"
"""Stands for no credentials, issued when no token could be obtained."""

_BASIC: Final = "docxy.basic."
"""Prefix of a token that contains Basic credentials, which the registry wants in each request."""


def is_placeholder(authorization: str) -> bool:
    """Return whether an Authorization header has a placeholder token without credentials."""
    scheme, _, token = authorization.strip().partition(" ")
    return scheme.lower() == "bearer" and token.strip() in {NOTHING, STALE}


def is_stale(authorization: str) -> bool:
    """Return whether an Authorization header has the token issued when no other was available."""
    return is_placeholder(authorization) and authorization.strip().endswith(STALE)


def build_basic_token(authorization: str) -> str:
    """Return the placeholder token for an Authorization of the Basic scheme."""
    return _BASIC + authorization.partition(" ")[2].strip()


def redeem_placeholder(fields: Headers, takes_basic: Callable[[], bool]) -> Headers:
    """Return a request's headers, with a placeholder token replaced by what it stands for.

    The Basic credentials of a token are sent only if `takes_basic` says that the registry asks for
    them; otherwise the Authorization is removed. Headers without a placeholder are unchanged.
    """
    authorization = headers.get_first(fields, "authorization")
    scheme, _, token = authorization.partition(" ")
    nothing = is_placeholder(authorization)
    if scheme.lower() != "bearer" or not (nothing or token.startswith(_BASIC)):
        return fields
    others = headers.without(fields, "authorization")
    if nothing or not takes_basic():
        return others
    return [*others, ("Authorization", f"Basic {token.removeprefix(_BASIC)}")]
