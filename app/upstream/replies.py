"""A registry's answer becomes a Reply."""

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
from app.oci import headers
from app.oci.challenge import Challenge
from app.oci.conditional import Range, parse_range
from app.oci.errors import ErrorCode, UpstreamMisbehaved, UpstreamUnavailable, error_document
from app.oci.headers import Headers
from app.oci.reference import Digest
from app.source import Budget, Reply, Request, has_body, replied
from app.upstream.http import redirects
from app.upstream.http.body import (
    Body,
    Part,
    content_length,
    discard,
    part_of,
    part_told,
    read_start,
)
from app.upstream.resume import Again, ResumingBody, VerifiedBody, digest_of_nothing, verifies

# An upstream's refusal, in the shape that clients read: OCI JSON, and Retry-After on 429.

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


# Whether an answer is what a blob, or a part of it, was asked for.

_OTHER_SUCCESSES: Final = frozenset(range(200, 300)) - {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}


def problem(request: Request, reply: Reply) -> str:
    """Return why an answer to a question for a blob must not pass for one, or ""."""
    asked = headers.value(request.headers, "range")
    if reply.status == HTTPStatus.PARTIAL_CONTENT and not asked:
        return "the registry sent a part of a blob that was asked for whole"
    if request.method != "GET":
        return ""
    # Of a 203, say, nobody knows whether its body is the blob (RFC 9110, section 15.3.4).
    if reply.status in _OTHER_SUCCESSES:
        return f"the registry answered {reply.status} instead of a blob"
    wanted = parse_range(asked)
    if reply.status == HTTPStatus.PARTIAL_CONTENT and wanted is not None:
        part = part_told(reply.header("content-range"), reply.length)
        # Not all clients look at what they were given before they join it to what they have.
        if part is None or not _fits(part, wanted):
            return "the registry sent another part of a blob than was asked for"
    return ""


def _fits(part: Part, wanted: Range) -> bool:
    """Tell whether a part begins where it should, and goes no further."""
    if wanted.first is None:
        total = part.end if part.total is None else part.total
        return part.end == total and part.start == max(0, (total or 0) - (wanted.last or 0))
    end = part.end or 0
    return part.start == wanted.first and (wanted.last is None or end <= wanted.last + 1)


# Docker Hub says with each manifest how many pulls an identity has left, and whose they are.

_LIMIT: Final = re.compile(r"(\d{1,9})(?:;w=(\d{1,9}))?")
"""`100;w=21600`: so many in so many seconds."""

_SHORT: Final = 8
_USUAL_WINDOW: Final = 21600


def told(response: requests.Response) -> Budget | None:
    """Read what an answer says of pulls, or None for nothing.

    The identity is named by an HMAC under the key of this run, and by whether pulls are counted
    for an address or an account.
    """
    fields = response.headers
    limit = _LIMIT.match(fields.get("ratelimit-limit", ""))
    remaining = _LIMIT.match(fields.get("ratelimit-remaining", ""))
    if limit is None or remaining is None:
        return None
    window = remaining[2] or limit[2] or _USUAL_WINDOW
    return Budget(
        identity=_identity(fields.get("docker-ratelimit-source", "")),
        limit=int(limit[1]),
        remaining=int(remaining[1]),
        window=int(window),
    )


def _identity(source: str) -> str:
    if not source:
        return "unknown"
    digest = hmac.digest(shared_memory.KEY, source.encode(errors="surrogateescape"), hashlib.sha256)
    return f"{_kind(source)}-{digest.hex()[:_SHORT]}"


def _kind(source: str) -> str:
    try:
        ipaddress.ip_address(source.strip())
    except ValueError:
        return "account"
    return "address"


_TOTAL: Final = re.compile(r"bytes (?:0-0|\*)/(\d{1,18})")
"""Content-Range of the first byte, or of none where a blob is empty (RFC 9110, section 14.4)."""

_WHOLE: Final = re.compile(r"bytes 0-(\d{1,18})/(\d{1,18})")


def answered(method: str, response: requests.Response, again: Again | None) -> Reply:
    """Return a reply whose body is unread; one that breaks goes on where `again` can ask for it."""
    redirects.refuse_dead_end(response)
    length = content_length(response)
    reply = Reply(
        status=response.status_code,
        headers=headers.pass_down(response.raw.headers.items()),
        length=length,
        next_query=headers.next_query(response.raw.headers.getlist("Link")),
    )
    if not has_body(method, reply.status):
        discard(response)
        return reply
    part = part_of(response) if again else None
    if again and part:
        resuming = ResumingBody(response, part, again)
        return replace(reply, body=resuming, close=resuming.close)
    body = Body(response)
    return replace(reply, body=body, close=body.close)


def whole(response: requests.Response, content: bytes) -> Reply:
    """Return a reply whose body has been read."""
    fields = headers.pass_down(response.raw.headers.items())
    return replied(response.status_code, fields, content)


def probed(response: requests.Response) -> Reply | None:
    """Answer a HEAD from the GET of the first byte that was sent in its place; None if refused.

    Raise UpstreamMisbehaved for an answer that tells no length.
    """
    if response.status_code == HTTPStatus.OK:
        length = content_length(response)
    elif total := _TOTAL.fullmatch(response.headers.get("Content-Range", "")):
        length = int(total[1])
    elif response.status_code >= HTTPStatus.BAD_REQUEST:
        return None
    else:
        response.close()
        message = f"{urlsplit(response.url).hostname} tells no length"
        raise UpstreamMisbehaved(message)
    discard(response)
    passed = headers.without(headers.pass_down(response.raw.headers.items()), "content-range")
    return Reply(status=HTTPStatus.OK, headers=passed, length=length)


def verified(reply: Reply, digest: Digest) -> Reply:
    """Hold back the end of a whole blob until its digest is right.

    Raise UpstreamMisbehaved for what is wrong before a byte of it has come.
    """
    if not verifies(digest) or not (reply.body and _is_whole(reply)):
        return reply
    problem = ""
    if reply.header("content-encoding").lower() not in {"", "identity"}:
        problem = "the registry sent a blob in an encoding that was not asked for"
    elif reply.length == 0 and digest != digest_of_nothing(digest):
        problem = "the registry sent an empty blob that is not empty"
    if problem:
        reply.close()
        raise UpstreamMisbehaved(problem)
    body = VerifiedBody(reply.body, digest, reply.length, reply.close)
    return replace(reply, body=body, close=body.close)


def _is_whole(reply: Reply) -> bool:
    """Tell whether all bytes come, be it as a part from the first one to the last."""
    if reply.status != HTTPStatus.PARTIAL_CONTENT:
        return reply.status == HTTPStatus.OK
    found = _WHOLE.fullmatch(reply.header("content-range").strip())
    return found is not None and int(found[1]) + 1 == int(found[2])


def with_digest(reply: Reply, digest: Digest, fits: Callable[[str], bool]) -> Reply:
    """Add the digest that the client asked for, which a CDN's answer does not repeat.

    What `fits` not, by its Content-Type, may be something else than was asked for.
    """
    if reply.is_error or reply.header("docker-content-digest"):
        return reply
    if not fits(reply.header("content-type")):
        return reply
    return replace(reply, headers=[*reply.headers, ("Docker-Content-Digest", digest)])
