"""Passing a request on to docker-registry, and its answer back."""

from collections.abc import Iterator

import urllib3
from werkzeug.datastructures import Headers

from tests.hub.messages import BLOCK, Answer, Request

_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


def outgoing(request: Request) -> urllib3.HTTPHeaderDict:
    """Return what docker-registry is to see of a request's headers."""
    headers = urllib3.HTTPHeaderDict({"X-Forwarded-Proto": "https"})
    for name, value in request.headers:
        if name.lower() not in _HOP_BY_HOP - {"transfer-encoding"}:
            headers.add(name, value)
    for name in ("Accept-Encoding", "User-Agent"):
        headers.setdefault(name, urllib3.util.SKIP_HEADER)
    return headers


def without_conditions(request: Request) -> urllib3.HTTPHeaderDict:
    """Leave conditions and parts to the CDN: docker-registry 2.8.2 refuses a HEAD with some."""
    headers = outgoing(request)
    for name in ("Range", "If-Range", "If-None-Match"):
        headers.discard(name)
    return headers


def relayed(answer: urllib3.BaseHTTPResponse) -> Answer:
    """Return docker-registry's answer as the hub's."""
    headers = Headers()
    for name, value in answer.headers.iteritems():
        if name.lower() not in _HOP_BY_HOP:
            headers.add(name, value)
    return Answer(answer.status, headers, Relayed(answer))


class Relayed:
    """The body of docker-registry's answer; not a generator, as an unstarted one closes nothing."""

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.stream(BLOCK, decode_content=False)

    def close(self) -> None:
        """Make the connection ready for the next request."""
        self._answer.drain_conn()
        self._answer.release_conn()
