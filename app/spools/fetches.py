"""The fetches of one registry: a client leads one, or joins one that is running."""

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
"""Seconds between two searches for unfinished fetches to remove."""

_PATIENCE: Final = 60.0
"""Seconds that a client waits for the registry's answer to another client's request. After that it
asks the registry itself."""

_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
"""Seconds between two attempts to lead or join a fetch; each pause is twice the one before."""
_TAKES_LONG: Final = 0.25
"""Seconds of waiting after which each attempt also checks whether the client has left."""


class Fetches:
    """The fetches in one directory, which all processes of a machine share.

    Never call a method on a real thread. A method raises OSError only if its docstring says so.
    """

    def __init__(self, directory: Path, terms: Terms) -> None:
        self._directory = directory
        self._terms = terms
        self._lock = threading.Lock()
        self._growing: dict[int, Growing] = {}
        self._leads: dict[int, Lead] = {}
        self._tidied = float("-inf")
        self.failed = terms.failed
        # The bound is for the whole machine. The file is not beside the registries' directories,
        # because whoever names a registry chooses the names there.
        self.unread_slots = Slots(directory.parent.parent / "unread")

    @staticmethod
    def takes(digest: Digest) -> bool:
        """Return whether a blob can be fetched for many readers: its digest must be verifiable."""
        return digest.can_be_verified

    def running(self, digest: Digest) -> bool:
        """Return whether any process is fetching a blob or waiting for the registry's answer.

        Raise OSError.
        """
        place = self._place(digest)
        here = any(lead.digest == digest for lead in list(self._leads.values()))
        return here or bool(_THREADS.begin(files.is_asked_for, place).result())

    def lead(self, digest: Digest) -> Lead | None:
        """Return the right to fetch a blob, or None if somebody else has it; raise OSError."""
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
        """Return the spool of a blob, or None if there is nothing to read; raise OSError.

        `payer` is the client that reads. The caller closes the spool.
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
        """Wait until a blob can be fetched or read, and return the lead or the spool.

        Raise ClientGone if the client leaves meanwhile. Raise OSError if a file fails, or with
        ETIMEDOUT if neither is possible within 60 seconds.
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
        """Remove unfinished fetches that have been idle for so long; return the bytes freed.

        `idle` is in seconds; None means the `idle` of the terms.
        """
        idle = self._terms.idle if idle is None else idle
        removed: int = _THREADS.begin(self._remove, idle).result()
        return removed

    def leave(self, growing: Growing, reader: str) -> None:
        """End a reader that `join` has admitted; close the files after the last one."""
        with self._lock:
            last = growing.remove_reader(reader)
            if last:
                del self._growing[growing.inode]
        if last:
            growing.close()

    def take_over(self, growing: Growing) -> Lead | None:
        """Return the right to continue a fetch whose fetcher has died.

        Return None if somebody still fetches it. Raise OSError, with ESTALE if the fetch has been
        removed.
        """
        if growing.inode in self._leads or not growing.seems_left():
            return None
        lead = self.lead(growing.digest)
        if lead is not None and lead.inode != growing.inode:
            lead.release()
            raise OSError(ESTALE, "what was fetched was removed")
        return lead

    def are_there(self, inode: int) -> bool:
        """Return whether any client of this process reads a fetch."""
        return inode in self._growing

    def wake(self, inode: int) -> None:
        """Wake this process's readers of a fetch, so that they look at it again."""
        growing = self._growing.get(inode)
        if growing is not None:
            growing.changed()

    def make_room(self, size: int) -> None:
        """Make room for `size` bytes, if need be by removing unfinished fetches; raise OSError."""
        try:
            self._terms.room(size)
        except OSError:
            if not self.tidy(0):
                raise
            self._terms.room(size)

    def has_ended(self, lead: Lead) -> None:
        """Forget a lead that has been released."""
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
        """Return this process's lead that still waits for the registry's answer, or None."""
        for lead in list(self._leads.values()):
            if lead.digest == digest and not lead.begun.is_set():
                return lead
        return None

    def _place(self, digest: Digest) -> Place:
        return Place.of(self._directory, digest)
