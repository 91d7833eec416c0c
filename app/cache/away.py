"""A registry that is away, and what is served meanwhile."""

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from app.cache.callers import Caller
from app.cache.disk import Disk
from app.cache.lately import Lately
from app.content import Reply
from app.oci.errors import AccountRefused, RegistryError, TooManyRequests, UpstreamUnavailable

TOKENS_AWAY: Final = "token service away"
"""The kind of the note that no token can be had from a registry's token service."""

_PAUSE: Final = 10.0
"""Seconds after a failure in which what is public is served without asking again first."""

Stale = Callable[[int | None], Reply | None]
"""Gives what is kept and public, told what the registry answered, or None for nothing."""


class Away:
    """Asks, and if the registry cannot be asked, gives what is kept and public.

    Whoever waits for a registry that is away may wait for long, and a pull is many questions. So
    while it has just failed, one question in some seconds goes to it, and the others do not wait.
    """

    def __init__(self, registry: str, disk: Disk) -> None:
        self._registry = registry
        self._disk = disk
        self._until = Lately[float]()

    def ask(self, caller: Caller, name: str, question: Callable[[], Reply], stale: Stale) -> Reply:
        """Return the registry's answer, or what stands for it; raise RegistryError."""
        if self._is_known(name) and (kept := stale(None)):
            return kept
        try:
            reply = question()
        except RegistryError as error:
            if is_away(error):
                self._note("")  # it is the same for all its repositories
                if kept := stale(None):
                    return kept
            raise
        if is_trouble(reply.status):
            return self._instead(name, reply, stale)
        if caller.is_stale and reply.status == HTTPStatus.UNAUTHORIZED:
            return self._without_token(reply, stale)
        self._forget(name)
        return reply

    def _instead(self, name: str, reply: Reply, stale: Stale) -> Reply:
        if reply.status != HTTPStatus.TOO_MANY_REQUESTS:
            self._note(name)
        if kept := stale(reply.status):
            reply.close()
            return kept
        return reply

    def _without_token(self, reply: Reply, stale: Stale) -> Reply:
        """Return what stands for a 401 to somebody for whom no token can be had.

        The token that tells so is no secret, and it is not believed: the token service is.
        """
        status = self._tokens_away()
        if status is None:
            return reply
        reply.close()
        if kept := stale(int(status) if status.isdecimal() else None):
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
        """Tell whether the registry has just failed, and it is not time to ask again."""
        now = time.monotonic()
        for key in ("", name):
            until = self._until.get((key,))
            if until is None:
                continue
            if now < until:
                return True
            self._note(key)  # the others need not wait for this one's answer
        return False

    def _note(self, key: str) -> None:
        self._until.put((key,), time.monotonic() + _PAUSE)

    def _forget(self, name: str) -> None:
        for key in ("", name):
            self._until.forget((key,))


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
