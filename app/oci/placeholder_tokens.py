"""Placeholder tokens: tokens of our own that stand for no credentials, and go to no registry.

A client that insists on a token gets one of them if it gets none from the registry.
"""

from typing import Final

NOTHING: Final = "docxy.none"
"""Stands for no credentials."""

STALE: Final = "docxy.stale"
"""Stands for no credentials, issued when no token could be had."""


def is_placeholder(authorization: str) -> bool:
    """Return whether an Authorization header has a placeholder token of either kind."""
    scheme, _, token = authorization.strip().partition(" ")
    return scheme.lower() == "bearer" and token.strip() in {NOTHING, STALE}


def is_stale(authorization: str) -> bool:
    """Return whether an Authorization header has the token issued when no other could be had."""
    return is_placeholder(authorization) and authorization.strip().endswith(STALE)
