"""Answers that carry a blob, or a part of it, from a file: a cached one or a growing spool."""

from dataclasses import replace
from typing import Final

from app.cache import cache_status
from app.cache.authz.members import AuthorizedContent
from app.cache.blobs.byte_range import SelectedRange, select_range
from app.cache.blobs.lead import BlobRequest
from app.oci import headers
from app.oci.headers import Headers
from app.source import HandedOver, Reply, Request
from app.spools.fetches import Spool
from app.spools.reading import SpoolBody

# nginx sends the file of a hit itself (X-Accel-Redirect).

FAILED: Final = "x-accel-failed"
"""The header with which nginx repeats a request for a file that it could not open."""

_JUDGED_AGAIN: Final = ("if-match", "if-unmodified-since")
"""Conditions that nginx would evaluate against the date of the file, and answer in HTML."""

_CUT: Final = ("content-range", "accept-ranges")
"""Headers that nginx sets itself, since it selects the range."""


def can_accelerate(request: Request, part: SelectedRange) -> bool:
    """Return whether nginx may send the part in Docxy's place."""
    return (
        request.method == "GET"
        and part.has_bytes
        and not any(headers.get_first(request.headers, name) for name in (FAILED, *_JUDGED_AGAIN))
    )


def build_accel_reply(reply: Reply, location: str) -> Reply:
    """Return `reply` as an answer whose body nginx sends, from the file at `location`.

    Its `length` stays the number of bytes that nginx will send, for the log.
    """
    fields = headers.without(reply.headers, *_CUT)
    return replace(reply, status=200, headers=fields, body=HandedOver(location))


_TYPE: Final = "application/octet-stream"
"""The Content-Type of every blob, whatever the registry's. The manifest gives the real type."""


def build_cached_reply(
    asking: BlobRequest, opened: AuthorizedContent, said: Headers, accel_location: str | None
) -> Reply:
    """Return the answer from a cached blob, or one for nginx if `accel_location` is set.

    The answer's body takes the opened blob over; if there is no body, the blob is closed.
    """
    part = select_range(asking.request, asking.digest, opened.size)
    fields = _build_headers(asking, part, opened.public_seconds_left) + said
    if accel_location and opened.location and can_accelerate(asking.request, part):
        opened.blob.close()
        return build_accel_reply(
            _build_bodiless(part, fields), f"{accel_location}{opened.location}"
        )
    if asking.request.method == "HEAD" or not part.length:
        opened.blob.close()
        return _build_bodiless(part, fields)
    body = opened.blob.build_body(part.start, part.end)
    return Reply(
        status=part.status, headers=fields, length=part.length, body=body, close=body.close
    )


def build_spooled_reply(
    asking: BlobRequest, spool: Spool, part: SelectedRange, said: Headers
) -> Reply:
    """Return the answer to a GET from a running fetch; the reply closes `spool`."""
    fields = (
        _build_headers(asking, part, asking.gate.public_seconds_left(asking.caller, asking.name))
        + said
    )
    if not part.has_bytes:
        spool.close()
        return _build_bodiless(part, fields)
    body = SpoolBody(spool, part.start, part.end, asking, asking.request.client)
    return Reply(
        status=part.status, headers=fields, length=part.length, body=body, close=body.close
    )


def _build_bodiless(part: SelectedRange, fields: Headers) -> Reply:
    return Reply(status=part.status, headers=fields, length=part.length)


def _build_headers(asking: BlobRequest, part: SelectedRange, public_left: float) -> Headers:
    described = [("Content-Type", _TYPE), ("Accept-Ranges", "bytes")] if part.has_bytes else []
    return [
        *described,
        ("Docker-Content-Digest", asking.digest),
        *part.headers,
        *cache_status.build_content_headers(asking.digest, public_left),
    ]
