"""The bytes of a blob go into its file, and are verified on the way."""

import hashlib
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from app.content import BodyBroken
from app.oci.errors import RegistryError
from app.offloop import Pending, RealThreads
from app.spools import files
from app.spools.lead import Lead
from app.spools.record import State
from app.spools.resuming import Rest
from app.spools.shared_file import SharedFile, put
from app.spools.terms import Whole

logger = logging.getLogger(__name__)

_AGAIN: Final = 1024 * 1024
"""Bytes that are read again at once, of what an earlier fetch has left."""

_THREADS: Final = RealThreads(4)


class _DiskFails(Exception):
    """The file takes no more."""


def fill(lead: Lead, rest: Rest, verified: Callable[[], None]) -> None:
    """Fetch on a thread of its own, from the lead's offset to the end; the lead ends with it.

    `verified` is called when all bytes are there and right, before anybody gets the last one.
    """
    filling = Filling(lead, rest, verified)
    threading.Thread(target=filling.run, name=f"spool {lead.digest}", daemon=True).start()


class Writer:
    """Writes and hashes, on real threads: one piece while the next one comes."""

    def __init__(self, file: SharedFile, algorithm: str) -> None:
        self._file = file
        self._hash = hashlib.new(algorithm)
        self._pending: Pending | None = None
        self.length = 0

    def read_again(self, length: int) -> None:
        """Hash what is there already; raise OSError."""
        while self.length < length:
            count = min(_AGAIN, length - self.length)
            self.length += _THREADS.begin(self._hash_again, count, self.length).result()

    def write(self, data: bytes) -> None:
        """Begin to write what comes next, after waiting for what came before; raise OSError."""
        self.wait()
        self._pending = _THREADS.begin(self._write, data, self.length)
        self.length += len(data)

    def wait(self) -> None:
        """Wait until all is written; raise OSError."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def hexdigest(self) -> str:
        """Return the digest of all of it."""
        return self._hash.hexdigest()

    def _write(self, data: bytes, offset: int) -> None:
        put(self._file, data, offset)
        self._hash.update(data)

    def _hash_again(self, count: int, offset: int) -> int:
        data = self._file.pread(count, offset)
        if not data:
            message = "the file has become shorter"
            raise OSError(message)
        self._hash.update(data)
        return len(data)


class Filling:
    """One fetch, from where it begins to its end, whichever that is."""

    def __init__(self, lead: Lead, rest: Rest, verified: Callable[[], None]) -> None:
        self._lead = lead
        self._rest = rest
        self._verified = verified
        self._algorithm, _, self._wanted = lead.digest.partition(":")
        self._writer = Writer(lead.files.data, self._algorithm)
        self._unread = 0

    def run(self) -> None:
        """Fetch; whatever happens, others can go on afterwards."""
        try:
            self._fetch()
        finally:
            self._rest.close()
            with suppress(OSError):  # nobody else writes before this one has done
                self._writer.wait()
            with suppress(OSError):  # what could not be removed is found by whoever comes next
                self._lead.release()

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
        # What came before is there now; of this piece, those who wait find out by themselves.
        self._lead.owner.wake(self._lead.inode)

    def _is_unwanted(self, came: int) -> bool:
        """Tell whether enough was fetched that nobody waits for."""
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
