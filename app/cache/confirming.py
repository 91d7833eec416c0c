"""Confirm in the background that a repository holds the blobs that its manifests name.

A client that has a layer from another image does not request it again, so the registry never says
that this repository holds the layer too. When the registry is unreachable, a client without any
layers could then not pull the image, although every byte of it is cached.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.background import BackgroundPool
from app.cache.authz.callers import Caller, Callers
from app.cache.authz.gate import Gate
from app.cache.authz.grants import BoundedMap
from app.cache.blobs.blobs import BlobCache
from app.cache.disk import DiskExecutor
from app.cache.manifests.fetch import ManifestFetcher
from app.cache.stale import StaleIfError, is_outage_status
from app.oci import headers, manifest
from app.oci.errors import RegistryError
from app.oci.reference import Digest, RepositoryName
from app.source import Reply, Request

logger = logging.getLogger(__name__)

_THREADS: Final = 2
_MAX_WAITING: Final = 256
"""Manifests of a process that may wait in memory for their blobs to be confirmed; any more are
dropped."""

_RETRY_DELAYS: Final = (15.0, 120.0)
"""Seconds until blobs that are not cached yet are looked for again, since another image's pull may
be fetching them. At many registries a caller's token lives for five minutes."""

_CONFIRM_INTERVAL: Final = 600.0
"""Seconds in which this process does not confirm the same manifest or blob again."""

_FAILURE_PAUSE: Final = 15.0
"""Seconds until the next try after the registry gave no answer."""

_LOG_INTERVAL: Final = 60.0
"""Seconds in which dropped work is logged once."""


def build_background() -> BackgroundPool:
    """Return the pool for the confirmations of all registries of this process."""
    return BackgroundPool("cache background", threads=_THREADS, capacity=_MAX_WAITING)


@dataclass(frozen=True, slots=True)
class _ServedManifest:
    """A manifest that was served: the blobs it names, and the number of earlier attempts.

    `key` identifies it. `request` is a HEAD of the manifest in the name of the caller who got it.
    """

    key: tuple[str, ...]
    name: RepositoryName
    digest: Digest
    request: Request
    digests: Sequence[Digest] = ()
    attempt: int = 0


class MembershipConfirmer:
    """Asks a registry, in a caller's name, whether a repository holds cached blobs.

    The manifest alone proves nothing: a blob becomes a member by the registry's answer to a HEAD.
    That answer counts in every way like an answer to the caller's own request. A HEAD of a blob
    does not count as a pull.
    """

    def __init__(  # noqa: PLR0913 - what one registry's cache consists of
        self,
        *,
        callers: Callers,
        gate: Gate,
        disk: DiskExecutor,
        stale_if_error: StaleIfError,
        fetcher: ManifestFetcher,
        blobs: BlobCache,
        background: BackgroundPool,
    ) -> None:
        self._callers = callers
        self._gate = gate
        self._disk = disk
        self._stale_if_error = stale_if_error
        self._fetcher = fetcher
        self._blobs = blobs
        self._background = background
        self._retry_at = BoundedMap[float]()
        self._warned_at = float("-inf")

    def schedule(
        self, caller: Caller, name: RepositoryName, request: Request, reply: Reply
    ) -> None:
        """Queue the blobs of a manifest that is being served; return at once.

        Other answers, and manifests that were handled recently, are ignored. Do not call this for a
        stale answer, since the registry cannot be asked.
        """
        is_served = request.method == "GET" and reply.status == HTTPStatus.OK
        if not is_served or caller.has_stale_placeholder:
            return
        if not isinstance(reply.body, bytes) or (reply.length or 0) > manifest.LARGEST_OF_IMAGE:
            return
        etag = reply.header("etag")  # the manifest's digest, if it was verified
        key = (caller.name, name, etag)
        if not etag or not self._try_claim(key):
            return
        accept = ("Accept", reply.header("content-type"))
        head_request = replace(
            request,
            method="HEAD",
            headers=[*headers.without(request.headers, "accept", "range"), accept],
            client=None,
            payer=None,
            renew_authorization=None,
            has_fallback=_has_fallback,
        )
        served_manifest = _ServedManifest(key, name, Digest.parse(etag.strip('"')), head_request)
        self._submit(served_manifest, partial(self._parse_and_confirm, served_manifest, reply.body))

    def _parse_and_confirm(self, served_manifest: _ServedManifest, document: bytes) -> None:
        blobs = self._disk.read(manifest.parse_blobs, document)
        digests = [blob.digest for blob in blobs]
        if digests:
            self._confirm(replace(served_manifest, digests=digests))

    def _confirm(self, served_manifest: _ServedManifest) -> None:
        # Identify the caller anew: their token has grown older in the meantime.
        caller, request = self._callers.identify(served_manifest.request)
        served_manifest = replace(served_manifest, request=request)
        if caller.lifetime <= 0:
            return
        name = served_manifest.name
        unconfirmed, absent = self._gate.find_unconfirmed(caller, name, served_manifest.digests)
        kind = "nobody" if self._gate.is_anonymous(caller, name) else caller.kind.name
        for digest in unconfirmed:
            key = (kind, name, digest)
            if self._stale_if_error.has_outage(name):
                self._postpone(served_manifest.key)
                return
            if not self._try_claim(key):
                continue
            try:
                should_continue = self._confirm_blob(caller, served_manifest, digest)
            except _RegistryFailed:
                self._postpone(served_manifest.key)
                self._postpone(key)
                return
            if not should_continue:
                return
        if absent and served_manifest.attempt < len(_RETRY_DELAYS):
            next_attempt = replace(
                served_manifest, digests=absent, attempt=served_manifest.attempt + 1
            )
            self._submit(
                served_manifest,
                partial(self._confirm, next_attempt),
                _RETRY_DELAYS[served_manifest.attempt],
            )

    def _confirm_blob(
        self, caller: Caller, served_manifest: _ServedManifest, digest: Digest
    ) -> bool:
        """Ask about one blob; return False if this manifest's other blobs should not be asked for.

        Raise _RegistryFailed if the registry has no answer.
        """
        name, request = served_manifest.name, served_manifest.request
        blob_request = replace(request, headers=headers.without(request.headers, "accept"))
        with self._record_failures(name) as report_status:
            status = self._blobs.confirm(caller, name, digest, blob_request)
            report_status(status)
            if status != HTTPStatus.NOT_FOUND:
                return status is None or status < HTTPStatus.BAD_REQUEST
            # Some registries answer 404 to hide a private repository, so the 404 has revoked the
            # caller's grant. If only this blob is missing, a HEAD of the manifest gives the grant
            # back. Other registries answer 404 to every HEAD of a blob. This image's other blobs
            # are not asked for, since each would cost two requests.
            manifest_head = self._fetcher.fetch_head(caller, name, served_manifest.digest, request)
            manifest_head.reply.close()
            report_status(manifest_head.reply.status)
        return False

    @contextmanager
    def _record_failures(self, name: RepositoryName) -> Iterator[Callable[[int | None], None]]:
        """Yield a function to report each answer's status to.

        If a status or a RegistryError means an outage, record the failure and raise
        _RegistryFailed.
        """

        def report_status(status: int | None) -> None:
            if status is not None and is_outage_status(status):
                self._stale_if_error.record_failure(name, status)
                raise _RegistryFailed

        try:
            yield report_status
        except RegistryError as error:
            self._stale_if_error.record_failure(name, error)
            raise _RegistryFailed from error

    def _try_claim(self, key: tuple[str, ...]) -> bool:
        """Return whether the work was not done recently, and mark it as done now."""
        now = time.monotonic()
        retry_at = self._retry_at.get(key)
        if retry_at is not None and now < retry_at:
            return False
        self._retry_at.put(key, now + _CONFIRM_INTERVAL)
        return True

    def _postpone(self, key: tuple[str, ...]) -> None:
        """Let the work be done again after 15 s, since it could not be done now."""
        self._retry_at.put(key, time.monotonic() + _FAILURE_PAUSE)

    def _submit(
        self, served_manifest: _ServedManifest, work: Callable[[], None], delay: float = 0.0
    ) -> None:
        if self._background.submit(work, delay):
            return
        self._retry_at.forget(served_manifest.key)
        now = time.monotonic()
        if now - self._warned_at >= _LOG_INTERVAL:
            self._warned_at = now
            logger.warning("Queue of manifests for blob confirmation is full.")


class _RegistryFailed(Exception):
    """The registry cannot answer now."""


def _has_fallback() -> bool:
    return True
