"""Blobs: from the store, from a running fetch, or from the registry."""

import logging
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.cache import cache_status
from app.cache.authz import evidence
from app.cache.authz.callers import Caller
from app.cache.authz.gate import AccessState, AuthorizedContent, Gate
from app.cache.authz.grants import BoundedMap
from app.cache.blobs import serve
from app.cache.blobs.fetching import begin_fetch, continue_fetch, share_confirmation
from app.cache.blobs.request import BlobRefused, BlobRequest
from app.cache.head_first import find_refusal
from app.cache.policy import CachePolicy
from app.cache.stale import StaleIfError
from app.oci.headers import Headers
from app.oci.reference import Digest, RepositoryName
from app.source import Reply, Request, Source
from app.transfer.transfers import Beginning, Transfer, Transfers
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
        self._successes = BoundedMap[tuple[int, float]]()

    def lookup(self, key: Key, since: float) -> tuple[int, float] | None:
        """Return the size in bytes that a success reported, and the moment of the question.

        Return None if there was no question after `since`; moments are seconds since boot.
        """
        success = self._successes.get(key)
        return success if success is not None and success[1] > since else None

    def record_success(self, key: Key, size: int, asked_at: float) -> None:
        """Remember a success, the size in bytes that it reported, and when it was asked for."""
        self._successes.put(key, (size, asked_at))

    def record_refusal(self, key: Key) -> None:
        """Forget the success, since the registry has refused."""
        self._successes.forget(key)


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
        transfers: Transfers,
        policy: CachePolicy,
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._stale_if_error = stale_if_error
        self._transfers = transfers
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
        return self._serve(self._build_request(caller, name, digest, request))

    def begin(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Reply:
        """Do as `serve_blob` does for a part that no client has asked for yet, and so gets.

        It need not be verified.
        """
        blob_request = self._build_request(caller, name, digest, request)
        return self._serve(replace(blob_request, only_verified=False))

    def _serve(self, blob_request: BlobRequest) -> Reply:
        caller, name, digest = blob_request.caller, blob_request.name, blob_request.digest
        found = self._gate.open_or_explain(caller, name, digest)
        if isinstance(found, AuthorizedContent):
            return self._serve_cached(blob_request, found)

        def serve_miss(upstream_request: Request) -> Reply:
            return self._serve_miss(replace(blob_request, request=upstream_request), found)

        reply = self._stale_if_error.fetch_or_serve_stale(
            caller, name, blob_request.request, serve_miss, partial(self._serve_stale, blob_request)
        )
        if reply.is_error:
            self._record_refusal(blob_request)
        return reply

    def _record_refusal(self, blob_request: BlobRequest) -> None:
        self._confirmations.record_refusal(blob_request.key)
        with suppress(OSError):  # then no worker can read the confirmations either
            self._transfers.record_refusal(
                blob_request.digest, blob_request.reader, self._gate.now()
            )

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
        if blob_request.request.method != "GET" or not Transfers.can_fetch(blob_request.digest):
            return _pass_through(blob_request)
        try:
            if confirmed := self._find_confirmation(blob_request, standing):
                return self._join_and_serve(confirmed)
            with self._single_flight.lead(
                blob_request.key, blob_request.request.client
            ) as is_leader:
                if not is_leader:  # after a wait, the state may have changed
                    standing = self._gate.lookup_access(
                        blob_request.caller, blob_request.name, blob_request.digest
                    )
                    if confirmed := self._find_confirmation(blob_request, standing):
                        return self._join_and_serve(confirmed)
                return self._confirm_and_serve(blob_request, standing)
        except BlobRefused as refusal:
            return _relay_refusal(blob_request, refusal.reply)
        except OSError as error:
            # The disk is full, read-only or gone; a pull works without it.
            self._transfers.report_failure(error)
            self._log_failure(error)
            return _pass_through(blob_request)

    def _find_confirmation(
        self, blob_request: BlobRequest, standing: AccessState
    ) -> BlobRequest | None:
        """Return the request of a caller who could read the blob if it were cached, or None.

        The registry has just let such a caller read it, or is known to hold it there.
        """
        if not standing.has_grant:
            return None
        if standing.is_member:
            return blob_request
        if success := self._confirmations.lookup(blob_request.key, self._compute_oldest()):
            return replace(blob_request, confirmed_at=success[1])
        return self._find_shared_confirmation(blob_request)

    def _find_shared_confirmation(self, blob_request: BlobRequest) -> BlobRequest | None:
        """Do as `_find_confirmation` does, by what all workers know of a blob being fetched."""
        confirmed_at = self._transfers.find_confirmation(
            blob_request.digest, blob_request.reader, self._compute_oldest()
        )
        return replace(blob_request, confirmed_at=confirmed_at) if confirmed_at else None

    def _wait_for_confirmation(
        self, blob_request: BlobRequest, standing: AccessState
    ) -> BlobRequest | None:
        """Do the same once no worker waits for the registry's first answer about the blob.

        The same caller often asks through several workers at once.
        """
        if standing.is_cached or not standing.has_grant:
            return None
        self._transfers.wait_for_answer(blob_request.digest, blob_request.request.client)
        standing = self._gate.lookup_access(
            blob_request.caller, blob_request.name, blob_request.digest
        )
        return self._find_confirmation(blob_request, standing)

    def _compute_oldest(self) -> float:
        """Return the moment after which a success must have been asked for (since boot)."""
        return self._gate.now() - _CONFIRMATION_LIFETIME

    def _confirm_and_serve(self, blob_request: BlobRequest, standing: AccessState) -> Reply:
        """Serve a client whose rights are unknown: the registry's answer decides."""
        if (
            not standing.is_cached
            and (reply := self._fetch_and_serve(blob_request, standing)) is not None
        ):
            return reply
        if confirmed := self._wait_for_confirmation(blob_request, standing):
            return self._join_and_serve(confirmed)
        if reply := self._serve_hit(blob_request):  # another worker has finished it meanwhile
            return reply
        head = blob_request.fetch_head()
        if refusal := find_refusal(head, blob_request.request):
            raise BlobRefused(refusal)
        head.close()
        is_valid = head.length is not None and evidence.is_blob(head, blob_request.digest)
        if head.status != HTTPStatus.OK or head.length is None or not is_valid:
            return _pass_through(blob_request)
        confirmed = self._record_success(blob_request, head.length)
        return self._serve_hit(confirmed) or self._join_and_serve(confirmed)

    def _fetch_and_serve(self, blob_request: BlobRequest, standing: AccessState) -> Reply | None:
        """Serve a client whose own request brings bytes that nobody fetches yet.

        Return None if there are no such bytes.
        """
        transfer = self._transfers.join(blob_request.digest, blob_request.payer)
        if transfer is None:
            beginning = self._transfers.begin(blob_request.digest)
            return None if beginning is None else self._begin_and_serve(blob_request, beginning)
        with ExitStack() as stack:
            stack.callback(transfer.close)
            if not continue_fetch(blob_request, transfer, has_grant=standing.has_grant):
                return None
            stack.pop_all()
        return self._serve_fetched(blob_request, transfer)

    def _record_success(self, blob_request: BlobRequest, size: int) -> BlobRequest:
        """Remember that the registry has just let the caller read the blob; return the request."""
        asked_at = blob_request.requested_at
        self._confirmations.record_success(blob_request.key, size, asked_at)
        return replace(blob_request, confirmed_at=asked_at)

    def _join_and_serve(self, blob_request: BlobRequest) -> Reply:
        """Serve a client that may read what is being fetched.

        Pass the request on if the registry has reported another size to this client.
        """
        entered = self._transfers.begin_or_join(
            blob_request.digest, blob_request.request.client, blob_request.payer
        )
        if isinstance(entered, Beginning):
            return self._begin_and_serve(blob_request, entered)
        success = self._confirmations.lookup(blob_request.key, self._compute_oldest())
        if success is not None and success[0] != entered.blob.size:
            entered.close()
            return _pass_through(blob_request)
        share_confirmation(blob_request, entered.blob)
        return self._serve_transfer(blob_request, entered, cache_status.build_joined())

    def _begin_and_serve(self, blob_request: BlobRequest, beginning: Beginning) -> Reply:
        """Serve the client that has the right to ask first."""
        if beginning.is_cached:
            beginning.release()  # another fetch has finished meanwhile
            return self._serve_hit(blob_request) or _pass_through(blob_request)
        transfer = begin_fetch(blob_request, beginning)
        if transfer is None:
            return _pass_through(blob_request)
        return self._serve_fetched(blob_request, transfer)

    def _serve_fetched(self, blob_request: BlobRequest, transfer: Transfer) -> Reply:
        """Serve a client to whom the registry has just sent a part of the blob."""
        blob_request = self._record_success(blob_request, transfer.blob.size)
        cache_headers = cache_status.build_forwarded(HTTPStatus.OK, stored=True)
        return self._serve_transfer(blob_request, transfer, cache_headers)

    def _serve_transfer(
        self, blob_request: BlobRequest, transfer: Transfer, cache_headers: Headers
    ) -> Reply:
        reenter = partial(self._reenter, blob_request)
        return serve.build_transfer_reply(blob_request, transfer, cache_headers, reenter)

    def _reenter(self, blob_request: BlobRequest) -> Transfer | None:
        """Return the fetch that replaces one whose bytes were wrong, or None if there is none.

        Raise BlobRefused, RegistryError or OSError.
        """
        entered = self._transfers.begin_or_join(
            blob_request.digest, blob_request.request.client, blob_request.payer
        )
        return begin_fetch(blob_request, entered) if isinstance(entered, Beginning) else entered

    def _log_failure(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            fields = {"error": str(error)}
            logger.warning("Blobs are forwarded without caching.", extra={"fields": fields})


def _relay_refusal(blob_request: BlobRequest, reply: Reply) -> Reply:
    """Return what the registry has answered in place of bytes of the blob."""
    if reply.status == HTTPStatus.PARTIAL_CONTENT:  # perhaps another part than the client's
        reply.close()
        return _pass_through(blob_request)
    return cache_status.mark_reply(reply, cache_status.build_forwarded(reply.status))


def _pass_through(blob_request: BlobRequest) -> Reply:
    """Return the registry's answer to the client's own request, and keep nothing."""
    reply = blob_request.fetch_unchanged()
    return cache_status.mark_reply(reply, cache_status.build_forwarded(reply.status))
