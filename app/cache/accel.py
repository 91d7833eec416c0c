"""A hit is handed over to nginx, which sends the file itself (X-Accel-Redirect)."""

from dataclasses import replace
from typing import Final

from app.cache.parts import Part
from app.content import Reply, Request
from app.oci import headers

FAILED: Final = "x-accel-failed"
"""With this header nginx asks once more for what it could not open."""

_JUDGED_AGAIN: Final = ("if-match", "if-unmodified-since")
"""nginx judges these by the date of the file, and answers in HTML."""

_CUT: Final = ("content-range", "accept-ranges")
"""nginx cuts the range itself, and says so."""


def can_be(request: Request, part: Part) -> bool:
    """Tell whether nginx may send an answer in our place."""
    return (
        request.method == "GET"
        and part.has_bytes
        and not any(headers.value(request.headers, name) for name in (FAILED, *_JUDGED_AGAIN))
    )


def handed_over(reply: Reply, location: str) -> Reply:
    """Return what tells nginx to send the file at a location.

    `length` stays the length of what nginx will send, for the log.
    """
    fields = headers.without(reply.headers, *_CUT)
    fields.append(("X-Accel-Redirect", location))
    return replace(reply, status=200, headers=fields, body=(), close=_nothing)


def _nothing() -> None:
    pass
