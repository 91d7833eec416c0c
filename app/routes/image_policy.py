"""Manifests that a rule lets through only for what their images say of themselves."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from app.access.image_facts import KnownImages
from app.access.rules import Decision, Rule
from app.events import current
from app.oci import headers
from app.oci.errors import RuleRefused, UpstreamMisbehaved, UpstreamUnavailable
from app.oci.image import INDEX, Facts, config_of, facts_of
from app.oci.manifest import Descriptor
from app.oci.reference import Digest, Reference, RepositoryName
from app.source import BodyBroken, Reply, Request, Source

_LARGEST_MANIFEST: Final = 4 << 20
_LARGEST_CONFIG: Final = 1 << 20

_IN_PART: Final = (
    "if-none-match", "if-match", "if-modified-since", "if-unmodified-since", "range", "if-range",
)  # fmt: skip
"""What lets an answer have no body, or a part of it."""

_HERE: Final = ("X-Accel-Failed", "1")
"""With this the cache hands nothing over to a server in front (app/cache/blobs/serve.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Asks for all in the client's own name, so that nobody learns what he may not read."""

    source: Source
    repository: RepositoryName
    request: Request
    known: KnownImages
    decide: Callable[[frozenset[Digest]], Decision | None]
    """Decides again with all names of the manifest; raises RegistryError."""

    def manifest(self, reference: Reference, decision: Decision) -> Reply:
        """Answer a GET or HEAD; raise RegistryError.

        A HEAD of a manifest that is not known yet costs a GET of it where a rule is about images.
        """
        reply = self._manifest(reference, self.request.method)
        if reply.is_error:
            return reply
        if decision.is_open:
            names, reply = self._names(reply)
            decision = self.decide(names) or decision
        rule = decision.rule
        return reply if rule is None else self._as_image(reply, reference, rule)

    def _names(self, reply: Reply) -> tuple[frozenset[Digest], Reply]:
        """Return what a manifest is called, and an answer that needs no closing.

        Of a HEAD it is what the registry says: the manifest itself is another request.
        """
        if self.request.method == "HEAD":
            reply.close()
            digest = reply.digest
            return frozenset({digest} if digest else ()), _unread(reply)
        data = _read(reply, _LARGEST_MANIFEST)
        if data is None:
            message = "the registry's manifest is too large to be looked at"
            raise UpstreamMisbehaved(message)
        return frozenset(Digest.every(data)), _of_bytes(reply, data)

    def _as_image(self, reply: Reply, reference: Reference, rule: Rule) -> Reply:
        condition = rule.condition
        if condition is None:
            return reply
        facts = self._known(reply)
        is_unread = facts is not None
        if facts is None:
            exchange = current.get()
            did = exchange.cache if exchange else ""
            try:
                facts, reply = self._judged(reply, reference)
            finally:
                if exchange:  # its line says what the cache did of it, not of what else was read
                    exchange.cache = did
        if objection := condition.objection(facts, datetime.now(UTC)):
            if is_unread:
                reply.close()
            raise RuleRefused(rule.message or objection, rule=rule.number)
        return reply

    def _known(self, reply: Reply) -> Facts | None:
        """Return what is known of a body that is at hand, as one from the cache is."""
        is_body = self.request.method == "GET" and reply.status == HTTPStatus.OK
        if not is_body or not isinstance(reply.body, tuple):
            return None
        return self.known.of_manifest(b"".join(reply.body))

    def _judged(self, reply: Reply, reference: Reference) -> tuple[Facts, Reply]:
        """Return what is known of an answer, and one that needs no closing."""
        if self.request.method == "HEAD":
            reply.close()  # nothing of it is left to read, and others may have to be waited for
            facts = self._of_head(reply, reference)
            return facts, _unread(reply)
        data = _read(reply, _LARGEST_MANIFEST)
        if data is None:
            return Facts(), reply
        return self._of(data), _of_bytes(reply, data)

    def _manifest(self, reference: Reference, method: str) -> Reply:
        request = self.request
        fields = headers.without(request.headers, *_IN_PART)
        if method != request.method or len(fields) != len(request.headers):
            request = replace(request, method=method, headers=fields)
        return self.source.manifest(self.repository, reference, request)

    def _of_head(self, reply: Reply, reference: Reference) -> Facts:
        digest = reference if isinstance(reference, Digest) else reply.digest
        if digest is not None:
            return self.known.of(digest, lambda: self._fetched_as(digest)) or Facts()
        data = self._fetched(self._manifest(reference, "GET"), _LARGEST_MANIFEST)
        return Facts() if data is None else self._of(data)

    def _fetched_as(self, digest: Digest) -> Facts | None:
        data = self._fetched(self._manifest(digest, "GET"), _LARGEST_MANIFEST)
        return self._told(data) if data is not None and digest.is_of(data) else None

    def _of(self, document: bytes) -> Facts:
        if (facts := self.known.of_manifest(document)) is not None:
            return facts
        digest = Digest(f"sha256:{hashlib.sha256(document).hexdigest()}")
        facts = self.known.of(digest, lambda: self._told(document))
        if facts is None:
            return Facts()
        self.known.keep(document, facts)
        return facts

    def _told(self, document: bytes) -> Facts | None:
        """Return what a manifest's config says; None is one that cannot be had now."""
        try:
            config = config_of(document)
        except ValueError:
            return Facts()
        if config is None:
            return INDEX
        if config.size > _LARGEST_CONFIG:
            return Facts()
        data = self._config(config)
        return None if data is None else facts_of(data)

    def _config(self, config: Descriptor) -> bytes | None:
        """Return the bytes that a manifest means, or None where they cannot be had."""
        fields = [*headers.without(self.request.headers, *_IN_PART, "accept"), _HERE]
        request = replace(self.request, method="GET", headers=fields)
        reply = self.source.blob(self.repository, config.digest, request)
        data = self._fetched(reply, _LARGEST_CONFIG)
        return data if data is not None and config.digest.is_of(data) else None

    @staticmethod
    def _fetched(reply: Reply, most: int) -> bytes | None:
        """Read an answer; raise UpstreamUnavailable for one that may be another soon."""
        passing = reply.status == HTTPStatus.TOO_MANY_REQUESTS
        if passing or reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            reply.close()
            raise UpstreamUnavailable
        return _read(reply, most)


def _read(reply: Reply, most: int) -> bytes | None:
    """Read a whole answer and close it; None is no such answer, or one that is too large."""
    try:
        return _up_to(reply.body, most) if reply.status == HTTPStatus.OK else None
    except BodyBroken as error:
        raise UpstreamUnavailable from error
    finally:
        reply.close()


def _up_to(body: Iterable[bytes], most: int) -> bytes | None:
    pieces, size = list[bytes](), 0
    for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size > most:
            return None
    return b"".join(pieces)


def _unread(reply: Reply) -> Reply:
    return replace(reply, body=(), close=_nothing)


def _of_bytes(reply: Reply, data: bytes) -> Reply:
    if isinstance(reply.body, tuple):  # that can be read again
        return reply
    return replace(reply, length=len(data), body=(data,), close=_nothing)


def _nothing() -> None:
    pass
