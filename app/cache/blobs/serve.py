"""A client's request for a blob: its questions to the registry, and the answers to the client.

The request asks on behalf of its own client, or leads a fetch for all readers. The answers carry
the blob, or a part of it, from a file: a cached one or a growing spool.
"""

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.cache import cache_status
from app.cache.authz import evidence
from app.cache.authz.callers import Caller
from app.cache.authz.gate import AuthorizedContent, Gate
from app.cache.head_first import find_refusal
from app.oci import conditional, headers
from app.oci.conditional import build_range, parse_range
from app.oci.errors import UpstreamUnavailable
from app.oci.headers import Headers
from app.oci.reference import Digest, Operation, RepositoryName
from app.source import BodyBroken, HandedOver, Payer, Reply, Request, Source, do_nothing
from app.spools.fetches import Fetches, Spool
from app.spools.files import FetchState
from app.spools.filling import RemainingBody, parse_rest, parse_size, start_fetch_thread
from app.spools.lead import FetchLease
from app.spools.reading import SpoolBody


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRequest:
    """A client's request for a blob; the gate learns from each of the registry's answers to it.

    `requested_at` is the moment before the first question to the registry, by the gate's clock
    (monotonic, since boot). The methods that ask the registry raise RegistryError.
    """

    inner: Source
    gate: Gate
    caller: Caller
    name: RepositoryName
    digest: Digest
    request: Request
    requested_at: float
    only_verified: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Caller, repository and digest: requests with the same key ask the same question."""
        return (self.caller.name, self.name, self.digest)

    @property
    def payer(self) -> Payer | None:
        """The client charged for bytes that no other client reads; None if nobody is charged."""
        return self.request.payer

    def fetch_unchanged(self) -> Reply:
        """Return the registry's answer to the client's request, with all its conditions."""
        return self._fetch(self.request)

    def fetch_head(self) -> Reply:
        """Return the answer to a HEAD: whether the caller may read the blob, and its length."""
        return self._fetch(self._build_plain("HEAD"))

    def fetch_rest(self, offset: int) -> Reply:
        """Fetch from `offset` to the end on behalf of all readers.

        A client that disconnects does not cancel it.
        """
        request = replace(self._build_plain("GET"), client=None, has_fallback=None)
        return self._fetch(_with_range(request, offset) if offset else request)

    def fetch_range(self, start: int, end: int) -> Reply:
        """Fetch bytes `start` to `end` (exclusive), for this client alone."""
        request = replace(self._build_plain("GET"), has_fallback=None)  # the body has begun
        return self._fetch(_with_range(request, start, end))

    def record_verified(self) -> None:
        """Record that this repository holds the blob: all bytes are here and have the hash."""
        self.gate.record_verified(self.caller, self.name, self.digest, ("", self.requested_at))

    def _build_plain(self, method: str) -> Request:
        fields = headers.without(self.request.headers, *headers.PARTIAL)
        return replace(self.request, method=method, headers=fields)

    def _fetch(self, request: Request) -> Reply:
        fetch = partial(self.inner.answer, Operation.blob(self.name, self.digest), request)
        return self.gate.fetch_blob(self.caller, self.name, fetch, self.digest)


def _with_range(request: Request, start: int, end: int | None = None) -> Request:
    return replace(request, headers=[*request.headers, build_range(start, end)])


# Byte ranges: which part of a blob an answer carries (RFC 9110, sections 13 and 14).


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedRange:
    """Bytes `start` to `end` (exclusive) of `size`, and the status to send them with."""

    status: HTTPStatus
    start: int
    end: int
    size: int

    @property
    def has_bytes(self) -> bool:
        """Whether the answer describes bytes of the blob, even if a HEAD does not get them."""
        return self.status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole blob."""
        return self.has_bytes and self.end - self.start == self.size

    @property
    def length(self) -> int | None:
        """The Content-Length in bytes; None for a 304, which has none."""
        if self.status is HTTPStatus.NOT_MODIFIED:
            return None
        return self.end - self.start

    @property
    def headers(self) -> Headers:
        """The Content-Range header of a 206 or 416; no header for other statuses."""
        match self.status:
            case HTTPStatus.PARTIAL_CONTENT:
                return [("Content-Range", f"bytes {self.start}-{self.end - 1}/{self.size}")]
            case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return [("Content-Range", f"bytes */{self.size}")]
            case _:
                return []


def select_range(request: Request, digest: Digest, size: int) -> SelectedRange:
    """Return the part of a blob of `size` bytes that answers the request.

    Its status is 200, 206, 304, 412 or 416.
    """
    if status := conditional.evaluate_conditions(request.headers, digest):
        return SelectedRange(status=status, start=0, end=0, size=size)
    range_header = conditional.get_range_header(request.headers, digest)
    # Ranges are defined for GET alone (RFC 9110, section 14.2).
    byte_range = parse_range(range_header) if request.method == "GET" else None
    if byte_range is None:
        return SelectedRange(status=HTTPStatus.OK, start=0, end=size, size=size)
    bounds = byte_range.resolve(size)
    if bounds is None:
        status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        return SelectedRange(status=status, start=0, end=0, size=size)
    start, end = bounds
    return SelectedRange(status=HTTPStatus.PARTIAL_CONTENT, start=start, end=end, size=size)


# nginx sends the file of a hit itself (X-Accel-Redirect).

ACCEL_FAILED: Final = "x-accel-failed"
"""The header with which nginx repeats a request for a file that it could not open."""

_NGINX_CONDITIONS: Final = ("if-match", "if-unmodified-since")
"""Conditions that nginx would evaluate against the date of the file, and answer in HTML."""

_RANGE_HEADERS: Final = ("content-range", "accept-ranges")
"""Headers that nginx sets itself, since it selects the range."""


def can_accelerate(request: Request, part: SelectedRange) -> bool:
    """Return whether nginx may send the part in Docxy's place."""
    return (
        request.method == "GET"
        and part.has_bytes
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


_CONTENT_TYPE: Final = "application/octet-stream"
"""The Content-Type of every blob, whatever the registry sends. The manifest gives the real type."""


def build_cached_reply(
    blob_request: BlobRequest,
    content: AuthorizedContent,
    cache_headers: Headers,
    accel_location: str | None,
) -> Reply:
    """Return the answer from a cached blob; with `accel_location`, nginx sends the body if it can.

    The answer's body takes over the opened blob; if there is no body, the blob is closed.
    """
    part = select_range(blob_request.request, blob_request.digest, content.size)
    fields = _build_headers(blob_request, part, content.public_seconds_left) + cache_headers
    if accel_location and content.location and can_accelerate(blob_request.request, part):
        content.blob.close()
        return build_accel_reply(
            _build_bodiless(part, fields), f"{accel_location}{content.location}"
        )
    if blob_request.request.method == "HEAD" or not part.length:
        content.blob.close()
        return _build_bodiless(part, fields)
    body = content.blob.build_body(part.start, part.end)
    return Reply(
        status=part.status, headers=fields, length=part.length, body=body, close=body.close
    )


def build_spooled_reply(
    blob_request: BlobRequest, spool: Spool, part: SelectedRange, cache_headers: Headers
) -> Reply:
    """Return the answer to a GET from a running fetch; the reply closes `spool`."""
    fields = (
        _build_headers(
            blob_request,
            part,
            blob_request.gate.public_seconds_left(blob_request.caller, blob_request.name),
        )
        + cache_headers
    )
    if not part.has_bytes:
        spool.close()
        return _build_bodiless(part, fields)
    body = SpoolBody(spool, part.start, part.end, blob_request, blob_request.request.client)
    return Reply(
        status=part.status, headers=fields, length=part.length, body=body, close=body.close
    )


def _build_bodiless(part: SelectedRange, fields: Headers) -> Reply:
    return Reply(status=part.status, headers=fields, length=part.length)


def _build_headers(
    blob_request: BlobRequest, part: SelectedRange, public_seconds_left: float
) -> Headers:
    content_headers = (
        [("Content-Type", _CONTENT_TYPE), ("Accept-Ranges", "bytes")] if part.has_bytes else []
    )
    return [
        *content_headers,
        ("Docker-Content-Digest", blob_request.digest),
        *part.headers,
        *cache_status.build_content_headers(blob_request.digest, public_seconds_left),
    ]


# Leading a fetch: the client that may fetch a blob does so for all its readers.


class BlobRefused(Exception):
    """The registry answered with something other than the blob; relay `reply` to the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def lead_fetch(blob_request: BlobRequest, lead: FetchLease, fetches: Fetches) -> Spool | None:
    """Start the fetch and return its spool; None if the blob cannot be fetched for all readers.

    Raise BlobRefused if the registry answers with something else, RegistryError if it does not
    answer, and OSError if nothing can be written. `lead` is released in all these cases.
    """
    with ExitStack() as stack:
        stack.callback(_release, lead)
        rest_and_size = _fetch_rest(blob_request, lead)
        if rest_and_size is None:
            return None
        rest, size = rest_and_size
        stack.callback(rest.close)
        try:
            lead.start(size)
            spool = fetches.join(blob_request.digest, blob_request.payer)
        except OSError:
            with suppress(OSError):
                lead.discard(FetchState.GIVEN_UP)
            raise
        if spool is None:
            return None
        stack.pop_all()
    part = select_range(blob_request.request, blob_request.digest, size)
    start_fetch_thread(lead, rest, blob_request, is_whole=part.is_whole)
    return spool


def _release(lead: FetchLease) -> None:
    with suppress(OSError):
        lead.release()


def _fetch_rest(blob_request: BlobRequest, lead: FetchLease) -> tuple[RemainingBody, int] | None:
    """Return the missing bytes and the size of the whole blob.

    Return None if the answer does not fit the bytes that are already here.
    """
    if lead.size is not None and lead.offset == lead.size:
        return _confirm_complete(blob_request, lead.size)
    reply = blob_request.fetch_rest(lead.offset)
    if not reply.is_error and not evidence.is_blob(reply, blob_request.digest):
        reply = _verify_buffered(reply, blob_request.digest)
    if reply.status != HTTPStatus.OK and (not lead.offset or _is_refusal(reply)):
        raise BlobRefused(reply)
    size = parse_size(reply)
    if size is None or lead.size not in {None, size}:
        reply.close()
        return None
    rest = parse_rest(reply, lead.offset, size)
    return None if rest is None else (rest, size)


def _is_refusal(reply: Reply) -> bool:
    """Return whether the registry would refuse the whole blob too, and not only the rest of it."""
    return reply.is_error and reply.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def _verify_buffered(reply: Reply, digest: Digest) -> Reply:
    """Read an answer with the media type of an error document, and return it if it is the blob.

    Some registries and CDNs send configs as JSON or text. Raise BlobRefused if it is anything else,
    and UpstreamUnavailable if the body breaks off.
    """
    if (
        reply.status != HTTPStatus.OK
        or reply.length is None
        or reply.length >= evidence.ERROR_DOCUMENT_LIMIT
    ):
        raise BlobRefused(reply)
    try:
        data = reply.read()
    except BodyBroken as error:
        message = "the registry broke off in the middle of a blob"
        raise UpstreamUnavailable(message) from error
    finally:
        reply.close()
    reply = replace(reply, body=data, close=do_nothing)
    if evidence.is_page(reply) or not digest.matches(data):
        raise BlobRefused(reply)
    return reply


def _confirm_complete(blob_request: BlobRequest, size: int) -> tuple[RemainingBody, int] | None:
    """Ask with a HEAD whether the caller may read a blob whose bytes are all here already.

    An earlier leader fetched them and did not finish. Return None if the registry does not confirm
    the blob and its size. Raise BlobRefused if its answer settles the client's request.
    """
    reply = blob_request.fetch_head()
    if refusal := find_refusal(reply, blob_request.request):
        raise BlobRefused(refusal)
    reply.close()
    is_valid = reply.length == size and evidence.is_blob(reply, blob_request.digest)
    if reply.status != HTTPStatus.OK or not is_valid:
        return None
    return RemainingBody((), do_nothing), size
