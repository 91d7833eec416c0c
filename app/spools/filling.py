"""The bytes of a blob go into its file, and are verified on the way."""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final

from app.content import BodyBroken
from app.logs import request_id
from app.oci.errors import RegistryError
from app.spools import files
from app.spools.lead import Lead
from app.spools.record import State
from app.spools.resuming import Rest
from app.spools.terms import Whole
from app.spools.writing import Writer

logger = logging.getLogger(__name__)


_LOOK: Final = 256 * 1024
"""Bytes between two looks whether anybody waits for them, or an eighth of what may be unread."""


class _DiskFails(Exception):
    """The file takes no more."""


def fill(lead: Lead, rest: Rest, verified: Callable[[], None]) -> None:
    """Fetch on a thread of its own, from the lead's offset to the end; the lead ends with it.

    `verified` is called when all bytes are there and right, before anybody gets the last one.
    """
    filling, asked_by = Filling(lead, rest, verified), request_id.get()

    def run() -> None:
        request_id.set(asked_by)  # what goes wrong is told with the id of who came first
        filling.run()

    threading.Thread(target=run, name=f"spool {lead.digest}", daemon=True).start()


class Filling:
    """One fetch, from where it begins to its end, whichever that is."""

    def __init__(self, lead: Lead, rest: Rest, verified: Callable[[], None]) -> None:
        self._lead = lead
        self._rest = rest
        self._verified = verified
        self._algorithm, _, self._wanted = lead.digest.partition(":")
        # Those who wait are told of bytes that are there.
        self._writer = Writer(lead.files.data, self._algorithm, self._wake)
        self._unread = 0
        self._unlooked = 0

    def run(self) -> None:
        """Fetch; whatever happens, others can go on afterwards."""
        with ExitStack() as last, ExitStack() as unexpected:
            last.callback(self._release)
            last.callback(self._rest.close)
            # Counted too: readers would take over in turn, and fail, without end.
            unexpected.callback(self._break_off)
            self._fetch()
            unexpected.pop_all()

    def _fetch(self) -> None:
        try:
            if self._is_fetched():
                self._end()
        except _DiskFails as error:
            logger.warning(
                "A blob cannot be kept, and goes on without the cache. digest=%s reason=%s",
                self._lead.digest, error.__cause__,
            )  # fmt: skip
            with suppress(OSError):
                self._lead.discard(State.GIVEN_UP)
        except (OSError, RegistryError) as error:
            logger.warning(
                "A fetch broke off; another one goes on from there. digest=%s length=%s reason=%s",
                self._lead.digest, self._writer.length, error,
            )  # fmt: skip
            self._break_off()

    def _is_fetched(self) -> bool:
        """Tell whether all bytes have come; raise BodyBroken, or _DiskFails."""
        size = self._lead.said.size
        self._on_disk(lambda: self._writer.read_again(self._lead.offset))
        for data in self._rest.body:
            self._write(data)
            if self._writer.length > size:
                break
            if self._writer.length < size and self._is_unwanted(len(data)):
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

    def _is_unwanted(self, came: int) -> bool:
        """Tell whether enough was fetched that nobody waits for."""
        self._unlooked += came
        if self._unlooked <= min(_LOOK, self._lead.terms.unread_limit // 8):
            return False
        came, self._unlooked = self._unlooked, 0
        try:
            wanted = self._lead.is_wanted
        except OSError as error:
            raise _DiskFails from error
        self._unread = 0 if wanted else self._unread + came
        return self._unread > self._lead.terms.unread_limit

    def _on_disk(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            raise _DiskFails from error

    def _release(self) -> None:
        with suppress(OSError):  # nobody else writes before this one has done
            self._writer.wait()
        with suppress(OSError):  # what could not be removed is found by whoever comes next
            self._lead.release()

    def _break_off(self) -> None:
        with suppress(OSError):
            self._writer.wait()
            self._lead.break_off(self._writer.length)

    def _end(self) -> None:
        lead = self._lead
        whole = self._writer.length == lead.said.size
        if not whole or self._writer.hexdigest() != self._wanted:
            logger.error("A blob is not what its digest says. digest=%s", lead.digest)
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
