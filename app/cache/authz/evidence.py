"""Evidence: what a registry's answer says about who may read a repository, and what it holds.

A success counts only if it is about the requested content. A server in front of a registry may
answer a client that is not logged in with a login page or a JSON document, at once or after a
redirect, and with status 200.

The methods of `EvidenceRecorder` wait for the disk, and are called on its threads; they may raise
StoreError.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from app.cache.authz.callers import Caller
from app.cache.authz.grants import BoundedMap, RegistryGrants, Shown, Standing
from app.oci import manifest, media_types
from app.oci.reference import Digest, RepositoryName
from app.source import Reply
from app.store.ledger import Confirmation, Ledger, Member
from app.transfer.rest import parse_size

# Members: which digests a repository holds, as its registry has said, and to which callers.
#
# A member is *shown* once the registry has let an anonymous caller read it in that repository.


@dataclass(frozen=True, slots=True)
class _ReportedContent:
    """A description of content by a registry: its size in bytes (None: unknown) and media type."""

    size: int | None
    media_type: str


def _confirm_member(standing: Standing, report: _ReportedContent) -> Member | None:
    """Return what a registry has newly confirmed of cached content; None if nothing is new.

    It must report the size that the content has.
    """
    if not _has_size(standing, report.size):
        return None
    member = standing.member
    # A media type from a GET is that of the bytes sent; some registries' HEADs report another.
    if member is None or (report.media_type and not member.media_type):
        return Member(report.media_type, is_public=standing.is_anonymous)
    return Member("", is_public=True) if standing.is_newly_public else None


def _has_size(standing: Standing, size: int | None) -> bool:
    """Return whether content is cached with this size in bytes; False if `size` is None."""
    return size is not None and standing.entry is not None and standing.entry.size == size


def _is_absent(member: Member | None, accepts: Sequence[str]) -> bool:
    """Return whether a 404 says that a repository does not hold a known member.

    Some registries answer 404 for a manifest whose media type the client does not accept. The
    member stays in that case.
    """
    return (
        member is None
        or not member.media_type
        or media_types.is_acceptable(member.media_type, accepts)
    )


# The meaning of an answer.

ERROR_DOCUMENT_LIMIT: Final = 1 << 20
"""Bytes: a page or an error document in place of a blob is smaller, even with all its pictures."""

_CONTENT_STATUSES = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})


def is_manifest(reply: Reply, requested_digest: Digest | None) -> bool:
    """Return whether an answer is the requested manifest; `requested_digest` is None for a tag.

    The media type or the digest must say so or, if they are in memory, the bytes. A 304 proves
    nothing: a login page has a date too, which a client can make its request conditional on.
    """
    return reply.status in _CONTENT_STATUSES and (
        media_types.can_be_manifest(reply.header("content-type"))
        or _names_digest(reply, requested_digest)
        or manifest.is_manifest(_read_buffered(reply))
    )


def is_blob(reply: Reply, requested_digest: Digest) -> bool:
    """Return whether an answer may be the requested blob, by its media type or its digest.

    `application/octet-stream` can be anything, so the size or the bytes must confirm it.
    """
    return reply.status in _CONTENT_STATUSES and (
        media_types.can_be_blob(reply.header("content-type"))
        or _names_digest(reply, requested_digest)
    )


def is_page(reply: Reply) -> bool:
    """Return whether an answer is a web page with a status below 300, which is a refusal."""
    is_success = reply.status < HTTPStatus.MULTIPLE_CHOICES
    return is_success and media_types.is_html(reply.header("content-type"))


def is_not_manifest(reply: Reply) -> bool:
    """Return whether a 200 has its bytes in memory, and they are not a manifest."""
    data = _read_buffered(reply)
    return reply.status == HTTPStatus.OK and bool(data) and not manifest.is_manifest(data)


def _names_digest(reply: Reply, requested_digest: Digest | None) -> bool:
    """Return whether Docker-Content-Digest names the requested content, and it is not a page."""
    if is_page(reply):
        return False
    named_digest = reply.digest
    return named_digest is not None and (
        requested_digest is None or named_digest == requested_digest
    )


def _read_buffered(reply: Reply) -> bytes:
    """Return the bytes of an answer that was read whole before it was handed out; else b""."""
    return reply.body if isinstance(reply.body, bytes) else b""


_REFUSAL_STATUSES: Final = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
)


@dataclass(frozen=True, slots=True)
class RequestedContent:
    """A request to a registry: the digest (None for a tag), and the values of its Accept."""

    digest: Digest | None
    accepts: Sequence[str] = ()


class EvidenceRecorder:
    """Records what a registry's answers prove.

    A success counts only if it is about the requested content; ambiguous answers change nothing.
    """

    def __init__(self, grants: RegistryGrants, ledger: Ledger, registry: str) -> None:
        self._grants = grants
        self._ledger = ledger
        self._registry = registry
        self._unverified = BoundedMap[float]()
        """When requests began whose answers show only by their media type that they are blobs."""

    def record_blob(
        self,
        caller: Caller,
        name: RepositoryName,
        requested_at: float,
        reply: Reply,
        requested_digest: Digest,
    ) -> None:
        """Record the answer to a request for a blob, or a part of it, that began at `requested_at`.

        Servers send their own error documents as octets too. The answer is a success if its size is
        that of the cached blob or is at least `ERROR_DOCUMENT_LIMIT`; otherwise only once
        `record_verified` is called.
        """
        if is_blob(reply, requested_digest):
            size = parse_size(reply)
            standing = (
                None
                if (size or 0) >= ERROR_DOCUMENT_LIMIT
                else self._grants.lookup(caller, name, requested_digest)
            )
            if standing is None or _has_size(standing, size):
                shown_content = _describe(reply, requested_digest, "")
                self._grants.record_success(caller, name, requested_at, shown_content, standing)
                return
            key = (caller.name, name, requested_digest)
            if self._unverified.get(key) is None:  # the first answer is the one being fetched
                self._unverified.put(key, requested_at)
        elif reply.status in _REFUSAL_STATUSES or is_page(reply):
            self._record_refusal(caller, name, reply, RequestedContent(requested_digest))

    def record_manifest(
        self,
        caller: Caller,
        name: RepositoryName,
        requested_at: float,
        reply: Reply,
        requested: RequestedContent,
    ) -> None:
        """Record the answer to a request for a manifest that began at `requested_at`."""
        if is_manifest(reply, requested.digest):
            media_type = media_types.drop_overlong(reply.header("content-type"))
            shown_content = _describe(reply, requested.digest, media_type)
            self._grants.record_success(caller, name, requested_at, shown_content)
        elif reply.status in _REFUSAL_STATUSES or is_page(reply) or is_not_manifest(reply):
            self._record_refusal(caller, name, reply, requested)

    def record_verified(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        response_info: tuple[str, float],
        write_too: Callable[[], None] | None = None,
    ) -> None:
        """Record that the registry sent a caller content whose hash is the digest.

        `response_info` is its media type, and the moment of the request by the ledger's clock.
        `write_too` is called in the same transaction.
        """
        media_type, requested_at = response_info
        with self._ledger.transaction():
            standing = self._grants.lookup(caller, name, digest)
            self._ledger.record(
                Confirmation(
                    registry=self._registry,
                    repository=name,
                    requested_at=requested_at,
                    digest=digest,
                    member=Member(media_type, is_public=standing.is_anonymous),
                )
            )
            if write_too is not None:
                write_too()
        key = (caller.name, name, digest)
        first_requested_at = self._unverified.get(key)
        if first_requested_at is not None:
            self._unverified.forget(key)
            self._grants.record_success(caller, name, first_requested_at)

    def _record_refusal(
        self, caller: Caller, name: RepositoryName, reply: Reply, requested: RequestedContent
    ) -> None:
        digest = _resolve_digest(reply, requested.digest)
        if reply.status != HTTPStatus.NOT_FOUND or digest is None:
            self._grants.record_refusal(caller, name, reply)
            return
        self._grants.record_refusal(
            caller, name, reply, digest, lambda member: _is_absent(member, requested.accepts)
        )


def _describe(reply: Reply, requested_digest: Digest | None, media_type: str) -> Shown | None:
    """Return the content that an answer shows; None if it is not named, or is only a part."""
    digest = _resolve_digest(reply, requested_digest)
    if digest is None or reply.status != HTTPStatus.OK:
        return None
    report = _ReportedContent(reply.length, media_type)
    return digest, lambda standing: _confirm_member(standing, report)


def _resolve_digest(reply: Reply, requested_digest: Digest | None) -> Digest | None:
    """Return the digest that an answer is about; None if that is not the requested one.

    Return None, too, if the answer names a digest that cannot be parsed.
    """
    if not reply.header("docker-content-digest"):
        return requested_digest
    named_digest = reply.digest
    return named_digest if requested_digest is None or named_digest == requested_digest else None
