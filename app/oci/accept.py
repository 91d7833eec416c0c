"""Accept: whether a media type is among what a client takes (RFC 9110, section 12.5.1)."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

# A string without its end reaches to the end: every match starts where the one before it stopped,
# and no character is read twice.
_RANGE: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))++', re.DOTALL)
_WEIGHT: Final = re.compile(r"[01](?:\.[0-9]*)?")
_LONGEST: Final = 4 * 1024
"""Characters of all lines together that are read; clients send some 500."""
_CLIENTS: Final = 64
"""Kinds of clients of which it is remembered what they take: each kind says the same."""


def essence(media_type: str) -> str:
    """Return a media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def acceptable(media_type: str, accepts: Iterable[str]) -> bool:
    """Return whether a client takes a media type; without Accept, it takes every known one.

    Parameters other than `q` do not count: no registry tells types apart by them.
    Of more than 4 KiB, only the ranges within the first 4 KiB count: the registry, which gets the
    whole of it, is asked about any other type.
    """
    kind = essence(media_type)
    if not kind:
        return False
    accept = ",".join(accepts)
    ranges = _ranges(_bounded(accept))
    if not ranges:
        return len(accept) <= _LONGEST
    for one in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if one in ranges:
            return ranges[one] > 0
    return False


def fingerprint(accepts: Iterable[str]) -> str:
    """Return 16 hexadecimal digits that are equal for clients that take the same types.

    The order of ranges and lines does not count, up to 4 KiB. Beyond that, only equal texts have
    the same digits, since not all of their ranges are read.
    """
    accept = ",".join(accepts)
    if len(accept) > _LONGEST:
        written = accept
    else:
        ranges = _ranges(accept)
        written = ",".join(f"{name};q={quality:g}" for name, quality in sorted(ranges.items()))
    return hashlib.sha256(written.encode(errors="surrogateescape")).hexdigest()[:16]


def _bounded(accept: str) -> str:
    """Return the ranges that end within the bound."""
    return accept if len(accept) <= _LONGEST else accept[:_LONGEST].rpartition(",")[0]


@lru_cache(_CLIENTS)
def _ranges(accept: str) -> Mapping[str, float]:
    """Return each media range with its weight, the highest one if it is repeated."""
    found: dict[str, float] = {}
    for text in _RANGE.findall(accept):
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
    return float(text[:5]) if _WEIGHT.fullmatch(text) else 1.0
