"""Headers that describe what the cache did.

`Cache-Status` is from RFC 9211, `Age` and `Cache-Control` from RFC 9111, and `Warning` from the OCI
distribution specification.
"""

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
    ("collapsed", "collapsed"),
    ("fwd=stale", REVALIDATED),
)
"""Parts of our `Cache-Status` and the outcomes they mean; the first match counts. Without a match,
the answer came from the registry."""

PRIVATE: Final = ("Cache-Control", "private, no-store")
"""No cache along the way may keep the answer: Docxy decides for each request who may read it."""

_REPLACED_HEADERS: Final = ("age", "cache-control", "expires", "pragma", "warning", "vary", "etag")
"""The upstream's headers about how long its answer is valid, and for whom; ours replace them."""


def build_hit(age: float) -> Headers:
    """Return the headers of a hit, for which the registry was not asked; `age` is in seconds."""
    return [(_STATUS, "docxy; hit"), _format_age(age)]


def build_revalidated(status: int = HTTPStatus.OK) -> Headers:
    """Return the headers of cached content that the registry has just confirmed."""
    return [(_STATUS, f"docxy; fwd=stale; fwd-status={int(status)}"), ("Age", "0")]


def build_forwarded(status: int | None, *, stored: bool = False, why: str = "uri-miss") -> Headers:
    """Return the headers of an answer from the registry; `status` is None if it did not answer.

    `stored`: the answer was cached. `why` is the reason for forwarding, as in RFC 9211.
    """
    parts = ["docxy", f"fwd={why}"]
    if status is not None:
        parts.append(f"fwd-status={int(status)}")
    if stored:
        parts.append("stored")
    return [(_STATUS, "; ".join(parts))]


def build_joined() -> Headers:
    """Return the headers of an answer that shares another client's fetch."""
    return [(_STATUS, "docxy; fwd=uri-miss; collapsed")]


def build_stale(status: int | None, age: float) -> Headers:
    """Return the headers of a stale answer, served because the registry failed.

    `status` is that of the registry's answer, or None if it did not answer; `age` is in seconds.
    """
    failure = "does not answer" if status is None else f"answered {int(status)}"
    status_parameter = "" if status is None else f"; fwd-status={int(status)}"
    return [
        (_STATUS, f"docxy; fwd=stale{status_parameter}; detail=served-stale"),
        _format_age(age),
        ("Warning", f'299 - "Stale content from the cache: the registry {failure}"'),
    ]


def compute_age(stored_at: float) -> float:
    """Return how many seconds ago `stored_at` was (wall-clock); 0 if it lies in the future."""
    return max(time.time() - stored_at, 0.0)


def build_content_headers(digest: Digest, public_seconds_left: float) -> Headers:
    """Return the ETag and Cache-Control of content that never changes.

    Shared caches may keep it for `public_seconds_left` seconds; not at all if that is less than 1.
    """
    max_age = int(public_seconds_left)
    control = f"public, max-age={max_age}, immutable" if max_age > 0 else PRIVATE[1]
    return [("ETag", conditional.build_etag(digest)), ("Cache-Control", control)]


def mark_reply(reply: Reply, fields: Headers) -> Reply:
    """Return an answer with Docxy's caching headers in place of the upstream's.

    Without a Cache-Control in `fields`, the answer is private. The upstream's Cache-Status stays,
    since each cache along the way adds its own (RFC 9211).
    """
    upstream_fields = headers.without(reply.headers, *_REPLACED_HEADERS)
    names = {name.lower() for name, _ in fields}
    defaults = [] if "cache-control" in names else [PRIVATE]
    return replace(reply, headers=[*upstream_fields, *fields, *defaults])


def parse_outcome(reply: Reply) -> str:
    """Return the outcome that our own Cache-Status states.

    This is "hit", "stale", "collapsed", "revalidated" or "miss".
    """
    values = headers.get_all(reply.headers, _STATUS)
    own_value = values[-1] if values and values[-1].startswith("docxy;") else ""
    for part, outcome in _OUTCOMES:
        if part in own_value:
            return "miss" if outcome == REVALIDATED and reply.is_error else outcome
    return "miss"


def mark_error(error: RegistryError) -> RegistryError:
    """Return the error, with headers that say that it was a miss and that no answer came."""
    fields = [*build_forwarded(None, why="miss"), PRIVATE]
    error.extra_headers = {**error.extra_headers, **dict(fields)}
    return error


def _format_age(seconds: float) -> tuple[str, str]:
    return ("Age", str(int(seconds)))
