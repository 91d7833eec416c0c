"""A registry's answer becomes a Reply."""

import re
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import requests

from app.content import Reply, has_body, replied
from app.oci import headers
from app.oci.errors import UpstreamMisbehaved
from app.oci.reference import Digest
from app.upstream import redirects
from app.upstream.body import Body, content_length
from app.upstream.discarding import discard
from app.upstream.parts import part_of
from app.upstream.resuming import Again, ResumingBody
from app.upstream.verifying import VerifiedBody, digest_of_nothing, verifies

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
