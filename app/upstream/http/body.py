"""A body, read as it arrives; one that breaks is never ended quietly."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import requests
import urllib3

from app.oci.errors import ClientGone, UpstreamMisbehaved, UpstreamUnavailable
from app.source import NOBODY, BodyBroken, Client, Event, Observer
from app.upstream.http.deadlines import ClientLeft, within
from app.upstream.http.response import Malformed

# A response that knows who wants to hear of it.


class Answer(requests.Response):
    """What a session gives; its observer is the session's."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self.observer = observer


def observer_of(response: requests.Response) -> Observer:
    """Return who is told what becomes of a response."""
    return response.observer if isinstance(response, Answer) else NOBODY


_GATHER: Final = 256 * 1024
"""Bytes handed on at once, at the most: larger pieces are no faster and cost memory for each
stream (docs/decisions/reading-upstream/piece-size.md)."""
_CLIENT_CHECK: Final = 0.25

_GATHER_FOR_SLOW: Final = 64 * 1024
"""The same for whoever takes long: such a stream holds a piece nearly all the time."""
_LONG: Final = 0.5
"""Seconds that no piece takes where the client is fast, however many others there are."""
_PROVEN: Final = 8 * 1024 * 1024
"""Bytes that must have been taken without such a wait: more than the kernel's buffers take."""


class Body:
    """The unread body of a response."""

    def __init__(self, response: requests.Response) -> None:
        self._raw: urllib3.HTTPResponse = response.raw
        self._observer = observer_of(response)

    def __iter__(self) -> Iterator[bytes]:
        gather, swiftly = _GATHER_FOR_SLOW, 0
        try:
            while data := self._raw.read1(gather, decode_content=False):
                self._observer.happened(Event.RECEIVED, amount=len(data))
                handed = time.monotonic()
                yield data
                swiftly = swiftly + len(data) if time.monotonic() - handed < _LONG else 0
                gather = _GATHER if swiftly >= _PROVEN else _GATHER_FOR_SLOW
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BodyBroken(_reason(error)) from error

    def skip(self, count: int, seconds: float = float("inf"), client: Client | None = None) -> bool:
        """Read so many bytes and drop them; return False where they do not come in time.

        Raise ClientGone as soon as they are dropped for nobody.
        """
        looked = time.monotonic()
        with within(seconds):
            while count:
                try:
                    data = self._raw.read1(min(_GATHER, count), decode_content=False)
                except (urllib3.exceptions.HTTPError, OSError):
                    return False
                if not data:
                    return False
                self._observer.happened(Event.RECEIVED, amount=len(data))
                count -= len(data)
                if client is not None and time.monotonic() - looked > _CLIENT_CHECK:
                    looked = time.monotonic()
                    if client.gone():
                        raise ClientGone
        return True

    def close(self) -> None:
        """Close the connection, unless the body was read to its end and gave it back."""
        self._raw.close()


def read_whole(response: requests.Response, limit: int) -> bytes:
    """Read a body that should be small; raise UpstreamMisbehaved beyond `limit` bytes.

    Raise UpstreamUnavailable if it breaks: nothing of it has reached the client.
    """
    declared = content_length(response) or 0
    data = read_start(response, limit) if declared <= limit else b""
    if max(len(data), declared) > limit:
        response.close()
        message = f"the answer is larger than {limit} bytes"
        raise UpstreamMisbehaved(message)
    return data


def read_document(response: requests.Response, limit: int) -> bytes:
    """Read a JSON document as `read_whole` does, and see that it has come to its end.

    Where that is the end of the connection (RFC 9112, section 6.3), a cut looks like it; but what
    is left of an object is none.
    """
    data = read_whole(response, limit)
    framed = content_length(response) is not None or response.raw.chunked
    if not framed and data.lstrip().startswith(b"{") and not _is_json(data):
        message = f"{urlsplit(response.url).hostname}: the answer broke off"
        raise UpstreamUnavailable(message)
    return data


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def client_left(error: BodyBroken) -> bool:
    """Tell whether a body broke because nobody waits for it any more."""
    return error.__cause__ is not None and isinstance(error.__cause__.__cause__, ClientLeft)


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "the registry fell silent"
    if isinstance(error.__cause__, ClientLeft):
        return "the client left"
    return "the registry broke off"


def read_start(response: requests.Response, limit: int) -> bytes:
    """Read no more than about `limit` bytes of a body.

    Raise UpstreamUnavailable if it breaks, UpstreamMisbehaved if its chunks cannot be read.
    """
    body = Body(response)
    data = bytearray()
    try:
        for piece in body:
            data += piece
            if len(data) > limit:
                break
    except BodyBroken as error:
        host = urlsplit(response.url).hostname
        if error.__cause__ is not None and isinstance(error.__cause__.__cause__, Malformed):
            message = f"{host}: the answer cannot be read"
            raise UpstreamMisbehaved(message) from error
        message = f"{host}: the answer broke off"
        raise UpstreamUnavailable(message) from error
    finally:
        body.close()
    return bytes(data)


def content_length(response: requests.Response) -> int | None:
    """Return the length that a response declares, or None.

    That it is a number, and the only one, was seen when the head was read (`response.framing`).
    """
    length = response.raw.headers.get("Content-Length")
    return None if length is None else int(length)


# Which bytes of a blob an answer carries: Content-Range and Content-Length.

_UNSATISFIED: Final = re.compile(r"bytes \*/(\d{1,18})")
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `end`, the last one not counted, of `total`; None for what is not known."""

    start: int
    end: int | None
    total: int | None

    def continues(self, wanted: "Part") -> bool:
        """Tell whether this part begins where `wanted` does and belongs to the same whole."""
        if self.start != wanted.start:
            return False
        if self.end is not None and wanted.end is not None and self.end > wanted.end:
            return False
        return self.belongs(wanted)

    def belongs(self, wanted: "Part") -> bool:
        """Tell whether this part may be of the same whole, as far as both tell of it."""
        if self.total is None:
            return True
        if wanted.total is not None:
            return self.total == wanted.total
        return wanted.end is None or self.total >= wanted.end


def part_at_end(response: requests.Response) -> int | None:
    """Return the total that a refusal of a part tells (RFC 9110, section 15.5.17), or None."""
    if response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return None
    match = _UNSATISFIED.fullmatch(response.headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None


def part_of(response: requests.Response) -> Part | None:
    """Return what an answer to a GET carries; None for what no part of it could continue."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        return None  # the bytes of the encoded form, of which nobody knows the digest
    length = content_length(response)
    if response.status_code == HTTPStatus.OK:
        return Part(0, length, length)
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        return None
    return part_told(response.headers.get("Content-Range", ""), length)


def part_told(content_range: str, length: int | None) -> Part | None:
    """Return what a Content-Range tells; None where it cannot be read, or not with that length."""
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    if match is None:
        return None  # several ranges, or none that can be read
    start, end = int(match[1]), int(match[2]) + 1
    total = None if match[3] == "*" else int(match[3])
    consistent = start < end and (total is None or end <= total)
    if not consistent or length not in {None, end - start}:
        return None
    return Part(start, end, total)


# An answer that nobody reads: its connection is kept if that costs little.

_DRAIN_LIMIT: Final = 64 * 1024
_PATIENCE: Final = 1.0
"""Seconds for all of it: a new connection is made faster."""


def discard(response: requests.Response) -> None:
    """Give the connection back if the rest of the answer is short, or else close it."""
    remaining = response.raw.length_remaining
    if remaining is not None and remaining <= _DRAIN_LIMIT:
        with within(_PATIENCE):
            Body(response).skip(_DRAIN_LIMIT)
    response.close()
