"""Fills a spool: writes the bytes of a blob to its file, and verifies them on the way."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from typing import Final

from app.logs import request_id
from app.oci.errors import RegistryError
from app.source import BodyBroken, FetchAccount, Payer
from app.spools import files
from app.spools.lead import Lead, Whole
from app.spools.record import State
from app.spools.resuming import Ask, Rest
from app.spools.shared_file import SharedFile
from app.spools.writing import Writer

logger = logging.getLogger(__name__)


_LOOK: Final = 256 * 1024
"""Bytes between two checks whether anybody still reads. An eighth of the unread limit applies
instead if that is less."""

_LONG: Final = 10.0
"""Seconds after which the next bytes cause a check, however few they are."""


class _DiskFails(Exception):
    """The spool's file could not be read or written; the OSError is the cause."""


def fill(lead: Lead, rest: Rest, ask: Ask, *, whole: bool) -> None:
    """Start a thread that fetches from the lead's offset to the end and then releases the lead.

    `ask` belongs to the client that began the fetch. Its `payer` pays for bytes that nobody else
    reads. Its `verified` is called when all bytes have been verified, before any reader gets the
    last one. `whole` says whether the client wants the whole blob.
    """
    filling, asked_by = Filling(lead, rest, ask, whole=whole), request_id.get()

    def run() -> None:
        request_id.set(asked_by)  # log errors with the id of the request that began the fetch
        filling.run()

    threading.Thread(target=run, name=f"spool {lead.digest}", daemon=True).start()


class Filling:
    """One fetch, from the lead's offset until it is complete, fails, or is no longer wanted."""

    def __init__(self, lead: Lead, rest: Rest, ask: Ask, *, whole: bool) -> None:
        self._lead = lead
        self._rest = rest
        self._verified = ask.verified
        self._algorithm, _, self._wanted = lead.digest.partition(":")
        # Wake readers only for bytes that have been written.
        self._writer = Writer(lead.files.data, self._algorithm, self._wake)
        limits = lead.terms.unread
        lead.payer = ask.payer
        self._watch = _Watch(lead, limits.whole if whole else limits.part)

    def run(self) -> None:
        """Fetch, and release the lead whatever happens, so that others can continue."""
        with ExitStack() as last, ExitStack() as unexpected:
            last.callback(self._release)
            last.callback(self._rest.close)
            # Count unexpected errors as failures too. Otherwise readers would take over and fail
            # in turn without end.
            unexpected.callback(self._break_off)
            self._fetch()
            unexpected.pop_all()

    def _fetch(self) -> None:
        try:
            with closing(self._watch):
                is_fetched = self._is_fetched()
            if is_fetched:
                self._end()
        except _DiskFails as error:
            if isinstance(error.__cause__, OSError):
                self._lead.terms.failed(error.__cause__)
            fields = {"digest": str(self._lead.digest), "error": str(error.__cause__)}
            logger.warning(
                "A blob cannot be kept, and goes on without the cache.", extra={"fields": fields}
            )
            with suppress(OSError):
                self._lead.discard(State.GIVEN_UP)
        except (OSError, RegistryError) as error:
            told = {
                "digest": str(self._lead.digest),
                "offset": self._writer.length,
                "error": str(error),
            }
            logger.warning(
                "A fetch broke off; another one goes on from there.", extra={"fields": told}
            )
            self._break_off()

    def _is_fetched(self) -> bool:
        """Fetch, and return whether all bytes arrived; False means that nobody wants the rest.

        Raise BodyBroken if the registry sends too little, and _DiskFails if the file fails.
        """
        size = self._lead.said.size
        self._on_disk(lambda: self._writer.read_again(self._lead.offset))
        skip = self._rest.skip
        for data in self._rest.body:
            if len(data) > skip:
                self._write(data[skip:])
            skip = max(0, skip - len(data))
            self._watch.came(len(data))
            if self._writer.length > size:
                break
            if self._writer.length < size and self._is_unwanted():
                self._on_disk(self._writer.wait)
                return False
        self._on_disk(self._writer.wait)
        if self._writer.length < size:
            message = "the registry sent too little"
            raise BodyBroken(message)
        return True

    def _write(self, data: bytes) -> None:
        self._on_disk(lambda: self._writer.write(data))

    def _wake(self) -> None:
        self._lead.owner.wake(self._lead.inode)

    def _is_unwanted(self) -> bool:
        """Return whether to stop, because enough has been fetched that nobody reads."""
        try:
            return self._watch.is_due and not self._watch.allows()
        except OSError as error:
            raise _DiskFails from error

    def _on_disk(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            raise _DiskFails from error

    def _release(self) -> None:
        with suppress(OSError):  # nobody else may write before our last write is done
            self._writer.wait()
        with suppress(OSError):  # the next fetcher finds what could not be removed
            self._lead.release()

    def _break_off(self) -> None:
        with suppress(OSError):
            self._writer.wait()
            self._lead.break_off(self._writer.length)

    def _end(self) -> None:
        lead = self._lead
        whole = self._writer.length == lead.said.size
        if not whole or self._writer.hexdigest() != self._wanted:
            fields = {"digest": str(lead.digest)}
            logger.error("A blob is not what its digest says.", extra={"fields": fields})
            self._on_disk(lambda: lead.discard(State.WRONG))
            return
        self._verified()
        self._on_disk(lead.verified)
        self._keep()

    def _keep(self) -> None:
        lead = self._lead
        with suppress(OSError):
            if lead.off_loop(files.are_at, lead.files, lead.place):
                whole = Whole(
                    path=lead.place.data,
                    digest=lead.digest,
                    size=lead.said.size,
                )
                with suppress(OSError):
                    lead.terms.keep(whole)
            lead.off_loop(files.remove, lead.files, lead.place)


class _Watch:
    """Checks from time to time whether anybody reads a fetch; bounds and charges unread bytes."""

    def __init__(self, lead: Lead, limit: int) -> None:
        self._lead = lead
        self._limit = limit
        self._payer: Payer | None = None
        self._account: FetchAccount | None = None
        self._open_account()
        self._slot: SharedFile | None = None
        self._step = min(_LOOK, limit // 8)
        self._came = 0
        self._unread = 0
        self._looked = time.monotonic()

    def came(self, count: int) -> None:
        """Count bytes that have arrived since the last check."""
        self._came += count

    @property
    def is_due(self) -> bool:
        """Whether it is time for a check."""
        return self._came > self._step or time.monotonic() - self._looked > _LONG

    def allows(self) -> bool:
        """Check for readers, and return whether to fetch more; raise OSError."""
        self._looked = time.monotonic()
        came = self._charge()
        if self._lead.is_wanted:
            self._unread = 0
            self._give_back()
            return True
        self._unread += came
        if self._unread > self._limit or not self._has_slot():
            return False
        return self._account is None or self._account.go_on_unread()

    def close(self) -> None:
        """Charge the last bytes, and give back the slot and the account."""
        with suppress(OSError):
            self._charge()
        self._give_back()
        if self._account is not None:
            self._account.end()

    def _charge(self) -> int:
        """Charge the bytes since the last check unless another client reads; return their count."""
        came, self._came = self._came, 0
        self._open_account()
        if (
            self._payer is not None
            and self._account is not None
            and not self._lead.is_wanted_by_others(self._payer.identity)
        ):
            self._account.received(came)
        return came

    def _open_account(self) -> None:
        """Open an account if the payer has changed, and settle the earlier one."""
        payer = self._lead.payer
        if payer is self._payer or payer is None:
            return
        if self._account is not None:
            self._account.end()
        self._payer, self._account = payer, payer.begin_fetch(self._lead.digest)

    def _has_slot(self) -> bool:
        if self._slot is None:
            identity = self._payer.identity if self._payer else ""
            self._slot = self._lead.owner.unread_slots.take(identity)
        return self._slot is not None

    def _give_back(self) -> None:
        if self._slot is not None:
            self._slot.close()
            self._slot = None
        if self._account is not None:
            self._account.release()
