"""A registry that is away, and what is served meanwhile."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from app.cache.callers import Caller
from app.cache.disk import Disk
from app.cache.lately import Lately
from app.content import Reply
from app.oci.errors import (
    AccountRefused,
    RegistryError,
    TooManyRequests,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)

logger = logging.getLogger(__name__)

TOKENS_AWAY: Final = "token service away"
"""The kind of the note that no token can be had from a registry's token service."""

_PAUSE: Final = 2.0
"""Seconds after a failure in which what is public is served without asking again."""

_LONG: Final = 30.0
"""Seconds after the first of these in which nobody asks for anything: then nothing is known."""

Stale = Callable[[int | None], Reply | None]
"""Gives what is kept and public, told what the registry answered, or None for nothing."""


class Away:
    """Asks, and if the registry cannot be asked, gives what is kept and public.

    Whoever waits for a registry that is away may wait for long, and a pull is many questions. So
    nobody waits who can be served, once it has failed: whether it is back is tried meanwhile.
    """

    def __init__(self, registry: str, disk: Disk, reach: Callable[[], None]) -> None:
        """`reach` returns if the registry answers, and raises RegistryError if it does not."""
        self._registry = registry
        self._disk = disk
        self._reach = reach
        self._trying = False
        self._until = Lately[float]()

    def ask(
        self,
        caller: Caller,
        name: str,
        question: Callable[[], Reply],
        stale: Stale,
        *,
        lasting: bool = True,
    ) -> Reply:
        """Return the registry's answer, or what stands for it; raise RegistryError.

        What is not lasting may be another thing by now: a registry that answers, if only 5xx, is
        asked for it each time.
        """
        if self._is_known(name if lasting else "") and (kept := self._kept(stale, None)):
            return kept
        try:
            reply = question()
        except RegistryError as error:
            if is_away(error):
                self._note_error(name, error)
                if kept := self._kept(stale, None):
                    return kept
            raise
        if is_trouble(reply.status):
            return self._instead(name, reply, stale)
        if caller.is_stale and reply.status == HTTPStatus.UNAUTHORIZED:
            return self._without_token(reply, stale)
        self._forget(name)
        return reply

    def is_known(self, name: str) -> bool:
        """Tell whether the registry has just failed, for all or for one repository."""
        now = time.monotonic()
        for_all, for_one = self._until.get(("",)), self._until.get((name,))
        return (for_all is not None and now < for_all + _LONG) or (
            for_one is not None and now < for_one
        )

    def _kept(self, stale: Stale, status: int | None) -> Reply | None:
        """Return what is kept, and tell that it stands for the registry's answer."""
        reply = stale(status)
        if reply is not None:
            fields = {"registry": self._registry} | ({"status": status} if status else {})
            logger.warning("What is kept is served.", extra={"fields": fields})
        return reply

    def _note_error(self, name: str, error: RegistryError) -> None:
        if isinstance(error, UpstreamMisbehaved):
            self._note(name)  # of others nothing is known
        elif not isinstance(error, TooManyRequests):
            self._note("")  # it is the same for all its repositories

    def _instead(self, name: str, reply: Reply, stale: Stale) -> Reply:
        if reply.status != HTTPStatus.TOO_MANY_REQUESTS:
            self._note(name)
        if kept := self._kept(stale, reply.status):
            reply.close()
            return kept
        return _refusal(reply)

    def _without_token(self, reply: Reply, stale: Stale) -> Reply:
        """Return what stands for a 401 to somebody for whom no token can be had.

        The token that tells so is no secret, and it is not believed: the token service is.
        """
        status = self._tokens_away()
        if status is None:
            return reply
        reply.close()
        if kept := self._kept(stale, int(status) if status.isdecimal() else None):
            return kept
        if status == str(int(HTTPStatus.TOO_MANY_REQUESTS)):
            raise TooManyRequests
        message = "the registry's token service does not answer"
        raise UpstreamUnavailable(message)

    def _tokens_away(self) -> str | None:
        """Return what the token service has answered lately in place of a token; None: nothing."""
        note = self._disk.read(self._disk.store.notes.noted, TOKENS_AWAY, self._registry)
        return note.value if note is not None and note.left > 0 else None

    def _is_known(self, name: str) -> bool:
        """Tell whether the registry has just failed."""
        now = time.monotonic()
        for_all, for_one = self._until.get(("",)), self._until.get((name,))
        if for_all is not None and (self._trying or now < for_all + _LONG):
            if now >= for_all and not self._trying:
                self._trying = True
                threading.Thread(target=self._try, daemon=True).start()
            return True
        return for_one is not None and now < for_one

    def _try(self) -> None:
        """Find out whether the registry is back, with nobody waiting for it."""
        try:
            self._reach()
            self._until.forget(("",))
        except RegistryError:
            self._note("")
        finally:
            self._trying = False

    def _note(self, key: str) -> None:
        self._until.put((key,), time.monotonic() + _PAUSE)

    def _forget(self, name: str) -> None:
        for key in ("", name):
            self._until.forget((key,))


def _refusal(reply: Reply) -> Reply:
    """Return 503 in place of another 5xx, of which clients try some once more and others not."""
    if reply.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        return reply
    return replace(reply, status=HTTPStatus.SERVICE_UNAVAILABLE)


def is_away(error: RegistryError) -> bool:
    """Tell whether an error says that the registry cannot be asked now, whoever asks."""
    if isinstance(error, AccountRefused):
        return False
    failed = error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return failed or isinstance(error, TooManyRequests)


def is_trouble(status: int) -> bool:
    """Tell whether an answer is none: 429, 5xx."""
    too_many = status == HTTPStatus.TOO_MANY_REQUESTS
    return too_many or status >= HTTPStatus.INTERNAL_SERVER_ERROR
