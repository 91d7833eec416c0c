"""What a registry's answer says of who may read a repository, and of what it holds.

Every method waits for the disk, and is called on its threads; it may raise StoreError.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from app.cache import fitting
from app.cache.callers import Caller
from app.cache.lately import Lately
from app.cache.membership import Membership, Said
from app.cache.rights import Rights
from app.content import Reply
from app.oci import content_types
from app.oci.reference import Digest, RepositoryName
from app.spools.resuming import size_of

_NO: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a registry: a digest, or None by a tag, and of which media types."""

    digest: Digest | None
    accepts: Sequence[str] = ()


class Judging:
    """Takes a yes for one only if it is about what was asked for; what is neither says nothing."""

    def __init__(self, rights: Rights, members: Membership) -> None:
        self._rights = rights
        self._members = members
        self._unproved = Lately[float]()
        """When those questions began whose answers have the type of a blob, and no more."""

    def blob(
        self, caller: Caller, name: RepositoryName, began: float, reply: Reply, asked: Digest
    ) -> None:
        """Note the answer to a question of then for a blob, or a part of it.

        Servers call their own words octets, too: it is a yes if its size is the one of what is
        kept, or is more than words have, or else when all that came is `verified`.
        """
        if fitting.is_blob(reply, asked):
            size = size_of(reply)
            if self._members.has_size(asked, size) or (size or 0) >= fitting.WORDS:
                self._yes(caller, name, began, reply, (_told(reply, asked), ""))
                return
            key = (caller.name, name, asked)
            if self._unproved.get(key) is None:  # a later answer is not what is being fetched
                self._unproved.put(key, began)
        elif reply.status in _NO or fitting.is_page(reply):
            self._no(caller, name, reply, Wanted(asked))

    def manifest(
        self, caller: Caller, name: RepositoryName, began: float, reply: Reply, wanted: Wanted
    ) -> None:
        """Note the answer to a question of then for a manifest."""
        if fitting.is_manifest(reply, wanted.digest):
            about = (
                _told(reply, wanted.digest),
                content_types.remembered(reply.header("content-type")),
            )
            self._yes(caller, name, began, reply, about)
        elif reply.status in _NO or fitting.is_page(reply) or fitting.is_something_else(reply):
            self._no(caller, name, reply, wanted)

    def verified(
        self, caller: Caller, name: RepositoryName, digest: Digest, sent: tuple[str, float]
    ) -> None:
        """Note that a caller was sent what the digest says.

        `sent` is of which media type it was, and when it was asked for.
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
    """Return the digest that an answer is about; None where it is about another than was asked."""
    if not reply.header("docker-content-digest"):
        return asked
    told = reply.digest
    return told if asked is None or told == asked else None
