"""Whether an answer that looks like a yes is about what was asked for.

A server in front of a registry may show whoever is not logged in where to log in, at once or after
a redirect, to people as a page and to programs in JSON; its status is 200 then.
"""

from http import HTTPStatus
from typing import Final

from app.content import Reply
from app.oci import content_types, manifest
from app.oci.reference import Digest

WORDS: Final = 1 << 20
"""Bytes: less than this a server may say in place of a blob, be it a page with all its pictures."""

_WITH_CONTENT = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})


def is_manifest(reply: Reply, asked: Digest | None) -> bool:
    """Tell whether an answer is a yes to who asked for a manifest; by a tag, `asked` is None.

    Its type says so, or its digest; or else its bytes, where they are at hand. 304 does not tell
    of what: a page that asks for a login has a date, too, that a client can ask about.
    """
    return reply.status in _WITH_CONTENT and (
        content_types.can_be_manifest(reply.header("content-type"))
        or _says_digest(reply, asked)
        or manifest.is_one(_at_hand(reply))
    )


def is_blob(reply: Reply, asked: Digest) -> bool:
    """Tell whether an answer may be a yes to who asked for a blob, by its type or its digest.

    Octets can be anything, so its size or its bytes have to say so too.
    """
    return reply.status in _WITH_CONTENT and (
        content_types.can_be_blob(reply.header("content-type")) or _says_digest(reply, asked)
    )


def is_page(reply: Reply) -> bool:
    """Tell whether it is a page with the status of a yes: that is a no."""
    is_yes = reply.status < HTTPStatus.MULTIPLE_CHOICES
    return is_yes and content_types.is_page(reply.header("content-type"))


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
