"""Allows or denies manifests by their digests and by image metadata (platform, creation date)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from app.access.image_facts import ImageFactsCache
from app.access.rules import Decision, Rule
from app.oci import documents, headers
from app.oci.errors import RuleDenied, UpstreamMisbehaved, UpstreamUnavailable
from app.oci.image import INDEX, ImageMetadata, parse_config_descriptor, parse_image_metadata
from app.oci.manifest import Descriptor
from app.oci.reference import Digest, Operation
from app.source import BodyBroken, Reply, Request, Source, do_nothing

_LARGEST_MANIFEST: Final = 4 << 20
_LARGEST_CONFIG: Final = 1 << 20


_HERE: Final = ("X-Accel-Failed", "1")
"""Makes the cache return the body itself, not through nginx (app/cache/blobs/serve.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInspection:
    """Judges a manifest, reading it and its config with the client's own credentials.

    So no client learns anything about content that it may not read.
    """

    source: Source
    operation: Operation
    request: Request
    facts_cache: ImageFactsCache
    keep_outcome: Callable[[], AbstractContextManager[object]]
    """Returns a context for requests made only to judge, of which the client's log line is silent.
    """
    decide: Callable[[frozenset[Digest]], Decision | None]
    """Applies the rules again with all digests of the manifest.

    Returns None if there are no rules; raises RegistryError.
    """

    def inspect_manifest(self, decision: Decision) -> Reply:
        """Return the reply to a GET or HEAD; raise RuleDenied or another RegistryError.

        If a rule is about images, a HEAD of an unknown manifest costs a GET of it.
        """
        reply = self._fetch_manifest(self.operation, self.request.method)
        if reply.is_error:
            return reply
        if decision.is_provisional:
            digests, reply = self._read_digests(reply)
            decision = self.decide(digests) or decision
        rule = decision.rule
        return reply if rule is None else self._apply_condition(reply, rule)

    def _read_digests(self, reply: Reply) -> tuple[frozenset[Digest], Reply]:
        """Return the digests of a manifest, and a reply that does not need to be closed.

        For a HEAD, the digest is the one that the registry sent: reading the manifest would take
        another request.
        """
        if self.request.method == "HEAD":
            reply.close()
            digest = reply.digest
            return frozenset({digest} if digest else ()), _drop_body(reply)
        data = _read_body(reply, _LARGEST_MANIFEST)
        if data is None:
            message = "the manifest is too large to be checked"
            raise UpstreamMisbehaved(message)
        return frozenset(Digest.compute_all(data)), _replace_body(reply, data)

    def _apply_condition(self, reply: Reply, rule: Rule) -> Reply:
        condition = rule.condition
        if condition is None:
            return reply
        facts = self._lookup_facts(reply)
        is_unread = facts is not None
        if facts is None:
            with self.keep_outcome():
                facts, reply = self._determine_facts(reply)
        if violation := condition.find_violation(facts, datetime.now(UTC)):
            if is_unread:
                reply.close()
            raise RuleDenied(rule.message or violation, rule=rule.number)
        return reply

    def _lookup_facts(self, reply: Reply) -> ImageMetadata | None:
        """Return the known facts of a manifest if its body is in memory, as from the cache."""
        is_body = self.request.method == "GET" and reply.status == HTTPStatus.OK
        if not is_body or not isinstance(reply.body, bytes):
            return None
        return self.facts_cache.lookup_by_bytes(reply.body)

    def _determine_facts(self, reply: Reply) -> tuple[ImageMetadata, Reply]:
        """Return the facts of a reply's manifest, and a reply that does not need to be closed."""
        if self.request.method == "HEAD":
            reply.close()  # it has no body to read, and other requests may follow
            facts = self._determine_head_facts(reply)
            return facts, _drop_body(reply)
        data = _read_body(reply, _LARGEST_MANIFEST)
        if data is None:
            return ImageMetadata(), reply
        return self._get_facts(data), _replace_body(reply, data)

    def _fetch_manifest(self, operation: Operation, method: str) -> Reply:
        request = self.request
        fields = headers.without(request.headers, *headers.PARTIAL)
        if method != request.method or len(fields) != len(request.headers):
            request = replace(request, method=method, headers=fields)
        return self.source.answer(operation, request)

    def _determine_head_facts(self, reply: Reply) -> ImageMetadata:
        reference = self.operation.reference
        digest = reference if isinstance(reference, Digest) else reply.digest
        if digest is not None:
            return (
                self.facts_cache.get_or_read(
                    digest, lambda: self._fetch_facts(digest), self.request.client
                )
                or ImageMetadata()
            )
        data = self._read_available(self._fetch_manifest(self.operation, "GET"), _LARGEST_MANIFEST)
        return ImageMetadata() if data is None else self._get_facts(data)

    def _fetch_facts(self, digest: Digest) -> ImageMetadata | None:
        operation = Operation.manifest(self.operation.repository, digest)
        data = self._read_available(self._fetch_manifest(operation, "GET"), _LARGEST_MANIFEST)
        return (
            self._read_facts_of_config(data) if data is not None and digest.matches(data) else None
        )

    def _get_facts(self, document: bytes) -> ImageMetadata:
        if (facts := self.facts_cache.lookup_by_bytes(document)) is not None:
            return facts
        digest = Digest.compute(document)
        facts = self.facts_cache.get_or_read(
            digest, lambda: self._read_facts_of_config(document), self.request.client
        )
        if facts is None:
            return ImageMetadata()
        self.facts_cache.store_by_bytes(document, facts)
        return facts

    def _read_facts_of_config(self, document: bytes) -> ImageMetadata | None:
        """Return the facts in a manifest's config, or None if the config cannot be read now."""
        try:
            config = parse_config_descriptor(document)
        except ValueError:
            return ImageMetadata()
        if config is None:
            return INDEX
        if config.size > _LARGEST_CONFIG:
            return ImageMetadata()
        data = self._fetch_config(config)
        return None if data is None else parse_image_metadata(data)

    def _fetch_config(self, config: Descriptor) -> bytes | None:
        """Return the bytes of a config, verified by its digest, or None if they are unavailable."""
        fields = [*headers.without(self.request.headers, *headers.PARTIAL, "accept"), _HERE]
        request = replace(self.request, method="GET", headers=fields)
        operation = Operation.blob(self.operation.repository, config.digest)
        reply = self.source.answer(operation, request)
        data = self._read_available(reply, _LARGEST_CONFIG)
        return data if data is not None and config.digest.matches(data) else None

    @staticmethod
    def _read_available(reply: Reply, limit: int) -> bytes | None:
        """Return the body of a reply, or None if it has no usable one.

        Raise UpstreamUnavailable for a 429 or a server error, which may be over soon.
        """
        is_rate_limited = reply.status == HTTPStatus.TOO_MANY_REQUESTS
        if is_rate_limited or reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            reply.close()
            raise UpstreamUnavailable
        return _read_body(reply, limit)


def _read_body(reply: Reply, limit: int) -> bytes | None:
    """Return the whole body of a reply and close it.

    Return None if the status is not 200 or the body has more than `limit` bytes.
    Raise UpstreamUnavailable if the body breaks off.
    """
    try:
        return (
            documents.read_up_to(reply.chunks(), limit) if reply.status == HTTPStatus.OK else None
        )
    except BodyBroken as error:
        raise UpstreamUnavailable from error
    finally:
        reply.close()


def _drop_body(reply: Reply) -> Reply:
    return replace(reply, body=b"", close=do_nothing)


def _replace_body(reply: Reply, data: bytes) -> Reply:
    if isinstance(reply.body, bytes):  # bytes can be read again
        return reply
    return replace(reply, length=len(data), body=data, close=do_nothing)
