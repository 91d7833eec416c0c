"""Fetches manifests from the registry, verifies them and keeps those that are verified."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.cache import cache_status
from app.cache.authz import evidence
from app.cache.authz.callers import Caller
from app.cache.authz.gate import Gate
from app.cache.manifests.copies import CachedManifests
from app.cache.manifests.tags import TagAnswer
from app.cache.policy import MANIFEST_LIMIT
from app.oci import headers, media_types
from app.oci.conditional import is_not_modified
from app.oci.errors import UpstreamMisbehaved
from app.oci.reference import Digest, Operation, Reference, RepositoryName
from app.source import Reply, Request, Source, do_nothing
from app.store.ledger import MemberContent

_SIGNED_TYPE: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
"""A media type whose digest is that of the signed payload, and not of the bytes sent."""


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A registry's answer, with the digest and media type of the manifest that it is about.

    `digest` is None if the answer is not a manifest, could not be verified, or names no digest.
    `requested_at` is when the request began, by the gate's clock (monotonic, since boot).
    `is_noted`: `write_too` was called in the transaction that made the manifest readable.
    """

    reply: Reply
    requested_at: float
    digest: Digest | None = None
    media_type: str = ""
    is_noted: bool = False


class ManifestFetcher:
    """Requests manifests in a caller's name, through the gate; methods raise RegistryError."""

    def __init__(self, inner: Source, gate: Gate, cached_manifests: CachedManifests) -> None:
        self._inner = inner
        self._gate = gate
        self._cached_manifests = cached_manifests

    def fetch_head(
        self, caller: Caller, name: RepositoryName, reference: Reference, request: Request
    ) -> FetchedManifest:
        """Return the answer to a HEAD, which Docker Hub does not count as a pull."""
        requested_at = self._gate.now()
        reply = self._fetch(caller, name, reference, request, "HEAD")
        if reply.status != HTTPStatus.OK or not _is_manifest_reply(reply, reference):
            return FetchedManifest(reply, requested_at)
        media_type = media_types.drop_overlong(reply.header("content-type"))
        return FetchedManifest(reply, requested_at, _find_digest(reply, reference), media_type)

    def fetch_manifest(
        self,
        caller: Caller,
        name: RepositoryName,
        reference: Reference,
        request: Request,
        write_too: Callable[[TagAnswer], None] | None = None,
    ) -> FetchedManifest:
        """Return the answer to a GET, and keep the manifest if it can be verified.

        `write_too` writes what the answer says of a tag, in the transaction that makes the manifest
        readable; it is not called for a manifest that is not kept.

        A manifest that cannot be verified is passed on as it is. Raise UpstreamMisbehaved if the
        client asked by digest and the registry sent another manifest.
        """
        requested_at = self._gate.now()
        reply = self._fetch(caller, name, reference, request, "GET")
        if reply.status != HTTPStatus.OK or not _is_manifest_reply(reply, reference):
            return FetchedManifest(
                cache_status.mark_reply(reply, cache_status.build_forwarded(reply.status)),
                requested_at,
            )
        try:
            data = reply.read()
        finally:
            reply.close()
        reply = replace(reply, length=len(data), body=data, close=do_nothing)
        digest = _find_digest(reply, reference) or Digest.compute(data)
        media_type = media_types.drop_overlong(reply.header("content-type"))
        if not _verify(reply, data, digest, reference):
            return FetchedManifest(
                cache_status.mark_reply(reply, cache_status.build_forwarded(reply.status)),
                requested_at,
            )
        tag_answer = TagAnswer(digest, media_type, requested_at)
        is_stored = len(data) <= MANIFEST_LIMIT and self._cached_manifests.keep(
            caller, name, data, tag_answer, write_too
        )
        is_by_digest = isinstance(reference, Digest)
        fields = [
            *cache_status.build_forwarded(reply.status, stored=is_stored),
            *cache_status.build_content_headers(
                digest, self._gate.public_seconds_left(caller, name) if is_by_digest else 0.0
            ),
        ]
        answer = apply_conditions(cache_status.mark_reply(reply, fields), request, digest)
        is_noted = is_stored and write_too is not None
        return FetchedManifest(answer, requested_at, digest, media_type, is_noted)

    def _fetch(
        self,
        caller: Caller,
        name: RepositoryName,
        reference: Reference,
        request: Request,
        method: str,
    ) -> Reply:
        # The answer serves all clients, so the request leaves out this client's conditions.
        fields = headers.without(request.headers, *headers.PARTIAL)
        plain_request = replace(request, method=method, headers=fields)
        digest = reference if isinstance(reference, Digest) else None
        fetch = partial(self._inner.answer, Operation.manifest(name, reference), plain_request)
        reply = self._gate.fetch_manifest(caller, name, fetch, digest, get_accept_headers(request))
        if reply.status == HTTPStatus.NOT_FOUND:
            self._gate.recheck_public(
                caller, name, lambda member: self._fetch_member_head(name, member, plain_request)
            )
        return reply

    def _fetch_member_head(
        self, name: RepositoryName, member: MemberContent, request: Request
    ) -> Reply:
        fields = [*headers.without(request.headers, "accept"), ("Accept", member.media_type)]
        return self._inner.answer(
            Operation.manifest(name, member.digest), replace(request, method="HEAD", headers=fields)
        )


def apply_conditions(reply: Reply, request: Request, digest: Digest) -> Reply:
    """Return a 304 if the client's If-None-Match names the digest, and `reply` if not."""
    if not is_not_modified(request.headers, digest):
        return reply
    fields = headers.without(reply.headers, "content-type", "content-encoding")
    return Reply(status=HTTPStatus.NOT_MODIFIED, headers=fields)


def get_accept_headers(request: Request) -> Sequence[str]:
    """Return the values of the request's Accept headers."""
    return headers.get_all(request.headers, "accept")


def _is_manifest_reply(reply: Reply, reference: Reference) -> bool:
    return evidence.is_manifest(reply, reference if isinstance(reference, Digest) else None)


def _find_digest(reply: Reply, reference: Reference) -> Digest | None:
    return reference if isinstance(reference, Digest) else reply.digest


def _verify(reply: Reply, data: bytes, digest: Digest, reference: Reference) -> bool:
    """Return whether the hash of the bytes is the digest.

    Return False if that cannot be decided: the answer is passed on uncached. Raise
    UpstreamMisbehaved if the hash is wrong and the client asked by digest.
    """
    is_encoded = reply.header("content-encoding").lower() not in {"", "identity"}
    is_signed = media_types.essence(reply.header("content-type")) == _SIGNED_TYPE
    if is_encoded or is_signed or not digest.can_be_verified:
        return False
    if digest.matches(data):
        return True
    if isinstance(reference, Digest):
        message = "the registry sent a different manifest from the one requested"
        raise UpstreamMisbehaved(message)
    return False
