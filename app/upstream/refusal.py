"""An upstream's refusal, in the shape that clients read: OCI JSON, and Retry-After on 429."""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import requests

from app.content import Reply, replied
from app.oci import headers
from app.oci.challenge import Challenge
from app.oci.errors import ErrorCode, UpstreamMisbehaved, UpstreamUnavailable, error_document
from app.oci.headers import Headers
from app.upstream.body import content_length, read_start
from app.upstream.discarding import discard

BODY_LIMIT: Final = 64 * 1024
"""Bytes of an upstream's error body that are read to see whether it is OCI JSON."""

RETRY_AFTER_LIMIT: Final = 60
"""Seconds: skopeo obeys a Retry-After six times over, and Docker Hub's window is six hours."""

_RETRY_AFTER_GUESS: Final = 30

_CODES: Final = {
    HTTPStatus.UNAUTHORIZED: ErrorCode.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: ErrorCode.DENIED,
    HTTPStatus.METHOD_NOT_ALLOWED: ErrorCode.UNSUPPORTED,
    HTTPStatus.TOO_MANY_REQUESTS: ErrorCode.TOOMANYREQUESTS,
}
_WINDOW: Final = re.compile(r"\bw=(\d+)")


def refused(
    method: str, response: requests.Response, unknown: ErrorCode, challenges: Sequence[Challenge]
) -> Reply:
    """Return the reply to a refusal; without a challenge a 401 is a 403.

    Clients that meet a 401 look for the challenge, and some report that alone.
    """
    status = response.status_code
    if status == HTTPStatus.UNAUTHORIZED and not challenges:
        status = HTTPStatus.FORBIDDEN.value
    passed = _passed(response)
    if method == "HEAD":
        length = content_length(response)
        discard(response)
        return Reply(status=status, headers=passed, challenges=challenges, length=length)
    try:
        content = read_start(response, BODY_LIMIT)
    except (UpstreamUnavailable, UpstreamMisbehaved):
        content = b""  # the status and the challenge are what clients act on
    if not is_oci_json(content):
        host = urlsplit(response.url).hostname or ""
        content = error_body(status, unknown, host, response.status_code)
        passed = headers.without(passed, "content-encoding", "etag")
    if "json" not in headers.value(passed, "content-type"):
        passed = headers.without(passed, "content-type")
        passed.append(("Content-Type", "application/json"))
    return replace(replied(status, passed, content), challenges=challenges)


def _passed(response: requests.Response) -> Headers:
    fields = headers.pass_down(response.raw.headers.items())
    told = headers.value(fields, "retry-after")
    fields = headers.without(fields, "retry-after")
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        fields.append(("Retry-After", retry_after(list(response.raw.headers.items()))))
    elif told:
        fields.append(("Retry-After", told))
    return fields


def is_oci_json(body: bytes) -> bool:
    """Tell whether a body is what the specification calls an error body."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    errors = document.get("errors") if isinstance(document, dict) else None
    return isinstance(errors, list) and all(isinstance(error, dict) for error in errors)


def error_body(status: int, unknown: ErrorCode, host: str, told: int | None = None) -> bytes:
    """Return OCI JSON for a refusal that came without; `unknown` is the code of a 404.

    `told` is the status that the upstream gave, where the client is given another.

    What the upstream wrote is left out: it may be a page, or hold a signed URL.
    """
    if status == HTTPStatus.NOT_FOUND:
        code = unknown
    else:
        server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        code = _CODES.get(
            HTTPStatus(status) if status in _STATUSES else HTTPStatus.BAD_REQUEST,
            ErrorCode.UNAVAILABLE if server_error else ErrorCode.UNKNOWN,
        )
    told = told or status
    phrase = HTTPStatus(told).phrase if told in _STATUSES else "an unknown status"
    return json.dumps(error_document(code, f"{host} answered {told} {phrase}")).encode()


_STATUSES: Final = frozenset(status.value for status in HTTPStatus)


def retry_after(fields: Headers) -> str:
    """Return the seconds to tell a client after a 429: the upstream's, or the window's, or a guess.

    Never more than RETRY_AFTER_LIMIT: a window rolls, so part of it is free again earlier.
    """
    told = headers.value(fields, "retry-after").strip()
    if told.isascii() and told.isdecimal():
        return str(max(1, min(int(told[:9]), RETRY_AFTER_LIMIT)))
    if told and (until := _seconds_until(told)) is not None:
        return str(max(1, min(until, RETRY_AFTER_LIMIT)))
    if window := _WINDOW.search(headers.value(fields, "ratelimit-limit")):
        return str(max(1, min(int(window[1][:9]), RETRY_AFTER_LIMIT)))
    return str(_RETRY_AFTER_GUESS)


def _seconds_until(date: str) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
