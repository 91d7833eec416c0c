"""Accept: whether a media type is among what a client takes (RFC 9110, section 12.5.1)."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

_SPLIT: Final = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')
_LONGEST: Final = 16 * 1024
_CLIENTS: Final = 64
"""Kinds of clients of which it is remembered what they take: each kind says the same."""


def essence(media_type: str) -> str:
    """Return a media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def acceptable(media_type: str, accepts: Iterable[str]) -> bool:
    """Tell whether a client takes a media type; no Accept takes all, and an unknown type is none.

    Parameters but `q` do not count: no registry tells types apart by them.
    """
    kind = essence(media_type)
    if not kind:
        return False
    ranges = _ranges(",".join(accepts)[:_LONGEST])
    if not ranges:
        return True
    for one in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if one in ranges:
            return ranges[one] > 0
    return False


def fingerprint(accepts: Iterable[str]) -> str:
    """Return what is the same for everybody who takes the same, in whatever order it is said."""
    ranges = _ranges(",".join(accepts)[:_LONGEST])
    written = ",".join(f"{name};q={quality:g}" for name, quality in sorted(ranges.items()))
    return hashlib.sha256(written.encode(errors="surrogateescape")).hexdigest()[:16]


@lru_cache(_CLIENTS)
def _ranges(accept: str) -> Mapping[str, float]:
    """Return what is taken, and how gladly; the best that is said of one counts."""
    found: dict[str, float] = {}
    for text in _SPLIT.split(accept):
        name, _, parameters = text.partition(";")
        name = name.strip().lower()
        if name:
            found[name] = max(found.get(name, 0.0), _quality(parameters))
    return found


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            return _number(value.strip())
    return 1.0


def _number(text: str) -> float:
    """Return a weight; one that cannot be read is none."""
    return float(text[:5]) if re.fullmatch(r"[01](?:\.[0-9]*)?", text) else 1.0
