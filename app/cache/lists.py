"""Lists of tags and referrers: always asked for, and kept only for when the registry is away."""

import base64
import binascii
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from app.cache import marks
from app.cache.away import Away
from app.cache.callers import Caller
from app.cache.disk import Disk
from app.cache.gate import Gate
from app.cache.policy import Policy
from app.content import BodyBroken, Reply, Request, replied
from app.oci import headers
from app.oci.errors import UpstreamUnavailable
from app.oci.reference import RepositoryName
from app.store import refusals
from app.store.notes import LONGEST, Answer
from app.store.store import Store

_KIND: Final = "list"

_LARGEST: Final = 512 * 1024
"""Bytes of a list that is kept; most registries' pages are much smaller."""

_PAGES: Final = 50
"""Lists of one repository, the latest: a client may ask for it by ever other queries."""

_KEPT: Final = ("content-type", "oci-filters-applied")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """Asks in the caller's name; what nobody was told is told everybody while that is public."""

    registry: str
    policy: Policy
    gate: Gate
    disk: Disk
    away: Away

    def answer(
        self,
        caller: Caller,
        name: RepositoryName,
        about: str,
        request: Request,
        ask: Callable[[Request], Reply],
    ) -> Reply:
        """Answer a question for a list; raise RegistryError. It lets nobody read anything."""
        key = f"{_beginning(self.registry, name)}{about}?{request.query}"

        def question(asked: Request) -> Reply:
            # A list that was on its way while nobody was refused is not everybody's.
            answer = Answer((self.registry, name, refusals.NOBODY), self.gate.now())
            reply = ask(asked)
            kept = False
            is_list = request.method == "GET" and reply.status == HTTPStatus.OK
            if is_list and self.gate.is_nobody(caller, name):
                reply, kept = self._noted(name, key, reply, answer)
            return marks.marked(reply, marks.forwarded(reply.status, stored=kept))

        return self.away.ask(
            caller,
            name,
            request,
            question,
            lambda status: self._stale(name, key, request, status),
            lasting=False,
        )

    def _noted(
        self, name: RepositoryName, key: str, reply: Reply, answer: Answer
    ) -> tuple[Reply, bool]:
        reply, content = _begun(reply)
        if content is None:
            return reply, False
        document = {
            "headers": [one for one in reply.headers if one[0].lower() in _KEPT],
            "next": reply.next_query,
            "content": base64.b64encode(zlib.compress(content)).decode(),
        }
        value = json.dumps(document)
        if len(key) + len(value) > LONGEST:
            return reply, False
        return reply, self.disk.write(self._written, name, key, value, answer)

    def _written(self, name: RepositoryName, key: str, value: str, answer: Answer) -> None:
        lists = self.disk.store.lists
        lists.note(_KIND, key, value, self.policy.stale_ttl, answer)
        lists.keep_latest(_KIND, _beginning(self.registry, name), _PAGES)

    def _stale(
        self, name: RepositoryName, key: str, request: Request, status: int | None
    ) -> Reply | None:
        if not self.gate.was_public(name):
            return None
        note = self.disk.read(self.disk.store.lists.noted, _KIND, key)
        if note is None or note.age is None or note.age >= self.policy.stale_ttl:
            return None
        reply = _read(note.value)
        if reply is None:
            return None
        if request.method == "HEAD":
            reply = replace(reply, body=())
        return marks.marked(reply, marks.stale(status, note.age))


def forget_all(store: Store, registry: str, repository: str) -> None:
    """Forget the lists of a repository; raise StoreError."""
    store.lists.keep_latest(_KIND, f"{registry}/{repository} ", 0)


def _beginning(registry: str, name: RepositoryName) -> str:
    return f"{registry}/{name} "


def _begun(reply: Reply) -> tuple[Reply, bytes | None]:
    """Read a list, and give it back to be read again; None where it is a large one."""
    if (reply.length or 0) > _LARGEST:
        return reply, None
    pieces, size, rest = list[bytes](), 0, iter(reply.body)
    try:
        for piece in rest:
            pieces.append(piece)
            size += len(piece)
            if size > _LARGEST:
                return replace(reply, body=_chained(pieces, rest)), None
    except BodyBroken as error:
        reply.close()
        message = "the registry broke off in a list"
        raise UpstreamUnavailable(message) from error
    reply.close()
    return replace(reply, body=pieces, close=_nothing), b"".join(pieces)


def _chained(pieces: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    yield from rest


def _read(value: str) -> Reply | None:
    try:
        document = json.loads(value)
        fields = [(str(name), str(text)) for name, text in document["headers"]]
        content = zlib.decompress(base64.b64decode(document["content"]))
        told = document["next"]
    except (ValueError, KeyError, TypeError, binascii.Error, zlib.error):
        return None
    next_query = told if isinstance(told, str) else None
    passed = headers.pass_down(fields)
    return replace(replied(HTTPStatus.OK, passed, content), next_query=next_query)


def _nothing() -> None:
    pass
