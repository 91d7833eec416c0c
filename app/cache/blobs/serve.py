"""Answers that carry a blob or parts of it, from a file: a cached one, or one still arriving."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from app.cache import cache_status
from app.cache.authz.gate import AuthorizedContent
from app.cache.blobs.fetching import BlobOrigin
from app.cache.blobs.ranges import MultipartBody, SelectedRanges, merge_near, select_ranges
from app.cache.blobs.request import BlobRequest
from app.oci import headers
from app.oci.headers import Headers
from app.source import HandedOver, Reply, Request
from app.transfer.chunk_map import CHUNK
from app.transfer.reading import BlobBody
from app.transfer.transfers import Transfer

# nginx sends the file of a hit itself (X-Accel-Redirect).

ACCEL_FAILED: Final = "x-accel-failed"
"""The header with which nginx repeats a request for a file that it could not open."""

_NGINX_CONDITIONS: Final = ("if-match", "if-unmodified-since")
"""Conditions that nginx would evaluate against the date of the file, and answer in HTML."""

_RANGE_HEADERS: Final = ("content-range", "accept-ranges")
"""Headers that nginx sets itself, since it selects the range."""


def can_accelerate(request: Request, ranges: SelectedRanges) -> bool:
    """Return whether nginx may send the whole or the part in Docxy's place."""
    return (
        request.method == "GET"
        and ranges.has_bytes
        and not ranges.is_multipart
        and not any(
            headers.get_first(request.headers, name) for name in (ACCEL_FAILED, *_NGINX_CONDITIONS)
        )
    )


def build_accel_reply(reply: Reply, location: str) -> Reply:
    """Return `reply` as an answer whose body nginx sends, from the file at `location`.

    Its `length` stays the number of bytes that nginx will send, for the log.
    """
    fields = headers.without(reply.headers, *_RANGE_HEADERS)
    return replace(reply, status=200, headers=fields, body=HandedOver(location))


def build_cached_reply(
    blob_request: BlobRequest,
    content: AuthorizedContent,
    cache_headers: Headers,
    accel_location: str | None,
) -> Reply:
    """Return the answer from a cached blob; with `accel_location`, nginx sends the body if it can.

    The answer's body takes over the opened blob; if there is no body, the blob is closed.
    """
    ranges = select_ranges(blob_request.request, blob_request.digest, content.size)
    fields = _build_headers(blob_request, ranges, content.public_seconds_left) + cache_headers
    reply = Reply(status=ranges.status, headers=fields, length=ranges.length)
    if accel_location and content.location and can_accelerate(blob_request.request, ranges):
        content.blob.close()
        return build_accel_reply(reply, f"{accel_location}{content.location}")
    if blob_request.request.method == "HEAD" or not ranges.length:
        content.blob.close()
        return reply
    body = content.blob.build_body(*ranges.spans[0])
    if ranges.is_multipart:
        return replace(reply, body=MultipartBody(ranges, body), close=body.close)
    return replace(reply, body=body, close=body.close)


def build_transfer_reply(
    blob_request: BlobRequest,
    transfer: Transfer,
    cache_headers: Headers,
    reenter: Callable[[], Transfer | None],
) -> Reply:
    """Return the answer to a GET from a blob being fetched; the reply closes `transfer`.

    `reenter` returns the transfer that replaces this one if the blob turns out to be wrong, or None
    if there is none.
    """
    ranges = select_ranges(blob_request.request, blob_request.digest, transfer.blob.size)
    public_seconds_left = blob_request.gate.public_seconds_left(
        blob_request.caller, blob_request.name
    )
    fields = _build_headers(blob_request, ranges, public_seconds_left) + cache_headers
    reply = Reply(status=ranges.status, headers=fields, length=ranges.length)
    if not ranges.has_bytes:
        transfer.close()
        return reply
    answered = replace(blob_request, is_answered=True)
    origin = BlobOrigin(answered, transfer, reenter, is_whole=ranges.is_whole)
    later = merge_near(ranges.spans[1:], CHUNK)
    body = BlobBody(origin.read(), ranges.spans[0], blob_request.request.client, later)
    if ranges.is_multipart:
        return replace(reply, body=MultipartBody(ranges, body), close=body.close)
    return replace(reply, body=body, close=body.close)


def _build_headers(
    blob_request: BlobRequest, ranges: SelectedRanges, public_seconds_left: float
) -> Headers:
    return [
        *([("Accept-Ranges", "bytes")] if ranges.has_bytes else []),
        ("Docker-Content-Digest", blob_request.digest),
        *ranges.headers,
        *cache_status.build_content_headers(blob_request.digest, public_seconds_left),
    ]
