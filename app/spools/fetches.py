"""All fetches of one registry: who fills, and who reads, in this process."""

import threading
import time
from errno import ESTALE, ETIMEDOUT
from pathlib import Path
from typing import Final

from app.oci.errors import ClientGone
from app.oci.reference import Digest
from app.source import Client, Payer
from app.spools import files
from app.spools.files import Files, Place
from app.spools.lead import Lead, Terms
from app.spools.shared import Growing, Spool
from app.spools.unread import Slots
from app.threads import RealThreads

_THREADS: Final = RealThreads(4)
_BETWEEN_TIDYING: Final = 3600.0
"""Seconds between two looks for what was left unfinished."""

_PATIENCE: Final = 60.0
"""Seconds that one waits for the answer to somebody else's question, and then asks for itself."""

_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
_TAKES_LONG: Final = 0.25
"""Seconds between two looks whether the client that waits has left."""


class Fetches:
    """The fetches below one directory, which all processes of a machine share.

    Never call anything here on a real thread. What is not said to raise OSError raises none.
    """

    def __init__(self, directory: Path, terms: Terms) -> None:
        self._directory = directory
        self._terms = terms
        self._lock = threading.Lock()
        self._growing: dict[int, Growing] = {}
        self._leads: dict[int, Lead] = {}
        self._tidied = float("-inf")
        self.failed = terms.failed
        # The bound is the machine's. Not beside the registries' directories: whoever names a
        # registry chooses the names there.
        self.unread_slots = Slots(directory.parent.parent / "unread")

    @staticmethod
    def takes(digest: Digest) -> bool:
        """Tell whether such a blob can be fetched for many: only what can be verified."""
        return digest.can_be_verified

    def running(self, digest: Digest) -> bool:
        """Tell whether somebody fetches a blob, or asks for it; raise OSError."""
        place = self._place(digest)
        here = any(lead.digest == digest for lead in list(self._leads.values()))
        return here or bool(_THREADS.begin(files.is_asked_for, place).result())

    def lead(self, digest: Digest) -> Lead | None:
        """Return the right to fetch a blob, or None while another has it; raise OSError."""
        if self._asking(digest) is not None:
            return None
        self._tidy_at_times()
        place = self._place(digest)
        opened, is_kept = _THREADS.begin(self._to_fill, digest, place).result()
        if opened is None:
            return None
        lead = Lead(
            digest=digest,
            place=place,
            opened=opened,
            terms=self._terms,
            owner=self,
            is_kept=is_kept,
        )
        self._leads[lead.inode] = lead
        return lead

    def join(self, digest: Digest, payer: Payer | None = None) -> Spool | None:
        """Return what is there of a blob, or None if there is nothing to read; raise OSError.

        `payer` is the client that reads.
        """
        reader = payer.identity if payer else ""
        opened: Files | None = _THREADS.begin(files.to_read, self._place(digest)).result()
        if opened is None:
            return None
        with self._lock:
            known = self._growing.get(opened.said.inode)
            growing = known or Growing(digest, opened)
            try:
                growing.add_reader(reader)
            except OSError:
                opened.close()
                raise
            self._growing[opened.said.inode] = growing
        if payer is not None and (lead := self._leads.get(opened.said.inode)) is not None:
            lead.is_read_by(payer)
        if known:
            opened.close()
        return Spool(growing, self, reader)

    def enter(
        self, digest: Digest, client: Client | None, payer: Payer | None = None
    ) -> Lead | Spool:
        """Return the right to fetch a blob, or what is there of it, after waiting for either.

        Raise OSError, also if neither comes, or ClientGone.
        """
        pause, waited = _FIRST_PAUSE, 0.0
        while waited < _PATIENCE:
            if (lead := self.lead(digest)) is not None:
                return lead
            if (spool := self.join(digest, payer)) is not None:
                return spool
            waited += self._wait(digest, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            if waited > _TAKES_LONG and client is not None and client.gone():
                raise ClientGone
        raise OSError(ETIMEDOUT, "the one who fetches has no answer")

    def tidy(self, idle: float | None = None) -> int:
        """Remove what was left unfinished so long ago, and return how many bytes that were."""
        idle = self._terms.idle if idle is None else idle
        removed: int = _THREADS.begin(self._remove, idle).result()
        return removed

    def leave(self, growing: Growing, reader: str) -> None:
        """Take back what `join` gave."""
        with self._lock:
            last = growing.remove_reader(reader)
            if last:
                del self._growing[growing.inode]
        if last:
            growing.close()

    def take_over(self, growing: Growing) -> Lead | None:
        """Return the right to go on with a fetch whose fetcher is dead; raise OSError."""
        if growing.inode in self._leads or not growing.seems_left():
            return None
        lead = self.lead(growing.digest)
        if lead is not None and lead.inode != growing.inode:
            lead.release()
            raise OSError(ESTALE, "what was fetched was removed")
        return lead

    def are_there(self, inode: int) -> bool:
        """Tell whether somebody reads here."""
        return inode in self._growing

    def wake(self, inode: int) -> None:
        """Let those who read here look again."""
        growing = self._growing.get(inode)
        if growing is not None:
            growing.changed()

    def make_room(self, size: int) -> None:
        """See to it that so many bytes fit; raise OSError."""
        try:
            self._terms.room(size)
        except OSError:
            if not self.tidy(0):
                raise
            self._terms.room(size)

    def has_ended(self, lead: Lead) -> None:
        """Know that somebody fetches no more."""
        if self._leads.get(lead.inode) is lead:
            del self._leads[lead.inode]

    def _to_fill(self, digest: Digest, place: Place) -> tuple[Files | None, bool]:
        opened = files.to_fill(place)
        return opened, opened is not None and self._terms.is_kept(digest)

    def _tidy_at_times(self) -> None:
        now = time.monotonic()
        if now - self._tidied >= _BETWEEN_TIDYING:
            self._tidied = now
            _THREADS.begin(self._remove, self._terms.idle)

    def _remove(self, idle: float) -> int:
        return files.tidy(self._directory, idle) + self._terms.tidy_others(idle)

    def _wait(self, digest: Digest, seconds: float) -> float:
        lead = self._asking(digest)
        begun = threading.Event() if lead is None else lead.begun
        begun.wait(seconds)
        return seconds

    def _asking(self, digest: Digest) -> Lead | None:
        """Return the one here who has no answer yet."""
        for lead in list(self._leads.values()):
            if lead.digest == digest and not lead.begun.is_set():
                return lead
        return None

    def _place(self, digest: Digest) -> Place:
        return Place.of(self._directory, digest)
