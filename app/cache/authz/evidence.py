"""Evidence: what a registry's answer says about who may read a repository, and what it holds.

A success counts only if it is about the requested content. A server in front of a registry may
answer a client that is not logged in with a login page or a JSON document, at once or after a
redirect, and with status 200.

The methods of `Judging` wait for the disk, and are called on its threads; they may raise
StoreError.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from app.cache.authz.callers import Caller
from app.cache.authz.grants import Lately, Rights
from app.cache.authz.members import Membership, Said
from app.oci import manifest, media_types
from app.oci.reference import Digest, RepositoryName
from app.source import Reply
from app.spools.resuming import size_of

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
        or _says_digest(reply, asked)
        or manifest.is_one(_at_hand(reply))
    )


def is_blob(reply: Reply, asked: Digest) -> bool:
    """Return whether an answer may be the requested blob, by its media type or its digest.

    `application/octet-stream` can be anything, so the size or the bytes must confirm it.
    """
    return reply.status in _WITH_CONTENT and (
        media_types.can_be_blob(reply.header("content-type")) or _says_digest(reply, asked)
    )


def is_page(reply: Reply) -> bool:
    """Return whether an answer is a web page with a status below 300, which is a refusal."""
    is_yes = reply.status < HTTPStatus.MULTIPLE_CHOICES
    return is_yes and media_types.is_page(reply.header("content-type"))


def is_something_else(reply: Reply) -> bool:
    """Return whether a 200 has its bytes in memory, and they are not a manifest."""
    data = _at_hand(reply)
    return reply.status == HTTPStatus.OK and bool(data) and not manifest.is_one(data)


def _says_digest(reply: Reply, asked: Digest | None) -> bool:
    """Return whether Docker-Content-Digest names the requested content, and it is not a page."""
    if is_page(reply):
        return False
    told = reply.digest
    return told is not None and (asked is None or told == asked)


def _at_hand(reply: Reply) -> bytes:
    """Return the bytes of an answer that was read whole before it was handed out; else b""."""
    return b"".join(reply.body) if isinstance(reply.body, tuple) else b""


_NO: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request to a registry: the digest (None for a tag), and the values of its Accept."""

    digest: Digest | None
    accepts: Sequence[str] = ()


class Judging:
    """Records what a registry's answers prove.

    A success counts only if it is about the requested content; ambiguous answers change nothing.
    """

    def __init__(self, rights: Rights, members: Membership) -> None:
        self._rights = rights
        self._members = members
        self._unproved = Lately[float]()
        """When requests began whose answers have only the media type of a blob to say for them."""

    def blob(
        self, caller: Caller, name: RepositoryName, began: float, reply: Reply, asked: Digest
    ) -> None:
        """Record the answer to a request for a blob, or a part of it, that began at `began`.

        Servers send their own error documents as octets too. The answer is a success if its size
        is that of the cached blob or is at least `WORDS`; otherwise only once `verified` is called.
        """
        if is_blob(reply, asked):
            size = size_of(reply)
            if self._members.has_size(asked, size) or (size or 0) >= WORDS:
                self._yes(caller, name, began, reply, (_told(reply, asked), ""))
                return
            key = (caller.name, name, asked)
            if self._unproved.get(key) is None:  # the first answer is the one being fetched
                self._unproved.put(key, began)
        elif reply.status in _NO or is_page(reply):
            self._no(caller, name, reply, Wanted(asked))

    def manifest(
        self, caller: Caller, name: RepositoryName, began: float, reply: Reply, wanted: Wanted
    ) -> None:
        """Record the answer to a request for a manifest that began at `began`."""
        if is_manifest(reply, wanted.digest):
            about = (
                _told(reply, wanted.digest),
                media_types.remembered(reply.header("content-type")),
            )
            self._yes(caller, name, began, reply, about)
        elif reply.status in _NO or is_page(reply) or is_something_else(reply):
            self._no(caller, name, reply, wanted)

    def verified(
        self, caller: Caller, name: RepositoryName, digest: Digest, sent: tuple[str, float]
    ) -> None:
        """Record that the registry sent a caller content whose hash is the digest.

        `sent` is its media type, and the moment of the request by the store's clock.
        """
        media_type, asked = sent
        self._members.add(caller, name, digest, (media_type, asked))
        key = (caller.name, name, digest)
        began = self._unproved.get(key)
        if began is not None:
            self._unproved.forget(key)
            self._rights.yes(caller, name, began)

    def _yes(
        self,
        caller: Caller,
        name: RepositoryName,
        began: float,
        reply: Reply,
        about: tuple[Digest | None, str],
    ) -> None:
        self._rights.yes(caller, name, began)
        digest, media_type = about
        if digest is not None and reply.status == HTTPStatus.OK:
            self._members.confirm(caller, name, digest, Said(reply.length, media_type, began))

    def _no(self, caller: Caller, name: RepositoryName, reply: Reply, wanted: Wanted) -> None:
        self._rights.no(caller, name, reply)
        digest = _told(reply, wanted.digest)
        if reply.status == HTTPStatus.NOT_FOUND and digest is not None:
            self._members.lost(name, digest, wanted.accepts)


def _told(reply: Reply, asked: Digest | None) -> Digest | None:
    """Return the digest that an answer is about; None if that is not the requested one.

    None also if a digest is named that cannot be read.
    """
    if not reply.header("docker-content-digest"):
        return asked
    told = reply.digest
    return told if asked is None or told == asked else None
