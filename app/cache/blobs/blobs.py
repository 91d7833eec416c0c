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
from app.cache.policy import AHEAD, CachePolicy
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

_COUNTS: Final = 60.0
"""Seconds for which a success counts. A client that pulls in parts asks again and again until the
blob is cached and so becomes a member."""


class RecentConfirmations:
    """Remembers successes, each about one caller, repository and digest.

    A success can stand in for a member, never for a grant.
    """

    def __init__(self) -> None:
        self._sizes = BoundedMap[tuple[int, float]]()

    def lookup_size(self, key: Key) -> int | None:
        """Return the size in bytes that a success reported; None without one in the last 60 s."""
        size, told = self._sizes.get(key) or (None, 0.0)
        return size if time.monotonic() - told < _COUNTS else None

    def record_success(self, key: Key, size: int) -> None:
        """Remember a success, and the size in bytes that it reported."""
        self._sizes.put(key, (size, time.monotonic()))

    def record_refusal(self, key: Key) -> None:
        """Forget the success, since the registry has refused."""
        self._sizes.forget(key)


# Spools: a blob that was fetched whole moves from its spool to the store.


def build_fetches(disk: DiskExecutor, spools: Path, registry: str, unread: UnreadLimits) -> Fetches:
    """Return the fetches of one registry; `spools` is the directory of those of all registries."""
    below = spools / registry
    keep, room = partial(_adopt, disk, registry), partial(_make_room, disk)
    terms = FetchOptions(
        adopt=keep,
        make_room=room,
        is_cached=lambda digest: disk.blobs.stat(registry, digest) is not None,
        unread_limits=unread,
        remove_other_idle=partial(_remove_idle, spools),
        report_failure=disk.count_failure,
    )
    return Fetches(below, terms)


def measure_unfinished(spools: Path) -> tuple[int, int]:
    """Return the number of unfinished blobs, and their size in bytes; waits for the disk.

    Both running and abandoned fetches count.
    """
    found = [files.measure(below) for below in _list_registries(spools)]
    return sum(number for number, _ in found), sum(size for _, size in found)


def drop_unfinished(spools: Path) -> int:
    """Remove abandoned fetches, and return their size in bytes; waits for the disk."""
    return _remove_idle(spools, 0)


def _remove_idle(spools: Path, idle: float) -> int:
    return sum(files.remove_idle(below, idle) for below in _list_registries(spools))


def _list_registries(spools: Path) -> list[Path]:
    # Includes registries that are no longer configured.
    return sorted(path for path in spools.glob("*") if path.is_dir())


def _adopt(disk: DiskExecutor, registry: str, whole: CompleteBlob) -> None:
    # No media type: anyone who could choose one for a blob could turn it into a manifest.
    content = ContentInfo(registry=registry, digest=whole.digest, size=whole.size, media_type="")
    disk.move(disk.blobs.adopt, whole.path, content)


def _make_room(disk: DiskExecutor, size: int) -> None:
    disk.move_or_raise(disk.blobs.make_room, size)


logger = logging.getLogger(__name__)

_SILENCE: Final = 60.0
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
        away: StaleIfError,
        fetches: Fetches,
        policy: CachePolicy,
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._stale_if_error = away
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
        asking = self._build_request(caller, name, digest, request)
        found = self._gate.open_or_explain(caller, name, digest)
        if isinstance(found, AuthorizedContent):
            return self._serve_cached(asking, found)

        def missed(asked: Request) -> Reply:
            return self._serve_miss(replace(asking, request=asked), found)

        reply = self._stale_if_error.fetch_or_serve_stale(
            caller, name, request, missed, partial(self._serve_stale, asking)
        )
        if reply.is_error:
            self._confirmations.record_refusal(asking.key)
        return reply

    def confirm(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> int | None:
        """Ask the registry with a HEAD whether a repository holds a cached blob.

        Return the status of its answer. Return None, without asking, if the blob is confirmed or
        not cached, or if another request has just asked. Raise RegistryError.
        """
        asking = self._build_request(caller, name, digest, request)
        with self._single_flight.lead(asking.key, request.client) as leads:
            if not (leads and self._gate.find_unconfirmed(caller, name, [digest])[0]):
                return None
            reply = asking.fetch_head()
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

    def _serve_hit(self, asking: BlobRequest) -> Reply | None:
        opened = self._gate.open(asking.caller, asking.name, asking.digest)
        return None if opened is None else self._serve_cached(asking, opened)

    def _serve_cached(self, asking: BlobRequest, opened: AuthorizedContent) -> Reply:
        said = cache_status.build_hit(cache_status.compute_age(opened.stored_at))
        return serve.build_cached_reply(asking, opened, said, self._policy.accel_location)

    def _serve_stale(self, asking: BlobRequest, status: int | None) -> Reply | None:
        opened = self._gate.open_stale(asking.name, asking.digest)
        if opened is None:
            return None
        said = cache_status.build_stale(status, cache_status.compute_age(opened.stored_at))
        return serve.build_cached_reply(asking, opened, said, self._policy.accel_location)

    def _serve_miss(self, asking: BlobRequest, standing: AccessState) -> Reply:
        if asking.request.method != "GET" or not Fetches.can_fetch(asking.digest):
            return _pass_through(asking)
        try:
            if self._may_join(asking, standing):
                return self._join_and_serve(asking)
            with self._single_flight.lead(asking.key, asking.request.client) as leads:
                if not leads:  # after a wait, the state may have changed
                    standing = self._gate.lookup_access(asking.caller, asking.name, asking.digest)
                    if self._may_join(asking, standing):
                        return self._join_and_serve(asking)
                return self._confirm_and_serve(asking, standing)
        except BlobRefused as refused:
            return cache_status.mark_reply(
                refused.reply, cache_status.build_forwarded(refused.reply.status)
            )
        except OSError as error:
            # The disk is full, read-only or gone; a pull works without it.
            self._fetches.report_failure(error)
            self._log_failure(error)
            return _pass_through(asking)

    def _may_join(self, asking: BlobRequest, standing: AccessState) -> bool:
        """Return whether the caller could read the blob if it were cached."""
        told = self._confirmations.lookup_size(asking.key) is not None
        return standing.has_grant and (told or standing.is_member)

    def _confirm_and_serve(self, asking: BlobRequest, standing: AccessState) -> Reply:
        """Serve a client whose rights are unknown: the registry's answer decides."""
        if not standing.is_cached:
            lead = self._fetches.try_acquire(asking.digest)
            if lead is not None:
                return self._lead_and_serve(asking, lead)
        head = asking.fetch_head()
        if refusal := find_refusal(head, asking.request):
            raise BlobRefused(refusal)
        head.close()
        fits = head.length is not None and evidence.is_blob(head, asking.digest)
        if head.status != HTTPStatus.OK or head.length is None or not fits:
            return _pass_through(asking)
        self._confirmations.record_success(asking.key, head.length)
        return self._serve_hit(asking) or self._join_and_serve(asking)

    def _join_and_serve(self, asking: BlobRequest) -> Reply:
        """Serve a client that may share a running fetch.

        The registry must have reported the same size to both; if not, pass the request on.
        """
        entered = self._fetches.acquire_or_join(asking.digest, asking.request.client, asking.payer)
        if isinstance(entered, FetchLease):
            return self._lead_and_serve(asking, entered)
        if self._confirmations.lookup_size(asking.key) not in {None, entered.size}:
            entered.close()
            return _pass_through(asking)
        return self._serve_spool(asking, entered, cache_status.build_joined())

    def _lead_and_serve(self, asking: BlobRequest, lead: FetchLease) -> Reply:
        """Serve the client that has the right to fetch."""
        if lead.is_cached:
            lead.release()  # another fetch has finished meanwhile
            return self._serve_hit(asking) or _pass_through(asking)
        if _starts_far_ahead(asking.request, lead):
            lead.release()
            return _pass_through(asking)
        is_there = lead.offset == lead.size
        spool = lead_fetch(asking, lead, self._fetches)
        if spool is None:
            return _pass_through(asking)
        self._confirmations.record_success(asking.key, spool.size)
        # If an earlier leader fetched all bytes and did not finish, a HEAD only confirmed them.
        said = (
            cache_status.build_joined()
            if is_there
            else cache_status.build_forwarded(HTTPStatus.OK, stored=True)
        )
        return self._serve_spool(asking, spool, said)

    def _serve_spool(self, asking: BlobRequest, spool: Spool, said: Headers) -> Reply:
        part = select_range(asking.request, asking.digest, spool.size)
        if part.start > spool.available + AHEAD:
            spool.close()
            return _pass_through(asking)
        return serve.build_spooled_reply(asking, spool, part, said)

    def _log_failure(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _SILENCE:
            self._logged_at = now
            fields = {"error": str(error)}
            logger.warning("Blobs are forwarded without caching.", extra={"fields": fields})


def _pass_through(asking: BlobRequest) -> Reply:
    """Return the registry's answer to the client's own request, and keep nothing."""
    reply = asking.fetch_unchanged()
    return cache_status.mark_reply(reply, cache_status.build_forwarded(reply.status))


def _starts_far_ahead(request: Request, lead: FetchLease) -> bool:
    """Return whether a range starts more than `AHEAD` bytes ahead of the fetch.

    A suffix range ("the last n bytes") counts as far ahead: its start is unknown until the registry
    has reported the size.
    """
    wanted = parse_range(headers.get_first(request.headers, "range"))
    if wanted is None:
        return False
    return wanted.first is None or wanted.first > lead.offset + AHEAD
