"""Decides by the registry's answer to a HEAD whether the client's GET has to be sent."""

import json
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from app.cache.stale import is_outage_status
from app.oci import headers
from app.oci.errors import ErrorCode, error_document
from app.source import Reply, Request, build_reply

_CODES: Final[Mapping[int, ErrorCode]] = {
    HTTPStatus.UNAUTHORIZED: ErrorCode.UNAUTHORIZED,
    HTTPStatus.TOO_MANY_REQUESTS: ErrorCode.TOOMANYREQUESTS,
}


def find_refusal(reply: Reply, request: Request) -> Reply | None:
    """Return the answer to the client if a HEAD's refusal decides it; None if a GET has to ask.

    A 401 with a challenge decides: the challenge is the same for every method, and clients read
    nothing else of a 401. So does trouble (429 or 5xx), since a GET would only meet it again. For a
    GET, the HEAD is closed and the answer has a body in OCI JSON.

    403 and 404 decide nothing: clients display their bodies, and some registries answer 404 to a
    HEAD although a GET succeeds (goharbor/harbor#22609). Nor does 501, which is about the method.
    """
    is_challenge = reply.status == HTTPStatus.UNAUTHORIZED and bool(reply.challenges)
    if not is_challenge and not is_outage_status(reply.status):
        return None
    if request.method == "HEAD":
        return reply
    reply.close()
    code = _CODES.get(reply.status, ErrorCode.UNAVAILABLE)
    document = error_document(code, f"the registry answered {reply.status}")
    fields = headers.without(reply.headers, "content-type", "content-encoding", "etag")
    fields.append(("Content-Type", "application/json"))
    answer = build_reply(reply.status, fields, json.dumps(document).encode())
    return replace(answer, challenges=reply.challenges)
