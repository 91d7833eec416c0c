"""Tokens of our own, which stand for something else and never go to a registry."""

from typing import Final

NOTHING: Final = "docxy.none"
"""Stands for no credentials."""

STALE: Final = "docxy.stale"
"""Stands for no credentials, while no token can be had."""


def is_nothing(authorization: str) -> bool:
    """Tell whether an Authorization is a token of ours that stands for no credentials."""
    scheme, _, token = authorization.strip().partition(" ")
    return scheme.lower() == "bearer" and token.strip() in {NOTHING, STALE}


def is_stale(authorization: str) -> bool:
    """Tell whether an Authorization was given because no token could be had."""
    return is_nothing(authorization) and authorization.strip().endswith(STALE)
