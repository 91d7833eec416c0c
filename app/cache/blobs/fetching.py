"""A client that may read a blob fetches the parts that nobody else does, for all readers."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

from app.cache.blobs.ranges import select_ranges
from app.cache.blobs.request import BlobRefused, BlobRequest, require_blob
from app.cache.policy import MAX_SKIPPED
from app.oci import conditional
from app.oci.errors import RegistryError
from app.oci.headers import parse_retry_after
from app.source import BodyBroken, Payer, Reply
from app.transfer.chunk_map import CHUNK
from app.transfer.connections import (
    Connection,
    NoMoreConnections,
    PartRefused,
    RangesIgnored,
)
from app.transfer.fan import FIRST_LEASE, RANGES
from app.transfer.lease import Span
from app.transfer.partial_blob import PartialBlob
from app.transfer.reading import Reading
from app.transfer.rest import RemainingBody, parse_rest, parse_size
from app.transfer.shared_blob import FirstAnswer
from app.transfer.transfers import Beginning, Transfer


@dataclass(frozen=True, slots=True)
class BlobOrigin:
    """Where the bytes of a blob come from, in the name of one client that may read it.

    Further parts come from the place that the registry has redirected to, if it has; the registry
    is asked again when that place no longer serves them. `reenter` returns the transfer that
    replaces this one if the blob is wrong, or None. `is_whole` says whether the client wants the
    whole blob.
    """

    blob_request: BlobRequest
    transfer: Transfer
    reenter: Callable[[], Transfer | None]
    is_whole: bool

    def read(self) -> Reading:
        """Return what a body reads, which closes the transfer."""
        return Reading(self.transfer.blob, self, self.transfer.close)

    @property
    def only_verified(self) -> bool:
        """Whether the client must not get bytes that nobody has hashed."""
        return self.blob_request.only_verified

    @property
    def payer(self) -> Payer | None:
        """The client charged for bytes that no other client reads; None if nobody is charged."""
        return self.blob_request.payer

    @property
    def key(self) -> tuple[str, ...] | None:
        """Caller and repository, if the registry has let this caller read the blob."""
        return self.blob_request.reader if self.blob_request.confirmed_at else None

    def ensure_fetch(self, span: Span) -> None:
        """See to it that somebody fetches the first missing bytes; raise OSError."""
        self.transfer.fetch(self, [span], whole=self.is_whole or self.only_verified)

    def restart(self) -> Reading | None:
        """Return another fetch of the same blob, or None if there is none."""
        try:
            transfer = self.reenter()
        except (BlobRefused, RegistryError, OSError):
            return None
        if transfer is None:
            return None
        if transfer.blob.size != self.transfer.blob.size:
            transfer.close()
            return None
        return replace(self, transfer=transfer).read()

    def fetch_alone(self, span: Span) -> Reply:
        """Ask for bytes for this client alone; raise RegistryError."""
        return self.blob_request.fetch_part(*span, self.blob_request.request.client)

    def fetch_part(self, span: Span, connection: Connection, *, alone: bool) -> RemainingBody:
        """Ask for bytes for all readers.

        Raise NoMoreConnections or RangesIgnored if the other connections should go on without this
        one; if there is none (`alone`), raise BodyBroken. Raise RegistryError.
        """
        place = self.transfer.place
        ask_place = partial(self.blob_request.fetch_from_place, span, connection)
        ask_registry = partial(self.blob_request.fetch_part, *span, connection)
        reply = place.fetch(ask_place, ask_registry)
        if reply.is_error and not alone:
            reply.close()
            raise NoMoreConnections
        if reply.is_error and place.is_known:
            reply.close()
            place.forget()  # the registry is asked more patiently than a place
            reply = place.fetch(ask_place, ask_registry)
        if reply.is_error:
            reply.close()
            raise PartRefused(reply.status, parse_retry_after(reply.header("retry-after")))
        rest = parse_rest(reply, span[0], self.transfer.blob.size)
        if rest is not None and (alone or not rest.skip):
            return rest
        if rest is not None:
            rest.close()
        if not alone:
            raise RangesIgnored
        message = "the registry does not go on"
        raise BodyBroken(message)

    def record_verified(self) -> None:
        """Record that the repository holds the blob: all bytes are here and have the hash."""
        self.blob_request.record_verified()


def begin_fetch(blob_request: BlobRequest, beginning: Beginning) -> Transfer | None:
    """Ask the registry for a blob of unknown size, and begin to fetch it for all readers.

    Return None if the answer is of no use to other readers, so that this client must ask for
    itself. Raise BlobRefused if the registry answers with something else than the blob,
    RegistryError if it does not answer, and OSError if nothing can be written.
    """
    with ExitStack() as stack:
        stack.callback(beginning.release)
        start, end = _find_span(blob_request, None)
        connection = Connection()
        reply = require_blob(blob_request.fetch_part(start, end, connection), blob_request.digest)
        stack.callback(reply.close)
        blob_request = replace(blob_request, confirmed_at=blob_request.requested_at)
        size = parse_size(reply)
        if size is None:
            return None
        offset = start if reply.status == HTTPStatus.PARTIAL_CONTENT else 0
        if start - offset > MAX_SKIPPED:
            return None
        rest = parse_rest(reply, offset, size)
        if rest is None:
            return None
        wanted = (offset, size if rest.end is None else rest.end)
        blob = beginning.announce(size)
        lease = blob.acquire_lease([wanted], _choose_first_lease(size))
        # Before others come, who would ask the registry.
        share_confirmation(blob_request, blob)
        transfer = beginning.let_in(blob, blob_request.payer)
        stack.callback(transfer.close)
        transfer.place.remember(reply)
        if lease is None:  # the blob is empty
            reply.close()
        else:
            stack.callback(lease.close)
            _fetch(blob_request, transfer, FirstAnswer(connection, lease, rest))
        stack.pop_all()
    return transfer


def continue_fetch(blob_request: BlobRequest, transfer: Transfer, *, has_grant: bool) -> bool:
    """Ask the registry for bytes of a blob that nobody fetches, and fetch them for all readers.

    The registry's answer shows that the client may read the blob. Return False, without a question,
    if there are no such bytes, or if the answer does not fit. Raise BlobRefused, RegistryError and
    OSError as `begin_fetch` does.

    While it is asked, a caller with a grant keeps the bytes from others, so that they are fetched
    once. A stranger does not: the registry may refuse it, or take long.
    """
    blob = transfer.blob
    start, end = _find_span(blob_request, blob.size)
    wanted, most = [(start, blob.size if end is None else end)], _choose_first_lease(blob.size)
    if (lease := blob.acquire_lease(wanted, most)) is None:
        return False
    position, end = lease.position, lease.end
    with ExitStack() as stack:
        stack.callback(lease.close)
        if not has_grant:
            lease.close()
        connection = Connection()
        reply = require_blob(
            blob_request.fetch_part(position, end, connection), blob_request.digest
        )
        stack.callback(reply.close)
        rest = parse_rest(reply, position, blob.size)
        # An answer that does not tell the size may be about another blob, and confirms nothing.
        if rest is None or rest.skip > MAX_SKIPPED or parse_size(reply) != blob.size:
            return False
        blob_request = replace(blob_request, confirmed_at=blob_request.requested_at)
        share_confirmation(blob_request, blob)
        if not has_grant:
            again = blob.acquire_lease([(position, end)], most)
            if again is None:
                return True  # others have begun meanwhile
            stack.callback(again.close)
            if again.position != position:
                return True
            lease = again
        transfer.place.remember(reply)
        _fetch(blob_request, transfer, FirstAnswer(connection, lease, rest))
        stack.pop_all()
    return True


def share_confirmation(blob_request: BlobRequest, blob: PartialBlob) -> None:
    """Tell all workers that the registry has let the caller read the blob, if it has."""
    if blob_request.confirmed_at:
        with suppress(OSError):  # other workers then ask the registry
            blob.confirmations.record(blob_request.reader, blob_request.confirmed_at)


def _find_span(blob_request: BlobRequest, size: int | None) -> tuple[int, int | None]:
    """Return the bytes that a client asks for, rounded to chunks; the end is None for all.

    The last bytes of a blob of unknown size cannot be found, so all of it is asked for.
    """
    fields = blob_request.request.headers
    ranges = conditional.parse_ranges(conditional.get_range_header(fields, blob_request.digest))
    if not ranges:
        return 0, None
    asked = ranges[0]
    if asked.first is None:
        if size is None or (found := asked.resolve(size)) is None:
            return 0, None
        return found[0] // CHUNK * CHUNK, None
    end = None if asked.last is None else -(-(asked.last + 1) // CHUNK) * CHUNK
    return asked.first // CHUNK * CHUNK, end


def _choose_first_lease(size: int) -> int:
    return max(FIRST_LEASE, size // RANGES)


def _fetch(blob_request: BlobRequest, transfer: Transfer, first: FirstAnswer) -> None:
    ranges = select_ranges(blob_request.request, blob_request.digest, transfer.blob.size)
    answered = replace(blob_request, is_answered=True)
    origin = BlobOrigin(answered, transfer, lambda: None, is_whole=ranges.is_whole)
    transfer.fetch(origin, [], whole=ranges.is_whole or blob_request.only_verified, first=first)
