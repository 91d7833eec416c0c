"""Allows or denies manifests by their digests and by image metadata (platform, creation date)."""

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
"""Request headers with which an answer may have no body, or only part of it."""

_HERE: Final = ("X-Accel-Failed", "1")
"""Makes the cache return the body itself, not through nginx (app/cache/blobs/serve.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Judges a manifest, reading it and its config with the client's own credentials.

    So no client learns anything of content that it may not read.
    """

    source: Source
    repository: RepositoryName
    request: Request
    known: KnownImages
    decide: Callable[[frozenset[Digest]], Decision | None]
    """Applies the rules again with all digests of the manifest.

    Returns None if there are no rules; raises RegistryError.
    """

    def manifest(self, reference: Reference, decision: Decision) -> Reply:
        """Return the reply to a GET or HEAD; raise RuleRefused or another RegistryError.

        If a rule is about images, a HEAD of an unknown manifest costs a GET of it.
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
        """Return the digests of a manifest, and a reply that does not need to be closed.

        For a HEAD, the digest is the one that the registry sent: reading the manifest would take
        another request.
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
                # The log line says how the cache served this request, not those made to judge it.
                if exchange:
                    exchange.cache = did
        if objection := condition.objection(facts, datetime.now(UTC)):
            if is_unread:
                reply.close()
            raise RuleRefused(rule.message or objection, rule=rule.number)
        return reply

    def _known(self, reply: Reply) -> Facts | None:
        """Return the known facts of a manifest if its body is at hand, as from the cache."""
        is_body = self.request.method == "GET" and reply.status == HTTPStatus.OK
        if not is_body or not isinstance(reply.body, tuple):
            return None
        return self.known.of_manifest(b"".join(reply.body))

    def _judged(self, reply: Reply, reference: Reference) -> tuple[Facts, Reply]:
        """Return the facts of a reply's manifest, and a reply that does not need to be closed."""
        if self.request.method == "HEAD":
            reply.close()  # it has no body to read, and other requests may follow
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
        """Return the facts in a manifest's config, or None if the config cannot be read now."""
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
        """Return the bytes of a config, verified by its digest, or None if they cannot be had."""
        fields = [*headers.without(self.request.headers, *_IN_PART, "accept"), _HERE]
        request = replace(self.request, method="GET", headers=fields)
        reply = self.source.blob(self.repository, config.digest, request)
        data = self._fetched(reply, _LARGEST_CONFIG)
        return data if data is not None and config.digest.is_of(data) else None

    @staticmethod
    def _fetched(reply: Reply, most: int) -> bytes | None:
        """Return the body of a reply, or None if it has no usable one.

        Raise UpstreamUnavailable for a 429 or a server error, which may be over soon.
        """
        passing = reply.status == HTTPStatus.TOO_MANY_REQUESTS
        if passing or reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            reply.close()
            raise UpstreamUnavailable
        return _read(reply, most)


def _read(reply: Reply, most: int) -> bytes | None:
    """Return the whole body of a reply and close it.

    Return None if the status is not 200 or the body has more than `most` bytes.
    Raise UpstreamUnavailable if the body breaks off.
    """
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
    if isinstance(reply.body, tuple):  # a tuple can be read again
        return reply
    return replace(reply, length=len(data), body=(data,), close=_nothing)


def _nothing() -> None:
    pass
