"""A client's request for a blob, and what it asks of the registry."""

from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

from app.cache.authz import evidence
from app.cache.authz.callers import Caller
from app.cache.authz.gate import Gate
from app.oci import headers
from app.oci.conditional import build_range
from app.oci.errors import UpstreamUnavailable
from app.oci.reference import Digest, Operation, RepositoryName
from app.source import BodyBroken, Client, Payer, Place, Reply, Request, Source, do_nothing
from app.transfer.lease import Span


class BlobRefused(Exception):
    """The registry answered with something other than the blob; relay `reply` to the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRequest:
    """A client's request for a blob; the gate learns from each of the registry's answers to it.

    `requested_at` is the moment before the first question to the registry, by the gate's clock
    (monotonic, since boot), and `confirmed_at` that of the question by which the registry has let
    the caller read the blob; 0 if it was not asked. `is_answered` is as in `Request`.
    The methods that ask the registry raise RegistryError.
    """

    inner: Source
    gate: Gate
    caller: Caller
    name: RepositoryName
    digest: Digest
    request: Request
    requested_at: float
    confirmed_at: float = 0.0
    only_verified: bool = False
    is_answered: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Caller, repository and digest: requests with the same key ask the same question."""
        return (self.caller.name, self.name, self.digest)

    @property
    def reader(self) -> tuple[str, str]:
        """Caller and repository: whom the registry lets read a blob."""
        return (self.caller.name, self.name)

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

    def fetch_part(self, start: int, end: int | None, client: Client | None) -> Reply:
        """Return the answer to a request for the bytes from `start` up to `end` (exclusive).

        `end` is None for all up to the end of the blob. The request is made for all readers: it
        ends with `client`, and not with the client of this request.
        """
        request = replace(self._build_plain("GET"), client=client, has_fallback=None)
        if (start, end) == (0, None):
            return self._fetch(request)
        return self._fetch(replace(request, headers=[*request.headers, build_range(start, end)]))

    def fetch_from_place(self, span: Span, client: Client | None, place: Place) -> Reply:
        """Return bytes from where the registry's redirects have led.

        Raise PlaceExpired, and PlaceForbidden if the client's rules deny it that place.
        Such an answer says nothing about what the caller may read, so the gate does not see it.
        """
        request = replace(self._build_plain("GET"), client=client, has_fallback=None, place=place)
        request = replace(request, headers=[*request.headers, build_range(*span)])
        return self.inner.answer(Operation.blob(self.name, self.digest), request)

    def record_verified(self) -> None:
        """Record that this repository holds the blob: all bytes are here and have the hash.

        Do nothing unless the registry has let the caller read it.
        """
        if self.confirmed_at:
            self.gate.record_verified(self.caller, self.name, self.digest, ("", self.confirmed_at))

    def _build_plain(self, method: str) -> Request:
        fields = headers.without(self.request.headers, *headers.PARTIAL)
        return replace(self.request, method=method, headers=fields, is_answered=self.is_answered)

    def _fetch(self, request: Request) -> Reply:
        fetch = partial(self.inner.answer, Operation.blob(self.name, self.digest), request)
        return self.gate.fetch_blob(self.caller, self.name, fetch, self.digest)


def require_blob(reply: Reply, digest: Digest) -> Reply:
    """Return a registry's answer if it carries bytes of the blob; raise BlobRefused if not."""
    if not reply.is_error and not evidence.is_blob(reply, digest):
        reply = _verify_buffered(reply, digest)
    if reply.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        raise BlobRefused(reply)
    return reply


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
