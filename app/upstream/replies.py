"""Turn a registry's response into a Reply."""

import hashlib
import hmac
import ipaddress
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import requests

from app import shared_memory
from app.events import Budget
from app.oci import documents, headers
from app.oci.challenge import Challenge
from app.oci.conditional import parse_content_range, parse_range, parse_unsatisfied_size
from app.oci.errors import ErrorCode, UpstreamMisbehaved, UpstreamUnavailable, error_document
from app.oci.headers import Headers
from app.oci.reference import Digest
from app.source import Place, Reply, Request, build_reply, has_body
from app.upstream.http import redirects
from app.upstream.http.body import (
    Body,
    discard,
    get_content_length,
    get_content_range,
    read_start,
)
from app.upstream.http.deadlines import Call
from app.upstream.resume import (
    RangeRequester,
    ResumingBody,
)
from app.upstream.verified import VerifiedBody

# Refusals, in the form that clients can read: OCI JSON, and Retry-After with a 429.

BODY_LIMIT: Final = 64 * 1024
"""Bytes of an upstream's error body that are read to see whether it is OCI JSON."""

RETRY_AFTER_LIMIT: Final = 60
"""Seconds. skopeo waits for a Retry-After up to six times, and Docker Hub's window is six hours."""

_RETRY_AFTER_GUESS: Final = 30

_CODES: Final = {
    HTTPStatus.UNAUTHORIZED: ErrorCode.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: ErrorCode.DENIED,
    HTTPStatus.METHOD_NOT_ALLOWED: ErrorCode.UNSUPPORTED,
    HTTPStatus.TOO_MANY_REQUESTS: ErrorCode.TOOMANYREQUESTS,
}
_WINDOW_PARAMETER: Final = re.compile(r"\bw=(\d+)")


def build_refusal(
    method: str,
    response: requests.Response,
    not_found_code: ErrorCode,
    challenges: Sequence[Challenge],
    call: Call,
) -> Reply:
    """Return the reply for a refusal; its body, if it has one, is OCI JSON.

    The registry's own body is read until the deadline of `call`.
    `method` is the client's, and `not_found_code` is the error code that a 404 means.
    A 401 without a challenge becomes a 403, because clients look for the challenge in a 401 and
    some report only that it is missing.
    """
    status = response.status_code
    if status == HTTPStatus.UNAUTHORIZED and not challenges:
        status = HTTPStatus.FORBIDDEN.value
    fields = _filter_headers(response)
    if method == "HEAD":
        length = get_content_length(response)
        discard(response, call)
        return Reply(status=status, headers=fields, challenges=challenges, length=length)
    try:
        content = read_start(response, BODY_LIMIT, call)
    except (UpstreamUnavailable, UpstreamMisbehaved):
        content = b""  # clients act on the status and the challenge, not on the body
    if not is_oci_error(content):
        host = urlsplit(response.url).hostname or ""
        content = build_error_body(status, not_found_code, host, response.status_code)
        fields = headers.without(fields, "content-encoding", "etag")
    if "json" not in headers.get_first(fields, "content-type"):
        fields = headers.without(fields, "content-type")
        fields.append(("Content-Type", "application/json"))
    return replace(build_reply(status, fields, content), challenges=challenges)


def _filter_headers(response: requests.Response) -> Headers:
    fields = headers.filter_response_headers(response.raw.headers.items())
    retry_after = headers.get_first(fields, "retry-after")
    fields = headers.without(fields, "retry-after")
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        fields.append(("Retry-After", choose_retry_after(list(response.raw.headers.items()))))
    elif retry_after:
        fields.append(("Retry-After", retry_after))
    return fields


def is_oci_error(body: bytes) -> bool:
    """Return whether a body has the form of an error of the OCI distribution specification."""
    errors = documents.parse_object_or_empty(body).get("errors")
    return isinstance(errors, list) and all(isinstance(error, dict) for error in errors)


def build_error_body(
    status: int, not_found_code: ErrorCode, host: str, upstream_status: int | None = None
) -> bytes:
    """Return OCI JSON for a refusal that came without it. `not_found_code` is the code of a 404.

    `upstream_status` is the upstream's status, if it differs from the `status` for the client.
    The upstream's own text is left out, because it may be an HTML page or contain a signed URL.
    """
    if status == HTTPStatus.NOT_FOUND:
        code = not_found_code
    else:
        is_server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        code = _CODES.get(
            HTTPStatus(status) if status in _STATUSES else HTTPStatus.BAD_REQUEST,
            ErrorCode.UNAVAILABLE if is_server_error else ErrorCode.UNKNOWN,
        )
    upstream_status = upstream_status or status
    phrase = (
        HTTPStatus(upstream_status).phrase if upstream_status in _STATUSES else "an unknown status"
    )
    return json.dumps(error_document(code, f"{host} answered {upstream_status} {phrase}")).encode()


_STATUSES: Final = frozenset(status.value for status in HTTPStatus)


def choose_retry_after(fields: Headers) -> str:
    """Return the Retry-After for a 429 in seconds, as text.

    It is the upstream's Retry-After, or else the length of its window, or else 30. It is at least 1
    and at most RETRY_AFTER_LIMIT: a window rolls, so part of it is free again earlier.
    """
    retry_after = headers.get_first(fields, "retry-after").strip()
    if retry_after.isascii() and retry_after.isdecimal():
        return str(max(1, min(int(retry_after[:9]), RETRY_AFTER_LIMIT)))
    if retry_after and (seconds_left := _parse_seconds_until(retry_after)) is not None:
        return str(max(1, min(seconds_left, RETRY_AFTER_LIMIT)))
    if window := _WINDOW_PARAMETER.search(headers.get_first(fields, "ratelimit-limit")):
        return str(max(1, min(int(window[1][:9]), RETRY_AFTER_LIMIT)))
    return str(_RETRY_AFTER_GUESS)


def _parse_seconds_until(date: str) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


# Checks whether a response is the blob, or the part of it, that was requested.

_OTHER_SUCCESSES: Final = frozenset(range(200, 300)) - {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}


def find_mismatch(request: Request, reply: Reply) -> str:
    """Return why a reply must not pass for the blob that was requested, or "" if it may."""
    range_header = headers.get_first(request.headers, "range")
    if reply.status == HTTPStatus.PARTIAL_CONTENT and not range_header:
        return "the registry sent a part of a blob when the whole blob was requested"
    if request.method != "GET":
        return ""
    # The body of a 203, for example, may not be the blob (RFC 9110, section 15.3.4).
    if reply.status in _OTHER_SUCCESSES:
        return f"the registry answered {reply.status} instead of a blob"
    if (
        reply.status == HTTPStatus.PARTIAL_CONTENT
        and (requested_range := parse_range(range_header)) is not None
    ):
        part = parse_content_range(reply.header("content-range"), reply.length)
        # Not every client checks which part it got before joining it to the bytes it has.
        if part is None or not part.answers(requested_range):
            return "the registry sent a different part of a blob from the one requested"
    return ""


# With each manifest, Docker Hub reports an identity and how many pulls it has left.

_LIMIT_FIELD: Final = re.compile(r"(\d{1,9})(?:;w=(\d{1,9}))?")
"""`100;w=21600` means 100 pulls in 21,600 seconds."""

_IDENTITY_DIGITS: Final = 8
_USUAL_WINDOW: Final = 21600


def parse_budget(response: requests.Response) -> Budget | None:
    """Return the remaining pulls that a response reports, or None if it does not report them.

    The identity is an HMAC under the key of this run, prefixed with `address` or `account`,
    depending on what the registry counts pulls for.
    """
    fields = response.headers
    limit = _LIMIT_FIELD.match(fields.get("ratelimit-limit", ""))
    remaining = _LIMIT_FIELD.match(fields.get("ratelimit-remaining", ""))
    if limit is None or remaining is None:
        return None
    window = remaining[2] or limit[2] or _USUAL_WINDOW
    return Budget(
        identity=_hash_identity(fields.get("docker-ratelimit-source", "")),
        limit=int(limit[1]),
        remaining=int(remaining[1]),
        window=int(window),
    )


def _hash_identity(source: str) -> str:
    if not source:
        return "unknown"
    digest = hmac.digest(shared_memory.KEY, source.encode(errors="surrogateescape"), hashlib.sha256)
    return f"{_classify_identity(source)}-{digest.hex()[:_IDENTITY_DIGITS]}"


def _classify_identity(source: str) -> str:
    try:
        ipaddress.ip_address(source.strip())
    except ValueError:
        return "account"
    return "address"


def build_streamed_reply(
    method: str, response: requests.Response, range_requester: RangeRequester | None
) -> Reply:
    """Return a reply whose body is unread; `range_requester`, if given, resumes it when it breaks.

    Raise UpstreamMisbehaved for a redirect that leads nowhere.
    """
    redirects.refuse_unfollowed_redirect(response)
    length = get_content_length(response)
    reply = Reply(
        status=response.status_code,
        headers=headers.filter_response_headers(response.raw.headers.items()),
        length=length,
        next_query=headers.parse_next_query(response.raw.headers.getlist("Link")),
    )
    if not has_body(method, reply.status):
        discard(response)
        return reply
    part = get_content_range(response) if range_requester else None
    if range_requester and part:
        resuming_body = ResumingBody(response, part, range_requester)
        return replace(
            reply,
            body=resuming_body,
            close=resuming_body.close,
            place=_find_place(response, range_requester),
        )
    body = Body(response)
    return replace(reply, body=body, close=body.close)


def _find_place(response: requests.Response, range_requester: RangeRequester) -> Place | None:
    """Return where redirects have led to; None if the response is the registry's own."""
    if not range_requester.is_redirected(response):
        return None
    return Place(response.url, response.headers.get("ETag", ""))


def build_buffered_reply(response: requests.Response, content: bytes) -> Reply:
    """Return a reply with `content`, the body that has already been read."""
    fields = headers.filter_response_headers(response.raw.headers.items())
    return build_reply(response.status_code, fields, content)


def build_head_reply(response: requests.Response) -> Reply | None:
    """Return the reply to a HEAD, from the GET of the first byte that was sent in its place.

    None means that the upstream refused the GET. Raise UpstreamMisbehaved if the response does not
    tell the length.
    """
    if response.status_code == HTTPStatus.OK:
        length = get_content_length(response)
    elif (total := _parse_total(response.headers.get("Content-Range", ""))) is not None:
        length = total
    elif response.status_code >= HTTPStatus.BAD_REQUEST:
        return None
    else:
        response.close()
        message = f"{urlsplit(response.url).hostname} sent no length"
        raise UpstreamMisbehaved(message)
    discard(response)
    fields = headers.without(
        headers.filter_response_headers(response.raw.headers.items()), "content-range"
    )
    return Reply(status=HTTPStatus.OK, headers=fields, length=length)


def _parse_total(content_range: str) -> int | None:
    """Return the whole size, which a 206 for the first byte states, or a 416 for an empty blob."""
    part = parse_content_range(content_range)
    if part is None:
        return parse_unsatisfied_size(content_range)
    return part.total if (part.start, part.end) == (0, 1) else None


def with_verification(reply: Reply, digest: Digest) -> Reply:
    """Return a reply that holds back the end of a whole blob until its digest has been checked.

    A part of a blob is returned as it is, and so is a blob whose digest cannot be computed here: a
    client that can compute it should still get the blob.
    Raise UpstreamMisbehaved if the blob is encoded, or empty although its digest says otherwise.
    """
    if not digest.can_be_verified or isinstance(reply.body, bytes) or not _is_whole(reply):
        return reply
    problem = ""
    if reply.header("content-encoding").lower() not in {"", "identity"}:
        problem = "the registry sent a blob in an encoding that was not requested"
    elif reply.length == 0 and not digest.matches(b""):
        problem = "the registry sent no bytes for a blob that is not empty"
    if problem:
        reply.close()
        raise UpstreamMisbehaved(problem)
    body = VerifiedBody(reply.chunks(), digest, reply.length, reply.close)
    return replace(reply, body=body, close=body.close)


def _is_whole(reply: Reply) -> bool:
    """Return whether a reply has all bytes, as a 200 or as a part from the first to the last."""
    if reply.status != HTTPStatus.PARTIAL_CONTENT:
        return reply.status == HTTPStatus.OK
    part = parse_content_range(reply.header("content-range"))
    return part is not None and part.start == 0 and part.end == part.total


def with_digest(reply: Reply, digest: Digest, is_acceptable: Callable[[str], bool]) -> Reply:
    """Return a reply with the digest that the client asked for, which a CDN does not repeat.

    The reply is returned as it is if it is an error or already names a digest, or if
    `is_acceptable` rejects its Content-Type: its body may then not be the requested content.
    """
    if reply.is_error or reply.header("docker-content-digest"):
        return reply
    if not is_acceptable(reply.header("content-type")):
        return reply
    return replace(reply, headers=[*reply.headers, ("Docker-Content-Digest", digest)])
