"""Fills a spool: reads the registry's answer, writes its bytes to the file, and verifies them."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from app.events import keep_request_id
from app.oci.conditional import parse_content_range
from app.oci.errors import RegistryError
from app.source import BodyBroken, FetchAccount, Payer, Reply
from app.spools import files
from app.spools.files import FetchState
from app.spools.lead import CompleteBlob, FetchLease
from app.spools.shared_file import SharedFile
from app.spools.writing import HashingWriter

# Resuming a blob: asks the registry for the rest, and reads its answer.


class RestFetcher(Protocol):
    """Asks the registry on behalf of one reader. Both fetches may raise RegistryError."""

    @property
    def only_verified(self) -> bool:
        """Whether a reader of the whole blob must not get bytes that nobody has hashed."""

    @property
    def payer(self) -> Payer | None:
        """The client that is charged for bytes that nobody else reads; None charges nobody."""

    def fetch_rest(self, offset: int) -> Reply:
        """Fetch from `offset` to the end for all readers; no client's disconnect cancels it."""

    def fetch_range(self, start: int, end: int) -> Reply:
        """Fetch the bytes from `start` up to but not including `end`, for this client alone."""

    def record_verified(self) -> None:
        """Take note that the blob that `fetch_rest` completed has been verified."""


@dataclass(frozen=True, slots=True)
class RemainingBody:
    """The bytes of a blob from an offset on; the first `skip` bytes of `body` come before it.

    The skipped bytes cross the network too, so they are charged and bounded like the others.
    """

    body: Iterable[bytes]
    close: Callable[[], None]
    skip: int = 0

    def iterate_wanted(self) -> Iterator[bytes]:
        """Yield the bytes after the skipped ones, piece by piece as they arrive.

        If all of a piece is skipped, yield an empty one, so that the caller sees every arrival.
        """
        skip = self.skip
        for data in self.body:
            yield data[skip:]
            skip = max(0, skip - len(data))


def parse_rest(reply: Reply, offset: int, size: int) -> RemainingBody | None:
    """Return the rest of a blob of `size` bytes from `offset` on, as the reply delivers it.

    If the reply does not continue the blob at `offset`, close it and return None. A registry that
    does not support ranges sends the whole blob (RFC 9110, section 14.2); the bytes before
    `offset` are then skipped.
    """
    if reply.status == HTTPStatus.OK and reply.length == size:
        return RemainingBody(reply.chunks(), reply.close, skip=offset)
    part = parse_content_range(reply.header("content-range"))
    if (
        reply.status == HTTPStatus.PARTIAL_CONTENT
        and part is not None
        and part.start == offset
        and part.total in {size, None}
    ):
        return RemainingBody(reply.chunks(), reply.close)
    reply.close()
    return None


def parse_size(reply: Reply) -> int | None:
    """Return the size of the whole blob in bytes, from Content-Length or Content-Range.

    Return None if the reply does not give the size, or has a Content-Encoding.
    """
    if reply.header("content-encoding").lower() not in {"", "identity"}:
        return None  # the size would be that of the encoded form, whose digest nobody knows
    if reply.status == HTTPStatus.OK:
        return reply.length
    if reply.status != HTTPStatus.PARTIAL_CONTENT:
        return None
    part = parse_content_range(reply.header("content-range"))
    return None if part is None else part.total


# The fetch itself.

logger = logging.getLogger(__name__)


_CHECK_SIZE: Final = 256 * 1024
"""Bytes between two checks whether anybody still reads. An eighth of the unread limit applies
instead if that is less."""

_CHECK_INTERVAL: Final = 10.0
"""Seconds after which the next bytes cause a check, however few they are."""


class _DiskFailed(Exception):
    """The spool's file could not be read or written; the OSError is the cause."""


def start_fetch_thread(
    lead: FetchLease, rest: RemainingBody, fetcher: RestFetcher, *, is_whole: bool
) -> None:
    """Start a thread that fetches from the lead's offset to the end and then releases the lead.

    `fetcher` belongs to the client that began the fetch. Its `payer` pays for bytes that nobody
    else reads. Its `record_verified` is called when all bytes have been verified, before any reader
    gets the last one. `is_whole` says whether the client wants the whole blob.
    """
    run = keep_request_id(FetchTask(lead, rest, fetcher, is_whole=is_whole).run)
    threading.Thread(target=run, name=f"spool {lead.digest}", daemon=True).start()


class FetchTask:
    """One fetch, from the lead's offset until it is complete, fails, or is no longer wanted."""

    def __init__(
        self, lead: FetchLease, rest: RemainingBody, fetcher: RestFetcher, *, is_whole: bool
    ) -> None:
        self._lease = lead
        self._rest = rest
        self._record_verified = fetcher.record_verified
        self._algorithm, _, self._expected_hexdigest = lead.digest.partition(":")
        # Wake readers only for bytes that have been written.
        self._writer = HashingWriter(lead.files.data, self._algorithm, self._wake_readers)
        limits = lead.options.unread_limits
        lead.payer = fetcher.payer
        self._watch = _ReaderWatch(lead, limits.whole if is_whole else limits.part)

    def run(self) -> None:
        """Fetch, and release the lead whatever happens, so that others can continue."""
        with ExitStack() as cleanup, ExitStack() as failure_cleanup:
            cleanup.callback(self._release)
            cleanup.callback(self._rest.close)
            # Count unexpected errors as failures too. Otherwise readers would take over and fail
            # in turn without end.
            failure_cleanup.callback(self._fail)
            self._fetch()
            failure_cleanup.pop_all()

    def _fetch(self) -> None:
        try:
            with closing(self._watch):
                is_fetched = self._fetch_all()
            if is_fetched:
                self._finish()
        except _DiskFailed as error:
            if isinstance(error.__cause__, OSError):
                self._lease.options.report_failure(error.__cause__)
            fields = {"digest": str(self._lease.digest), "error": str(error.__cause__)}
            logger.warning(
                "Blob cannot be cached; its download continues without the cache.",
                extra={"fields": fields},
            )
            with suppress(OSError):
                self._lease.discard(FetchState.GIVEN_UP)
        except (OSError, RegistryError) as error:
            details = {
                "digest": str(self._lease.digest),
                "offset": self._writer.length,
                "error": str(error),
            }
            logger.warning("Fetch interrupted; the next one resumes it.", extra={"fields": details})
            self._fail()

    def _fetch_all(self) -> bool:
        """Fetch, and return whether all bytes arrived; False means that nobody wants the rest.

        Raise BodyBroken if the registry sends too little, and _DiskFailed if the file fails.
        """
        size = self._lease.record.size
        self._run_on_disk(lambda: self._writer.hash_existing(self._lease.offset))
        skip = self._rest.skip
        for data in self._rest.body:
            if len(data) > skip:
                self._write(data[skip:])
            skip = max(0, skip - len(data))
            self._watch.record_received(len(data))
            if self._writer.length > size:
                break
            if self._writer.length < size and self._is_unwanted():
                self._run_on_disk(self._writer.flush)
                return False
        self._run_on_disk(self._writer.flush)
        if self._writer.length < size:
            message = "the registry sent too little"
            raise BodyBroken(message)
        return True

    def _write(self, data: bytes) -> None:
        self._run_on_disk(lambda: self._writer.write(data))

    def _wake_readers(self) -> None:
        self._lease.owner.wake_readers(self._lease.inode)

    def _is_unwanted(self) -> bool:
        """Return whether to stop, because enough has been fetched that nobody reads."""
        try:
            return self._watch.is_due and not self._watch.may_continue()
        except OSError as error:
            raise _DiskFailed from error

    def _run_on_disk(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            raise _DiskFailed from error

    def _release(self) -> None:
        with suppress(OSError):  # nobody else may write before our last write is done
            self._writer.flush()
        with suppress(OSError):  # the next fetcher finds what could not be removed
            self._lease.release()

    def _fail(self) -> None:
        with suppress(OSError):
            self._writer.flush()
            self._lease.fail(self._writer.length)

    def _finish(self) -> None:
        lead = self._lease
        is_complete = self._writer.length == lead.record.size
        if not is_complete or self._writer.hexdigest() != self._expected_hexdigest:
            fields = {"digest": str(lead.digest)}
            logger.error("Blob digest mismatch.", extra={"fields": fields})
            self._run_on_disk(lambda: lead.discard(FetchState.MISMATCHED))
            return
        self._record_verified()
        self._run_on_disk(lead.record_verified)
        self._adopt()

    def _adopt(self) -> None:
        lead = self._lease
        with suppress(OSError):
            if lead.run_on_thread(files.are_same_files, lead.files, lead.paths):
                blob = CompleteBlob(
                    path=lead.paths.data,
                    digest=lead.digest,
                    size=lead.record.size,
                )
                with suppress(OSError):
                    lead.options.adopt(blob)
            lead.run_on_thread(files.remove, lead.files, lead.paths)


class _ReaderWatch:
    """Checks from time to time whether anybody reads a fetch; bounds and charges unread bytes."""

    def __init__(self, lead: FetchLease, limit: int) -> None:
        self._lease = lead
        self._limit = limit
        self._payer: Payer | None = None
        self._account: FetchAccount | None = None
        self._open_account()
        self._slot: SharedFile | None = None
        self._step = min(_CHECK_SIZE, limit // 8)
        self._received = 0
        self._unread = 0
        self._checked_at = time.monotonic()

    def record_received(self, count: int) -> None:
        """Count bytes that have arrived since the last check."""
        self._received += count

    @property
    def is_due(self) -> bool:
        """Whether it is time for a check."""
        return self._received > self._step or time.monotonic() - self._checked_at > _CHECK_INTERVAL

    def may_continue(self) -> bool:
        """Check for readers, and return whether to fetch more; may raise OSError."""
        self._checked_at = time.monotonic()
        new_bytes = self._charge()
        if self._lease.has_readers:
            self._unread = 0
            self._release_slot()
            return True
        self._unread += new_bytes
        if self._unread > self._limit or not self._acquire_slot():
            return False
        return self._account is None or self._account.try_acquire()

    def close(self) -> None:
        """Charge the last bytes, and give back the slot and the account."""
        with suppress(OSError):
            self._charge()
        self._release_slot()
        if self._account is not None:
            self._account.settle()

    def _charge(self) -> int:
        """Charge the bytes since the last check unless another client reads; return their count."""
        new_bytes, self._received = self._received, 0
        self._open_account()
        if (
            self._payer is not None
            and self._account is not None
            and not self._lease.has_other_readers(self._payer.identity)
        ):
            self._account.charge(new_bytes)
        return new_bytes

    def _open_account(self) -> None:
        """Open an account if the payer has changed, and settle the earlier one."""
        payer = self._lease.payer
        if payer is self._payer or payer is None:
            return
        if self._account is not None:
            self._account.settle()
        self._payer, self._account = payer, payer.open_account(self._lease.digest)

    def _acquire_slot(self) -> bool:
        if self._slot is None:
            identity = self._payer.identity if self._payer else ""
            self._slot = self._lease.owner.unread_slots.try_acquire(identity)
        return self._slot is not None

    def _release_slot(self) -> None:
        if self._slot is not None:
            self._slot.close()
            self._slot = None
        if self._account is not None:
            self._account.release()
