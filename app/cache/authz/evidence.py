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
from app.spools.filling import parse_size
from app.store.ledger import Confirmation, Ledger, Member

# Members: which digests a repository holds, as its registry has said, and to which callers.
#
# A member is *shown* once the registry has let an anonymous caller read it in that repository.


@dataclass(frozen=True, slots=True)
class _ReportedContent:
    """What a registry has said about content: its size in bytes (None: unknown) and media type."""

    size: int | None
    media_type: str


def _confirm_member(standing: Standing, said: _ReportedContent) -> Member | None:
    """Return what a registry has newly confirmed of cached content; None if nothing is new.

    It must report the size that the content has.
    """
    if not _has_size(standing, said.size):
        return None
    known = standing.member
    # A media type from a GET is that of the bytes sent; some registries' HEADs report another.
    if known is None or (said.media_type and not known.media_type):
        return Member(said.media_type, is_public=standing.is_anonymous)
    return Member("", is_public=True) if standing.is_newly_public else None


def _has_size(standing: Standing, size: int | None) -> bool:
    """Return whether content is cached with this size in bytes; False if `size` is None."""
    return size is not None and standing.entry is not None and standing.entry.size == size


def _is_absent(known: Member | None, accepts: Sequence[str]) -> bool:
    """Return whether a 404 says that a repository does not hold a known member.

    Some registries answer 404 for a manifest whose media type the client does not accept. The
    member stays in that case.
    """
    return (
        known is None
        or not known.media_type
        or media_types.is_acceptable(known.media_type, accepts)
    )


# What an answer says.

WORDS: Final = 1 << 20
"""Bytes: a page or an error document in place of a blob is smaller, even with all its pictures."""

_WITH_CONTENT = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})


def is_manifest(reply: Reply, asked: Digest | None) -> bool:
    """Return whether an answer is the requested manifest; `asked` is None for a tag.

    The media type or the digest must say so or, if they are in memory, the bytes. A 304 proves
    nothing: a login page has a date too, which a client can make its request conditional on.
    """
    return reply.status in _WITH_CONTENT and (
        media_types.can_be_manifest(reply.header("content-type"))
        or _names_digest(reply, asked)
        or manifest.is_manifest(_read_buffered(reply))
    )


def is_blob(reply: Reply, asked: Digest) -> bool:
    """Return whether an answer may be the requested blob, by its media type or its digest.

    `application/octet-stream` can be anything, so the size or the bytes must confirm it.
    """
    return reply.status in _WITH_CONTENT and (
        media_types.can_be_blob(reply.header("content-type")) or _names_digest(reply, asked)
    )


def is_page(reply: Reply) -> bool:
    """Return whether an answer is a web page with a status below 300, which is a refusal."""
    is_yes = reply.status < HTTPStatus.MULTIPLE_CHOICES
    return is_yes and media_types.is_html(reply.header("content-type"))


def is_not_manifest(reply: Reply) -> bool:
    """Return whether a 200 has its bytes in memory, and they are not a manifest."""
    data = _read_buffered(reply)
    return reply.status == HTTPStatus.OK and bool(data) and not manifest.is_manifest(data)


def _names_digest(reply: Reply, asked: Digest | None) -> bool:
    """Return whether Docker-Content-Digest names the requested content, and it is not a page."""
    if is_page(reply):
        return False
    told = reply.digest
    return told is not None and (asked is None or told == asked)


def _read_buffered(reply: Reply) -> bytes:
    """Return the bytes of an answer that was read whole before it was handed out; else b""."""
    return reply.body if isinstance(reply.body, bytes) else b""


_NO: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


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
        self, caller: Caller, name: RepositoryName, began: float, reply: Reply, asked: Digest
    ) -> None:
        """Record the answer to a request for a blob, or a part of it, that began at `began`.

        Servers send their own error documents as octets too. The answer is a success if its size is
        that of the cached blob or is at least `WORDS`; otherwise only once `record_verified` is
        called.
        """
        if is_blob(reply, asked):
            size = parse_size(reply)
            standing = None if (size or 0) >= WORDS else self._grants.lookup(caller, name, asked)
            if standing is None or _has_size(standing, size):
                shown = _describe(reply, asked, "")
                self._grants.record_success(caller, name, began, shown, standing)
                return
            key = (caller.name, name, asked)
            if self._unverified.get(key) is None:  # the first answer is the one being fetched
                self._unverified.put(key, began)
        elif reply.status in _NO or is_page(reply):
            self._record_refusal(caller, name, reply, RequestedContent(asked))

    def record_manifest(
        self,
        caller: Caller,
        name: RepositoryName,
        began: float,
        reply: Reply,
        wanted: RequestedContent,
    ) -> None:
        """Record the answer to a request for a manifest that began at `began`."""
        if is_manifest(reply, wanted.digest):
            media_type = media_types.drop_overlong(reply.header("content-type"))
            shown = _describe(reply, wanted.digest, media_type)
            self._grants.record_success(caller, name, began, shown)
        elif reply.status in _NO or is_page(reply) or is_not_manifest(reply):
            self._record_refusal(caller, name, reply, wanted)

    def record_verified(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        sent: tuple[str, float],
        write_too: Callable[[], None] | None = None,
    ) -> None:
        """Record that the registry sent a caller content whose hash is the digest.

        `sent` is its media type, and the moment of the request by the ledger's clock. `write_too`
        is called in the same transaction.
        """
        media_type, asked = sent
        with self._ledger.transaction():
            standing = self._grants.lookup(caller, name, digest)
            self._ledger.record(
                Confirmation(
                    registry=self._registry,
                    repository=name,
                    requested_at=asked,
                    digest=digest,
                    member=Member(media_type, is_public=standing.is_anonymous),
                )
            )
            if write_too is not None:
                write_too()
        key = (caller.name, name, digest)
        began = self._unverified.get(key)
        if began is not None:
            self._unverified.forget(key)
            self._grants.record_success(caller, name, began)

    def _record_refusal(
        self, caller: Caller, name: RepositoryName, reply: Reply, wanted: RequestedContent
    ) -> None:
        digest = _resolve_digest(reply, wanted.digest)
        if reply.status != HTTPStatus.NOT_FOUND or digest is None:
            self._grants.record_refusal(caller, name, reply)
            return
        self._grants.record_refusal(
            caller, name, reply, digest, lambda known: _is_absent(known, wanted.accepts)
        )


def _describe(reply: Reply, asked: Digest | None, media_type: str) -> Shown | None:
    """Return the content that an answer shows; None if it is not named, or is only a part."""
    digest = _resolve_digest(reply, asked)
    if digest is None or reply.status != HTTPStatus.OK:
        return None
    said = _ReportedContent(reply.length, media_type)
    return digest, lambda standing: _confirm_member(standing, said)


def _resolve_digest(reply: Reply, asked: Digest | None) -> Digest | None:
    """Return the digest that an answer is about; None if that is not the requested one.

    Return None, too, if the answer names a digest that cannot be parsed.
    """
    if not reply.header("docker-content-digest"):
        return asked
    told = reply.digest
    return told if asked is None or told == asked else None
