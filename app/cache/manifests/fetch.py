"""Fetches manifests from the registry, verifies them and keeps those that are verified."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.cache import cache_status
from app.cache.authz import evidence
from app.cache.authz.callers import Caller
from app.cache.authz.gate import Gate
from app.cache.manifests.copies import Copies
from app.cache.policy import MANIFEST_LIMIT
from app.oci import conditional as conditional_headers
from app.oci import headers, media_types
from app.oci.errors import UpstreamMisbehaved
from app.oci.reference import Digest, Reference, RepositoryName, digest_of
from app.source import Reply, Request, Source
from app.store.admin import Held

_SHA256: Final = Digest("sha256:")
"""Selects the algorithm by which `digest_of` hashes."""

_CONDITIONS: Final = (
    "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
)  # fmt: skip


_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
"""A media type whose digest is that of the signed payload, and not of the bytes sent."""


@dataclass(frozen=True, slots=True)
class Told:
    """A registry's answer, with the digest and media type of the manifest that it is about.

    `digest` is None if the answer is no manifest, could not be verified, or does not name a digest.
    `asked` is when the request began, by the gate's clock (monotonic, since boot).
    """

    reply: Reply
    asked: float
    digest: Digest | None = None
    media_type: str = ""


class Fetching:
    """Requests manifests in a caller's name, through the gate; methods raise RegistryError."""

    def __init__(self, inner: Source, gate: Gate, copies: Copies) -> None:
        self._inner = inner
        self._gate = gate
        self._copies = copies

    def head(
        self, caller: Caller, name: RepositoryName, reference: Reference, request: Request
    ) -> Told:
        """Return the answer to a HEAD, which Docker Hub does not count as a pull."""
        asked = self._gate.now()
        reply = self._ask(caller, name, reference, request, "HEAD")
        if reply.status != HTTPStatus.OK or not _is_answered(reply, reference):
            return Told(reply, asked)
        media_type = media_types.remembered(reply.header("content-type"))
        return Told(reply, asked, _digest(reply, reference), media_type)

    def get(
        self, caller: Caller, name: RepositoryName, reference: Reference, request: Request
    ) -> Told:
        """Return the answer to a GET, and keep the manifest if it can be verified.

        A manifest that cannot be verified is passed on as it is. Raise UpstreamMisbehaved if the
        client asked by digest and the registry sent another manifest.
        """
        asked = self._gate.now()
        reply = self._ask(caller, name, reference, request, "GET")
        if reply.status != HTTPStatus.OK or not _is_answered(reply, reference):
            return Told(cache_status.marked(reply, cache_status.forwarded(reply.status)), asked)
        try:
            data = b"".join(reply.body)
        finally:
            reply.close()
        reply = replace(reply, length=len(data), body=(data,), close=_nothing)
        digest = _digest(reply, reference) or Digest(digest_of(data, _SHA256))
        media_type = media_types.remembered(reply.header("content-type"))
        if not _is_verified(reply, data, digest, reference):
            return Told(cache_status.marked(reply, cache_status.forwarded(reply.status)), asked)
        kept = len(data) <= MANIFEST_LIMIT and self._copies.keep(
            caller, name, digest, (data, media_type), asked=asked
        )
        lasting = isinstance(reference, Digest)
        fields = [
            *cache_status.forwarded(reply.status, stored=kept),
            *cache_status.of_content(
                digest, self._gate.public_left(caller, name) if lasting else 0.0
            ),
        ]
        answer = conditional(cache_status.marked(reply, fields), request, digest)
        return Told(answer, asked, digest, media_type)

    def _ask(
        self,
        caller: Caller,
        name: RepositoryName,
        reference: Reference,
        request: Request,
        method: str,
    ) -> Reply:
        # The answer serves all clients, so the request leaves out this client's conditions.
        fields = headers.without(request.headers, *_CONDITIONS)
        plain = replace(request, method=method, headers=fields)
        digest = reference if isinstance(reference, Digest) else None
        question = partial(self._inner.manifest, name, reference, plain)
        reply = self._gate.ask_manifest(caller, name, question, digest, accepts(request))
        if reply.status == HTTPStatus.NOT_FOUND:
            self._gate.prove(caller, name, lambda held: self._head(name, held, plain))
        return reply

    def _head(self, name: RepositoryName, held: Held, request: Request) -> Reply:
        fields = [*headers.without(request.headers, "accept"), ("Accept", held.media_type)]
        return self._inner.manifest(
            name, held.digest, replace(request, method="HEAD", headers=fields)
        )


def conditional(reply: Reply, request: Request, digest: Digest) -> Reply:
    """Return a 304 if the client's If-None-Match names the digest, and `reply` if not."""
    if not conditional_headers.is_known(request.headers, conditional_headers.etag_of(digest)):
        return reply
    fields = headers.without(reply.headers, "content-type", "content-encoding")
    return Reply(status=HTTPStatus.NOT_MODIFIED, headers=fields)


def accepts(request: Request) -> Sequence[str]:
    """Return the values of the request's Accept headers."""
    return headers.values(request.headers, "accept")


def _is_answered(reply: Reply, reference: Reference) -> bool:
    return evidence.is_manifest(reply, reference if isinstance(reference, Digest) else None)


def _digest(reply: Reply, reference: Reference) -> Digest | None:
    return reference if isinstance(reference, Digest) else reply.digest


def _is_verified(reply: Reply, data: bytes, digest: Digest, reference: Reference) -> bool:
    """Return whether the hash of the bytes is the digest.

    Return False if that cannot be decided: the answer is passed on, as without a cache. Raise
    UpstreamMisbehaved if the hash is wrong and the client asked by digest.
    """
    encoded = reply.header("content-encoding").lower() not in {"", "identity"}
    signed = media_types.essence(reply.header("content-type")) == _SIGNED
    if encoded or signed or not digest.can_be_verified:
        return False
    if digest_of(data, digest) == digest:
        return True
    if isinstance(reference, Digest):
        message = "the registry sent another manifest than was asked for"
        raise UpstreamMisbehaved(message)
    return False


def _nothing() -> None:
    pass
