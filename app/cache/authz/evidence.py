"""What a registry's answer says of who may read a repository, and of what it holds.

Every method waits for the disk, and is called on its threads; it may raise StoreError.
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

# Whether an answer that looks like a yes is about what was asked for.
#
# A server in front of a registry may answer a client that is not logged in with a login page or a
# JSON document, at once or after a redirect, and with status 200.

WORDS: Final = 1 << 20
"""Bytes: less than this a server may say in place of a blob, be it a page with all its pictures."""

_WITH_CONTENT = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})


def is_manifest(reply: Reply, asked: Digest | None) -> bool:
    """Tell whether an answer is a yes to who asked for a manifest; by a tag, `asked` is None.

    Its type says so, or its digest; or else its bytes, where they are at hand. 304 does not tell
    of what: a page that asks for a login has a date, too, that a client can ask about.
    """
    return reply.status in _WITH_CONTENT and (
        media_types.can_be_manifest(reply.header("content-type"))
        or _says_digest(reply, asked)
        or manifest.is_one(_at_hand(reply))
    )


def is_blob(reply: Reply, asked: Digest) -> bool:
    """Tell whether an answer may be a yes to who asked for a blob, by its type or its digest.

    Octets can be anything, so its size or its bytes have to say so too.
    """
    return reply.status in _WITH_CONTENT and (
        media_types.can_be_blob(reply.header("content-type")) or _says_digest(reply, asked)
    )


def is_page(reply: Reply) -> bool:
    """Tell whether it is a page with the status of a yes: that is a no."""
    is_yes = reply.status < HTTPStatus.MULTIPLE_CHOICES
    return is_yes and media_types.is_page(reply.header("content-type"))


def is_something_else(reply: Reply) -> bool:
    """Tell whether the bytes that came in place of a manifest are at hand, and are none."""
    data = _at_hand(reply)
    return reply.status == HTTPStatus.OK and bool(data) and not manifest.is_one(data)


def _says_digest(reply: Reply, asked: Digest | None) -> bool:
    """Tell whether it says so with Docker-Content-Digest, and is no page all the same."""
    if is_page(reply):
        return False
    told = reply.digest
    return told is not None and (asked is None or told == asked)


def _at_hand(reply: Reply) -> bytes:
    """Return the bytes of an answer that was read whole before it was given."""
    return b"".join(reply.body) if isinstance(reply.body, tuple) else b""


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
        if is_blob(reply, asked):
            size = size_of(reply)
            if self._members.has_size(asked, size) or (size or 0) >= WORDS:
                self._yes(caller, name, began, reply, (_told(reply, asked), ""))
                return
            key = (caller.name, name, asked)
            if self._unproved.get(key) is None:  # a later answer is not what is being fetched
                self._unproved.put(key, began)
        elif reply.status in _NO or is_page(reply):
            self._no(caller, name, reply, Wanted(asked))

    def manifest(
        self, caller: Caller, name: RepositoryName, began: float, reply: Reply, wanted: Wanted
    ) -> None:
        """Note the answer to a question of then for a manifest."""
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
