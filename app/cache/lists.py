"""Lists of tags and referrers: always requested, and kept only for outages of the registry.

The absence of a list of referrers is kept too. Clients then look for the tag that replaces the list
(OCI distribution-spec, "Unavailable Referrers API"), which may be cached.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from math import inf
from typing import Final

from app.cache import cache_status
from app.cache.authz.callers import Caller
from app.cache.authz.gate import Gate
from app.cache.disk import DiskExecutor
from app.cache.policy import CachePolicy
from app.cache.stale import StaleIfError
from app.oci import headers
from app.oci.errors import ErrorCode, UpstreamUnavailable, error_document
from app.oci.reference import Kind, Operation, RepositoryName
from app.source import BodyBroken, Reply, Request, Source, build_reply, do_nothing
from app.store.ledger import MAX_NOTE_LENGTH, NOBODY, Evidence, Ledger, Note

_KIND: Final = "list"

_ABSENT: Final = "absent"
"""The value noted for a list that the registry does not have."""

_MAX_LIST_SIZE: Final = 512 * 1024
"""Bytes of the largest list that is kept; most registries' pages are much smaller."""

_MAX_LISTS: Final = 50
"""Lists kept of one repository; clients can vary the query endlessly, so only the latest stay."""

_ABSENT_STATUSES: Final = frozenset({
    HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_ACCEPTABLE,
})  # fmt: skip
"""Statuses besides 404 that mean that a registry lists no referrers. go-containerregistry, and so
cosign, understands 400 and 406 in that way."""

_KEPT_HEADERS: Final = ("content-type", "oci-filters-applied")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCache:
    """Requests lists in the caller's name; anonymous answers are kept for outages.

    A kept answer is served to any client, as long as the repository counts as public.
    """

    registry: str
    inner: Source
    policy: CachePolicy
    gate: Gate
    disk: DiskExecutor
    stale_if_error: StaleIfError

    def serve_list(
        self,
        caller: Caller,
        operation: Operation,
        request: Request,
    ) -> Reply:
        """Return a list: the registry's answer or, when it is unreachable, a kept one.

        The answer gives no grant. Raise RegistryError if the registry cannot be asked and no public
        list is kept.
        """
        name, subject = operation.repository, _build_subject(operation)
        key = self._build_key(name, subject, request.query)

        def fetch(upstream_request: Request) -> Reply:
            # Timed before the request: a list that was on its way when the registry refused
            # anonymous callers must not be kept for all.
            evidence = Evidence((self.registry, name, NOBODY), self.gate.now())
            reply = self.inner.answer(operation, upstream_request)
            is_stored = False
            is_keepable = request.method == "GET" and self.gate.is_anonymous(caller, name)
            if is_keepable and reply.status == HTTPStatus.OK:
                reply, is_stored = self._record_list(name, key, reply, evidence)
            elif operation.kind is Kind.REFERRERS and _is_absent(upstream_request, reply):
                is_stored = self._record_absence(caller, name, subject, evidence)
            return cache_status.mark_reply(
                reply, cache_status.build_forwarded(reply.status, stored=is_stored)
            )

        return self.stale_if_error.fetch_or_serve_stale(
            caller,
            name,
            request,
            fetch,
            lambda status: self._serve_stale(name, subject, request, status),
            lasting=False,
        )

    def _record_absence(
        self, caller: Caller, name: RepositoryName, subject: str, evidence: Evidence
    ) -> bool:
        """Record that there is no list, for any query; return whether that was written."""
        if not self.gate.is_anonymous(caller, name):
            return False
        return self.disk.write(self._write, name, self._build_key(name, subject), _ABSENT, evidence)

    def _record_list(
        self, name: RepositoryName, key: str, reply: Reply, evidence: Evidence
    ) -> tuple[Reply, bool]:
        reply, content = _buffer(reply)
        if content is None:
            return reply, False
        document = {
            "headers": [field for field in reply.headers if field[0].lower() in _KEPT_HEADERS],
            "next": reply.next_query,
            "content": base64.b64encode(zlib.compress(content)).decode(),
        }
        value = json.dumps(document)
        if len(key) + len(value) > MAX_NOTE_LENGTH:
            return reply, False
        return reply, self.disk.write(self._write, name, key, value, evidence)

    def _build_key(self, name: RepositoryName, subject: str, query: str = "") -> str:
        return f"{_build_prefix(self.registry, name)}{subject}?{query}"

    def _write(self, name: RepositoryName, key: str, value: str, evidence: Evidence) -> None:
        lists = self.disk.ledger.lists
        with self.disk.ledger.transaction():
            lists.record(_KIND, key, value, self.policy.stale_ttl, evidence)
            lists.keep_latest(_KIND, _build_prefix(self.registry, name), _MAX_LISTS)

    def _serve_stale(
        self, name: RepositoryName, subject: str, request: Request, status: int | None
    ) -> Reply | None:
        if not self.gate.was_public(name):
            return None
        note = self._lookup(name, subject, request.query)
        if note is None or note.age is None or note.age >= self.policy.stale_ttl:
            return None
        reply = _build_unsupported() if note.value == _ABSENT else _parse_reply(note.value)
        if reply is None:
            return None
        if request.method == "HEAD":
            reply = replace(reply, body=b"")
        return cache_status.mark_reply(reply, cache_status.build_stale(status, note.age))

    def _lookup(self, name: RepositoryName, subject: str, query: str) -> Note | None:
        """Return the younger of two notes, of the list or its absence; None if neither exists."""
        keys = (self._build_key(name, subject, query), self._build_key(name, subject))
        notes = self.disk.read(self.disk.ledger.lists.lookup_all, _KIND, keys)
        valid_notes = [
            note
            for key, note in notes.items()
            if note.age is not None
            and (note.value == _ABSENT or key == self._build_key(name, subject, query))
        ]
        return min(valid_notes, key=_age_or_infinity, default=None)


def forget_lists(ledger: Ledger, registry: str, repository: str) -> None:
    """Forget all kept lists of a repository; may raise StoreError."""
    ledger.lists.keep_latest(_KIND, f"{registry}/{repository} ", 0)


def _build_subject(operation: Operation) -> str:
    """Return the part of a list's key that says what it lists: `tags` or `referrers <digest>`."""
    return f"{operation.kind} {operation.reference}" if operation.reference else operation.kind


def _build_prefix(registry: str, name: RepositoryName) -> str:
    return f"{registry}/{name} "


def _buffer(reply: Reply) -> tuple[Reply, bytes | None]:
    """Return the reply, still to be read, and its content; None if the list is too large to keep.

    Raise UpstreamUnavailable if the body breaks off.
    """
    if (reply.length or 0) > _MAX_LIST_SIZE:
        return reply, None
    pieces, size, rest = list[bytes](), 0, reply.chunks()
    try:
        for piece in rest:
            pieces.append(piece)
            size += len(piece)
            if size > _MAX_LIST_SIZE:
                return replace(reply, body=_chain(pieces, rest)), None
    except BodyBroken as error:
        reply.close()
        message = "the registry broke off in the middle of a list"
        raise UpstreamUnavailable(message) from error
    reply.close()
    content = b"".join(pieces)
    return replace(reply, body=content, close=do_nothing), content


def _chain(pieces: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    yield from rest


def _is_absent(request: Request, reply: Reply) -> bool:
    """Return whether the registry has no such list at all, rather than none for this query."""
    if reply.status == HTTPStatus.NOT_FOUND:
        return True
    return not request.query and reply.status in _ABSENT_STATUSES


def _age_or_infinity(note: Note) -> float:
    return inf if note.age is None else note.age


def _build_unsupported() -> Reply:
    document = error_document(ErrorCode.UNSUPPORTED, "the registry lists no referrers")
    fields = [("Content-Type", "application/json")]
    return build_reply(HTTPStatus.NOT_FOUND, fields, json.dumps(document).encode())


def _parse_reply(value: str) -> Reply | None:
    try:
        document = json.loads(value)
        fields = [(str(name), str(text)) for name, text in document["headers"]]
        content = zlib.decompress(base64.b64decode(document["content"]))
        raw_next_query = document["next"]
    except (ValueError, KeyError, TypeError, binascii.Error, zlib.error):
        return None
    next_query = raw_next_query if isinstance(raw_next_query, str) else None
    reply_headers = headers.filter_response_headers(fields)
    return replace(build_reply(HTTPStatus.OK, reply_headers, content), next_query=next_query)
