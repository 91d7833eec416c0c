"""Response bodies, read as they arrive; a body that breaks never looks complete.

`get_content_range` tells which bytes of a blob a response carries, and `discard` deals with a
response that nobody reads.
"""

import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import requests
import urllib3

from app.events import NOBODY, Event, Observer
from app.oci import documents
from app.oci.conditional import ContentRange, parse_content_range, parse_unsatisfied_size
from app.oci.errors import ClientGone, UpstreamMisbehaved, UpstreamUnavailable
from app.piece_size import FROM_CONNECTION, AdaptivePieceSize
from app.source import BodyBroken
from app.upstream.http.deadlines import NO_LIMIT, Call, ClientDisconnected
from app.upstream.http.response import MalformedResponse, UpstreamResponse
from app.waiting import CLIENT_CHECK


class ObservedResponse(requests.Response):
    """A response from a `Session`, with the session's observer.

    `received` is the response that urllib3 wraps. Its reads end at the deadline that it is given.
    """

    def __init__(self, observer: Observer, received: object = None) -> None:
        super().__init__()
        self.observer = observer
        self.received = received if isinstance(received, UpstreamResponse) else None


def get_observer(response: requests.Response) -> Observer:
    """Return the observer of the response's session; `NOBODY` if no session made the response."""
    return response.observer if isinstance(response, ObservedResponse) else NOBODY


class Body:
    """The unread body of a response.

    Iterating yields it in pieces, without decoding its Content-Encoding, and raises BodyBroken if
    the body breaks or is not complete at the deadline of `call`.
    """

    def __init__(self, response: requests.Response, call: Call = NO_LIMIT) -> None:
        self._raw: urllib3.HTTPResponse = response.raw
        self._observer = get_observer(response)
        self._received = response.received if isinstance(response, ObservedResponse) else None
        self._deadline = call.deadline
        self._set_deadline(call.deadline)

    def __iter__(self) -> Iterator[bytes]:
        pieces = AdaptivePieceSize(FROM_CONNECTION)
        try:
            while data := self._raw.read1(pieces.size, decode_content=False):
                self._observer.observe(Event.BODY_RECEIVED, amount=len(data))
                pieces.record_handed()
                yield data
                pieces.record_taken(len(data))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BodyBroken(_describe_error(error)) from error

    def skip(self, count: int, call: Call = NO_LIMIT) -> bool:
        """Read and drop `count` bytes; return True if all of them arrived.

        Return False if the body ends or breaks first, or at the deadline of `call`.
        Raise ClientGone if its client disconnects.
        """
        checked_at = time.monotonic()
        self._set_deadline(min(call.deadline, self._deadline))
        try:
            while count:
                data = self._raw.read1(min(FROM_CONNECTION, count), decode_content=False)
                if not data:
                    return False
                self._observer.observe(Event.BODY_RECEIVED, amount=len(data))
                count -= len(data)
                if call.client is not None and time.monotonic() - checked_at > CLIENT_CHECK:
                    checked_at = time.monotonic()
                    if call.client.is_gone():
                        raise ClientGone
        except (urllib3.exceptions.HTTPError, OSError):
            return False
        finally:
            self._set_deadline(self._deadline)
        return True

    def _set_deadline(self, deadline: float) -> None:
        if self._received is not None:
            self._received.set_deadline(deadline)

    def close(self) -> None:
        """Close the connection, unless reading the whole body has returned it to its pool."""
        self._raw.close()


def read_whole(response: requests.Response, limit: int, call: Call) -> bytes:
    """Return a whole body that should be small.

    Raise UpstreamMisbehaved if it is longer than `limit` bytes or its chunks are malformed.
    Raise UpstreamUnavailable if it breaks or is not complete at the deadline of `call`: no byte of
    it has reached the client.
    """
    declared_length = get_content_length(response) or 0
    data = read_start(response, limit, call) if declared_length <= limit else b""
    if max(len(data), declared_length) > limit:
        response.close()
        message = f"the answer is larger than {limit} bytes"
        raise UpstreamMisbehaved(message)
    return data


def read_document(response: requests.Response, limit: int, call: Call) -> bytes:
    """Return a JSON document that should be small, as `read_whole` does, if it is complete.

    If the body ends only with its connection (RFC 9112, section 6.3), a cut connection looks like a
    complete body. But a truncated JSON object does not parse: raise UpstreamUnavailable for it.
    """
    data = read_whole(response, limit, call)
    is_framed = get_content_length(response) is not None or response.raw.chunked
    if not is_framed and data.lstrip().startswith(b"{"):
        try:
            documents.parse_object(data)
        except ValueError as error:
            message = f"{urlsplit(response.url).hostname}: the answer broke off"
            raise UpstreamUnavailable(message) from error
    return data


def is_client_disconnect(error: BodyBroken) -> bool:
    """Return True if reading stopped because the client disconnected."""
    return error.__cause__ is not None and isinstance(error.__cause__.__cause__, ClientDisconnected)


def _describe_error(error: BaseException) -> str:
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "the registry fell silent"
    if isinstance(error.__cause__, ClientDisconnected):
        return "the client left"
    return "the registry broke off"


def read_start(response: requests.Response, limit: int, call: Call) -> bytes:
    """Return the start of a body, and close it.

    Stop once more than `limit` bytes are read: the result is at most one piece (256 KiB) longer.
    Raise UpstreamUnavailable if the body breaks or the deadline of `call` passes,
    UpstreamMisbehaved if its chunks are malformed.
    """
    body = Body(response, call)
    data = bytearray()
    try:
        for piece in body:
            data += piece
            if len(data) > limit:
                break
    except BodyBroken as error:
        host = urlsplit(response.url).hostname
        if error.__cause__ is not None and isinstance(error.__cause__.__cause__, MalformedResponse):
            message = f"{host}: the answer cannot be read"
            raise UpstreamMisbehaved(message) from error
        message = f"{host}: the answer broke off"
        raise UpstreamUnavailable(message) from error
    finally:
        body.close()
    return bytes(data)


def get_content_length(response: requests.Response) -> int | None:
    """Return the Content-Length of a response in bytes, or None if it has no such header.

    `response.parse_framing` has checked that it is a number and the only one.
    """
    length = response.raw.headers.get("Content-Length")
    return None if length is None else int(length)


# Which bytes of a blob a response carries, by its Content-Range and Content-Length.


def parse_unsatisfied_total(response: requests.Response) -> int | None:
    """Return the total size, in bytes, that a 416 states (RFC 9110, section 15.5.17).

    Return None for any other status, or if the Content-Range does not state it.
    """
    if response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return None
    return parse_unsatisfied_size(response.headers.get("Content-Range", ""))


def get_content_range(response: requests.Response) -> ContentRange | None:
    """Return which bytes of the blob a response to a GET carries (RFC 9110, section 14.4).

    Return None if the response cannot be continued: it is neither 200 nor 206, has a content
    encoding, or its Content-Range is unusable.
    """
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        return None  # these bytes are encoded, and nobody knows the digest of that form
    length = get_content_length(response)
    if response.status_code == HTTPStatus.OK:
        return ContentRange(0, length, length)
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        return None
    return parse_content_range(response.headers.get("Content-Range", ""), length)


# A response that nobody reads: its connection is kept if that costs little.

_DRAIN_LIMIT: Final = 64 * 1024
_DRAIN_TIMEOUT: Final = 1.0
"""Seconds for reading the rest: a new connection takes less than that."""


def discard(response: requests.Response, call: Call = NO_LIMIT) -> None:
    """Return the response's connection to its pool if the rest of the body is short, or close it.

    Short is 64 KiB at most by its Content-Length, read within one second and before the deadline
    of `call`.
    """
    remaining = response.raw.length_remaining
    if remaining is not None and remaining <= _DRAIN_LIMIT:
        Body(response).skip(_DRAIN_LIMIT, Call(deadline=call.deadline).limit_time(_DRAIN_TIMEOUT))
    response.close()
