"""Tokens that were issued through here to somebody without credentials."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from app.store.store import Store

ISSUED: Final = "token of nobody"
SHARED: Final = "token for nobody"
"""The kinds of notes: of who shows such a token, and of the one that is given again."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that everybody gets: for which repositories, and how it is given again."""

    names: frozenset[str]
    shared: str


def note(store: Store, caller: str, names: Iterable[str], shared: str, seconds: float) -> None:
    """Note that whoever is known by this name shows a token that everybody gets."""
    value = json.dumps({"names": sorted(names), "shared": shared})
    store.tokens.note(ISSUED, caller, value, seconds)


def find(store: Store, caller: str) -> Issued | None:
    """Return what was issued, as long as it lives; a token of somebody's is none."""
    found = store.tokens.noted(ISSUED, caller)
    if found is None or found.left <= 0:
        return None
    try:
        document = json.loads(found.value)
        return Issued(frozenset(map(str, document["names"])), str(document["shared"]))
    except (ValueError, KeyError, TypeError):
        return None


def refused(store: Store, issued: Issued) -> None:
    """Give a token no more that the registry does not take; raise StoreError."""
    if store.tokens.noted(SHARED, issued.shared) is not None:
        store.tokens.forget(SHARED, issued.shared)
