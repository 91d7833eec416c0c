"""The place that serves the bytes of a blob, if the registry redirects to one."""

import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress

from app.source import Place, PlaceExpired, PlaceForbidden, Reply
from app.transfer.partial_blob import PartialBlob


class KnownPlace:
    """Where a registry's redirects have led for a blob, so that further parts are asked for there.

    A digest identifies the bytes, and the place was told to somebody who may read them. So whoever
    may read them too may be served from there, in whichever worker.
    """

    def __init__(self, blob: PartialBlob) -> None:
        self._blob = blob
        self._place: Place | None = None
        self._is_registry = False
        self._renewal = threading.Lock()

    @property
    def is_known(self) -> bool:
        """Whether another place than the registry is asked."""
        return self._place is not None

    def remember(self, reply: Reply) -> None:
        """Ask the place that sent a reply from now on."""
        self._place, self._is_registry = reply.place, reply.place is None
        if reply.place is not None:
            with suppress(OSError):  # other workers then ask the registry
                self._blob.write_place(reply.place)

    def fetch(
        self, ask_place: Callable[[Place], Reply], ask_registry: Callable[[], Reply]
    ) -> Reply:
        """Return the answer of the place, or of the registry if it no longer serves the blob.

        If the registry redirects, one connection asks it for the new place, and the others wait for
        that. A client that may not read from the place asks the registry, which may send it
        elsewhere; the place stays for the others. Raise what the two functions raise, except
        PlaceExpired and PlaceForbidden.
        """
        try:
            return self._fetch(ask_place, ask_registry)
        except PlaceForbidden:
            return ask_registry()

    def _fetch(
        self, ask_place: Callable[[Place], Reply], ask_registry: Callable[[], Reply]
    ) -> Reply:
        if (reply := self._try_place(ask_place)) is not None:
            return reply
        with nullcontext() if self._is_registry else self._renewal:
            if (reply := self._try_place(ask_place)) is not None:
                return reply
            reply = ask_registry()
            if not reply.is_error:
                self.remember(reply)
            return reply

    def forget(self) -> None:
        """Ask the registry next time, since the place does not do its work.

        If another worker has been told another place meanwhile, ask that one.
        """
        expired, self._place = self._place, None
        with suppress(OSError):
            told = self._blob.read_place()
            if told == expired:
                self._blob.write_place(None)
            else:
                self._place = told

    def _try_place(self, ask_place: Callable[[Place], Reply]) -> Reply | None:
        place = self._place
        if place is None and not self._is_registry:
            with suppress(OSError):
                place = self._place = self._blob.read_place()
        if place is None:
            return None
        try:
            return ask_place(place)
        except PlaceExpired:
            if self._place == place:
                self.forget()
        return None
