"""Blobs: from the store, from a running fetch, or from the registry."""

import logging
import time
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

from app.cache import cache_status
from app.cache.authz import evidence
from app.cache.authz.callers import Caller
from app.cache.authz.gate import AccessState, AuthorizedContent, Gate
from app.cache.authz.grants import BoundedMap
from app.cache.blobs import serve
from app.cache.blobs.serve import BlobRefused, BlobRequest, lead_fetch, select_range
from app.cache.disk import DiskExecutor
from app.cache.head_first import find_refusal
from app.cache.policy import MAX_DISTANCE_AHEAD, CachePolicy
from app.cache.stale import StaleIfError
from app.oci import headers
from app.oci.conditional import parse_range
from app.oci.headers import Headers
from app.oci.reference import Digest, RepositoryName
from app.source import Reply, Request, Source
from app.spools import files
from app.spools.fetches import Fetches, Spool
from app.spools.lead import CompleteBlob, FetchLease, FetchOptions, UnreadLimits
from app.store.blobs import ContentInfo
from app.waiting import SingleFlight

# Recent successes: what the registry has just said to a caller about a blob still being fetched.

Key = tuple[str, str, str]
"""Caller, repository and digest."""

_CONFIRMATION_LIFETIME: Final = 60.0
"""Seconds for which a success counts. A client that pulls in parts asks again and again until the
blob is cached and so becomes a member."""


class RecentConfirmations:
    """Remembers successes, each about one caller, repository and digest.

    A success can stand in for a member, never for a grant.
    """

    def __init__(self) -> None:
        self._sizes = BoundedMap[tuple[int, float]]()

    def lookup_size(self, key: Key) -> int | None:
        """Return the size in bytes that a success reported in the last 60 s, or None."""
        size, recorded_at = self._sizes.get(key) or (None, 0.0)
        return size if time.monotonic() - recorded_at < _CONFIRMATION_LIFETIME else None

    def record_success(self, key: Key, size: int) -> None:
        """Remember a success, and the size in bytes that it reported."""
        self._sizes.put(key, (size, time.monotonic()))

    def record_refusal(self, key: Key) -> None:
        """Forget the success, since the registry has refused."""
        self._sizes.forget(key)


# Spools: a blob that was fetched whole moves from its spool to the store.


def build_fetches(
    disk: DiskExecutor, spools: Path, registry: str, unread_limits: UnreadLimits
) -> Fetches:
    """Return the fetches of one registry; `spools` holds a directory for each registry."""
    spool_directory = spools / registry
    adopt, make_room = partial(_adopt, disk, registry), partial(_make_room, disk)
    options = FetchOptions(
        adopt=adopt,
        make_room=make_room,
        is_cached=lambda digest: disk.blobs.stat(registry, digest) is not None,
        unread_limits=unread_limits,
        remove_other_idle=partial(_remove_idle, spools),
        report_failure=disk.count_failure,
    )
    return Fetches(spool_directory, options)


def measure_unfinished(spools: Path) -> tuple[int, int]:
    """Return the number of unfinished blobs, and their size in bytes; waits for the disk.

    Both running and abandoned fetches count.
    """
    measures = [files.measure(spool_directory) for spool_directory in _list_registries(spools)]
    return sum(number for number, _ in measures), sum(size for _, size in measures)


def drop_unfinished(spools: Path) -> int:
    """Remove abandoned fetches, and return their size in bytes; waits for the disk."""
    return _remove_idle(spools, 0)


def _remove_idle(spools: Path, idle: float) -> int:
    return sum(
        files.remove_idle(spool_directory, idle) for spool_directory in _list_registries(spools)
    )


def _list_registries(spools: Path) -> list[Path]:
    # Includes registries that are no longer configured.
    return sorted(path for path in spools.glob("*") if path.is_dir())


def _adopt(disk: DiskExecutor, registry: str, blob: CompleteBlob) -> None:
    # No media type: anyone who could choose one for a blob could turn it into a manifest.
    content = ContentInfo(registry=registry, digest=blob.digest, size=blob.size, media_type="")
    disk.move(disk.blobs.adopt, blob.path, content)


def _make_room(disk: DiskExecutor, size: int) -> None:
    disk.move_or_raise(disk.blobs.make_room, size)


logger = logging.getLogger(__name__)

_LOG_INTERVAL: Final = 60.0
"""Seconds in which trouble with the disk is logged once."""


class BlobCache:
    """The blobs of one registry.

    Only the gate opens cached blobs. If a caller may not read a blob yet, the registry is asked
    first, even if another client is fetching that blob already. The first client fetches for all.
    """

    def __init__(
        self,
        inner: Source,
        gate: Gate,
        stale_if_error: StaleIfError,
        fetches: Fetches,
        policy: CachePolicy,
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._stale_if_error = stale_if_error
        self._fetches = fetches
        self._policy = policy
        self._confirmations = RecentConfirmations()
        self._single_flight = SingleFlight[Key]()  # identical requests wait for the first
        self._logged_at = float("-inf")

    def serve_blob(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply:
        """Return a blob or the requested part of it, or the registry's refusal.

        Raise RegistryError if the registry cannot be asked and no public copy is cached. Raise
        ClientGone if the client disconnects while it waits for others.
        """
        blob_request = self._build_request(caller, name, digest, request)
        found = self._gate.open_or_explain(caller, name, digest)
        if isinstance(found, AuthorizedContent):
            return self._serve_cached(blob_request, found)

        def serve_miss(upstream_request: Request) -> Reply:
            return self._serve_miss(replace(blob_request, request=upstream_request), found)

        reply = self._stale_if_error.fetch_or_serve_stale(
            caller, name, request, serve_miss, partial(self._serve_stale, blob_request)
        )
        if reply.is_error:
            self._confirmations.record_refusal(blob_request.key)
        return reply

    def confirm(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> int | None:
        """Ask the registry with a HEAD whether a repository holds a cached blob.

        Return the status of its answer. Return None, without asking, if the blob is confirmed or
        not cached, or if another request has just asked. May raise RegistryError.
        """
        blob_request = self._build_request(caller, name, digest, request)
        with self._single_flight.lead(blob_request.key, request.client) as is_leader:
            if not (is_leader and self._gate.find_unconfirmed(caller, name, [digest])[0]):
                return None
            reply = blob_request.fetch_head()
            reply.close()
            return reply.status

    def _build_request(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> BlobRequest:
        return BlobRequest(
            inner=self._inner,
            gate=self._gate,
            caller=caller,
            name=name,
            digest=digest,
            request=request,
            requested_at=self._gate.now(),
            only_verified=self._policy.verify_blobs,
        )

    def _serve_hit(self, blob_request: BlobRequest) -> Reply | None:
        content = self._gate.open(blob_request.caller, blob_request.name, blob_request.digest)
        return None if content is None else self._serve_cached(blob_request, content)

    def _serve_cached(self, blob_request: BlobRequest, content: AuthorizedContent) -> Reply:
        cache_headers = cache_status.build_hit(cache_status.compute_age(content.stored_at))
        return serve.build_cached_reply(
            blob_request, content, cache_headers, self._policy.accel_location
        )

    def _serve_stale(self, blob_request: BlobRequest, status: int | None) -> Reply | None:
        content = self._gate.open_stale(blob_request.name, blob_request.digest)
        if content is None:
            return None
        cache_headers = cache_status.build_stale(
            status, cache_status.compute_age(content.stored_at)
        )
        return serve.build_cached_reply(
            blob_request, content, cache_headers, self._policy.accel_location
        )

    def _serve_miss(self, blob_request: BlobRequest, standing: AccessState) -> Reply:
        if blob_request.request.method != "GET" or not Fetches.can_fetch(blob_request.digest):
            return _pass_through(blob_request)
        try:
            if self._may_join(blob_request, standing):
                return self._join_and_serve(blob_request)
            with self._single_flight.lead(
                blob_request.key, blob_request.request.client
            ) as is_leader:
                if not is_leader:  # after a wait, the state may have changed
                    standing = self._gate.lookup_access(
                        blob_request.caller, blob_request.name, blob_request.digest
                    )
                    if self._may_join(blob_request, standing):
                        return self._join_and_serve(blob_request)
                return self._confirm_and_serve(blob_request, standing)
        except BlobRefused as refusal:
            return cache_status.mark_reply(
                refusal.reply, cache_status.build_forwarded(refusal.reply.status)
            )
        except OSError as error:
            # The disk is full, read-only or gone; a pull works without it.
            self._fetches.report_failure(error)
            self._log_failure(error)
            return _pass_through(blob_request)

    def _may_join(self, blob_request: BlobRequest, standing: AccessState) -> bool:
        """Return whether the caller could read the blob if it were cached."""
        is_confirmed = self._confirmations.lookup_size(blob_request.key) is not None
        return standing.has_grant and (is_confirmed or standing.is_member)

    def _confirm_and_serve(self, blob_request: BlobRequest, standing: AccessState) -> Reply:
        """Serve a client whose rights are unknown: the registry's answer decides."""
        if not standing.is_cached:
            lead = self._fetches.try_acquire(blob_request.digest)
            if lead is not None:
                return self._lead_and_serve(blob_request, lead)
        head = blob_request.fetch_head()
        if refusal := find_refusal(head, blob_request.request):
            raise BlobRefused(refusal)
        head.close()
        is_valid = head.length is not None and evidence.is_blob(head, blob_request.digest)
        if head.status != HTTPStatus.OK or head.length is None or not is_valid:
            return _pass_through(blob_request)
        self._confirmations.record_success(blob_request.key, head.length)
        return self._serve_hit(blob_request) or self._join_and_serve(blob_request)

    def _join_and_serve(self, blob_request: BlobRequest) -> Reply:
        """Serve a client that may share a running fetch.

        Pass the request on if the registry has reported another size to this client.
        """
        lead_or_spool = self._fetches.acquire_or_join(
            blob_request.digest, blob_request.request.client, blob_request.payer
        )
        if isinstance(lead_or_spool, FetchLease):
            return self._lead_and_serve(blob_request, lead_or_spool)
        if self._confirmations.lookup_size(blob_request.key) not in {None, lead_or_spool.size}:
            lead_or_spool.close()
            return _pass_through(blob_request)
        return self._serve_spool(blob_request, lead_or_spool, cache_status.build_joined())

    def _lead_and_serve(self, blob_request: BlobRequest, lead: FetchLease) -> Reply:
        """Serve the client that has the right to fetch."""
        if lead.is_cached:
            lead.release()  # another fetch has finished meanwhile
            return self._serve_hit(blob_request) or _pass_through(blob_request)
        if _starts_far_ahead(blob_request.request, lead):
            lead.release()
            return _pass_through(blob_request)
        is_complete = lead.offset == lead.size
        spool = lead_fetch(blob_request, lead, self._fetches)
        if spool is None:
            return _pass_through(blob_request)
        self._confirmations.record_success(blob_request.key, spool.size)
        # If an earlier leader fetched all bytes and did not finish, a HEAD only confirmed them.
        cache_headers = (
            cache_status.build_joined()
            if is_complete
            else cache_status.build_forwarded(HTTPStatus.OK, stored=True)
        )
        return self._serve_spool(blob_request, spool, cache_headers)

    def _serve_spool(
        self, blob_request: BlobRequest, spool: Spool, cache_headers: Headers
    ) -> Reply:
        part = select_range(blob_request.request, blob_request.digest, spool.size)
        if part.start > spool.available + MAX_DISTANCE_AHEAD:
            spool.close()
            return _pass_through(blob_request)
        return serve.build_spooled_reply(blob_request, spool, part, cache_headers)

    def _log_failure(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            fields = {"error": str(error)}
            logger.warning("Blobs are forwarded without caching.", extra={"fields": fields})


def _pass_through(blob_request: BlobRequest) -> Reply:
    """Return the registry's answer to the client's own request, and keep nothing."""
    reply = blob_request.fetch_unchanged()
    return cache_status.mark_reply(reply, cache_status.build_forwarded(reply.status))


def _starts_far_ahead(request: Request, lead: FetchLease) -> bool:
    """Return whether a range starts more than `MAX_DISTANCE_AHEAD` bytes ahead of the fetch.

    A suffix range ("the last n bytes") counts as far ahead: its start is unknown until the registry
    has reported the size.
    """
    byte_range = parse_range(headers.get_first(request.headers, "range"))
    if byte_range is None:
        return False
    return byte_range.first is None or byte_range.first > lead.offset + MAX_DISTANCE_AHEAD
