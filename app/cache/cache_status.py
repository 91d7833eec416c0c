"""What answers say of the cache: RFC 9211, RFC 9111, and the OCI specification's `Warning`."""

import time
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from app.oci import conditional, headers
from app.oci.errors import RegistryError
from app.oci.headers import Headers
from app.oci.reference import Digest
from app.source import Reply

_STATUS: Final = "Cache-Status"

REVALIDATED: Final = "revalidated"
STALE: Final = "stale"

_OUTCOMES: Final = (
    ("; hit", "hit"),
    ("served-stale", STALE),
    ("collapsed", "joined"),
    ("fwd=stale", REVALIDATED),
)
"""What answers are told by, the first that fits; all others came from the registry."""

PRIVATE: Final = ("Cache-Control", "private, no-store")
"""Nobody on the way may keep it: who may read it is told here, for each request."""

_REPLACED: Final = ("age", "cache-control", "expires", "pragma", "warning", "vary", "etag")
"""What an upstream says of how long its answer counts, and to whom: here others count."""


def hit(age: float) -> Headers:
    """Say that the registry was not asked."""
    return [(_STATUS, "docxy; hit"), _age(age)]


def revalidated(status: int = HTTPStatus.OK) -> Headers:
    """Say that the registry was asked whether what is kept still counts."""
    return [(_STATUS, f"docxy; fwd=stale; fwd-status={int(status)}"), ("Age", "0")]


def forwarded(status: int | None, *, stored: bool = False, why: str = "uri-miss") -> Headers:
    """Say that the registry has answered, or None: has not."""
    parts = ["docxy", f"fwd={why}"]
    if status is not None:
        parts.append(f"fwd-status={int(status)}")
    if stored:
        parts.append("stored")
    return [(_STATUS, "; ".join(parts))]


def joined() -> Headers:
    """Say that it comes with what somebody else has asked the registry for."""
    return [(_STATUS, "docxy; fwd=uri-miss; collapsed")]


def stale(status: int | None, age: float) -> Headers:
    """Say that what is kept is served since the registry is away; None: it did not answer."""
    told = "does not answer" if status is None else f"answered {int(status)}"
    asked = "" if status is None else f"; fwd-status={int(status)}"
    return [
        (_STATUS, f"docxy; fwd=stale{asked}; detail=served-stale"),
        _age(age),
        ("Warning", f'299 - "This is from the cache: the registry {told}"'),
    ]


def age_of(taken: float) -> float:
    """Return how many seconds ago something came, by the wall clock."""
    return max(time.time() - taken, 0.0)


def of_content(digest: Digest, public_left: float) -> Headers:
    """Say who else may keep content that never changes: others only what is public, and so long."""
    lasting = int(public_left)
    control = f"public, max-age={lasting}, immutable" if lasting > 0 else PRIVATE[1]
    return [("ETag", conditional.etag_of(digest)), ("Cache-Control", control)]


def marked(reply: Reply, fields: Headers) -> Reply:
    """Return a registry's answer with what is said of it here in place of what it says itself.

    Its own Cache-Status stays: each cache on the way adds one.
    """
    kept = headers.without(reply.headers, *_REPLACED)
    named = {name.lower() for name, _ in fields}
    closing = [] if "cache-control" in named else [PRIVATE]
    return replace(reply, headers=[*kept, *fields, *closing])


def outcome(reply: Reply) -> str:
    """Return in one word what the cache did, as its own Cache-Status says."""
    said = headers.values(reply.headers, _STATUS)
    own = said[-1] if said and said[-1].startswith("docxy;") else ""
    for sign, word in _OUTCOMES:
        if sign in own:
            return "miss" if word == REVALIDATED and reply.is_error else word
    return "miss"


def failed(error: RegistryError) -> RegistryError:
    """Return an error that says that nothing is kept which could stand for the answer."""
    fields = [*forwarded(None, why="miss"), PRIVATE]
    error.added = {**error.added, **dict(fields)}
    return error


def _age(seconds: float) -> tuple[str, str]:
    return ("Age", str(int(seconds)))
