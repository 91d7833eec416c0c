"""A registry that is away, and what is served meanwhile."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.cache.authz.callers import Caller
from app.cache.authz.grants import Lately
from app.cache.disk import Disk
from app.oci.errors import (
    AccountRefused,
    RegistryError,
    TooManyRequests,
    UpstreamDown,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnresolved,
)
from app.source import Reply, Request

logger = logging.getLogger(__name__)

TOKENS_AWAY: Final = "token service away"
"""The kind of the note that no token can be had from a registry's token service."""

_PAUSE: Final = 2.0
"""Seconds after a failure in which what is public is served without asking again."""

_PING_PAUSE: Final = 1.0
"""Seconds between two pings in the background that a breaker refuses."""

_PROBE: Final = 3.0
"""Seconds in which the outcome of a probe is waited for before there is another one."""

_LONG: Final = 30.0
"""Seconds after a pause in which nobody asks for anything: then nothing is known of a registry that
was silent, and the next client waits for its answer."""

Stale = Callable[[int | None], Reply | None]
"""Gives what is kept and public, told what the registry answered, or None for nothing."""


@dataclass(slots=True)
class _Outage:
    """A registry, or one of its repositories, that has failed.

    Nobody who can be served asks it before `next_probe`. `silent` is whether it gave no answer at
    all in time, so that a probe takes long.
    """

    next_probe: float
    silent: bool = False


class Away:
    """Asks, and if the registry cannot be asked, gives what is kept and public.

    Whoever waits for a registry that is away may wait for long, and a pull is many questions. Once
    it has failed, those who can be served are served without asking. After a pause one of their
    requests is the probe: where the registry refuses connections, that costs nothing, and the first
    client after an outage has what is new. Where it was silent, nobody is made to wait, and a ping
    behind their backs is the probe.
    """

    def __init__(self, registry: str, disk: Disk, reach: Callable[[], None]) -> None:
        """`reach` returns if the registry answers, and raises RegistryError if it does not."""
        self._registry = registry
        self._disk = disk
        self._reach = reach
        self._lock = threading.Lock()
        self._outages = Lately[_Outage]()

    def ask(  # noqa: PLR0913 - each by its name
        self,
        caller: Caller,
        name: str,
        request: Request,
        question: Callable[[Request], Reply],
        stale: Stale,
        *,
        lasting: bool = True,
    ) -> Reply:
        """Return the registry's answer, or what stands for it; raise RegistryError.

        What is not lasting may be another thing by now: a registry that answers, if only 5xx, is
        asked for it each time. `question` is given the request with what tells that it need not be
        asked for long.
        """
        with self._turn(name if lasting else "") as may_ask:
            if not may_ask and (kept := self._kept(stale, None)):
                return kept
            asked = replace(request, has_fallback=lambda: _is_there(stale))
            return self._asked(caller, name, lambda: question(asked), stale)

    def _asked(
        self, caller: Caller, name: str, question: Callable[[], Reply], stale: Stale
    ) -> Reply:
        try:
            reply = question()
        except RegistryError as error:
            self.learn(name, error)
            if is_away(error) and (kept := self._kept(stale, None)):
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
        outages = (self._outages.get((key,)) for key in ("", name))
        now = time.monotonic()
        return any(one is not None and now < one.next_probe + _LONG for one in outages)

    def learn(self, name: str, failure: RegistryError | int) -> None:
        """Note an error, or the status of an answer that is none, which no client was waiting for.

        What says nothing of the registry's state is ignored.
        """
        if isinstance(failure, RegistryError):
            if is_away(failure):
                self._note_error(name, failure)
        elif is_trouble(failure) and failure != HTTPStatus.TOO_MANY_REQUESTS:
            self._note(name)

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
            self._note_absence(error)

    def _note_absence(self, error: RegistryError) -> None:
        """Note that the registry is away, which is the same for all its repositories."""
        if isinstance(error, UpstreamDown):
            # Nobody was asked: the breaker refuses at once, and lets the next probe pass in time.
            known = self._outages.get(("",))
            silent = known is not None and known.silent
            self._note("", pause=_PING_PAUSE if silent else 0.0, silent=silent)
        else:
            self._note("", silent=isinstance(error, UpstreamTimeout | UpstreamUnresolved))

    def _instead(self, name: str, reply: Reply, stale: Stale) -> Reply:
        self.learn(name, reply.status)
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

    @contextmanager
    def _turn(self, name: str) -> Iterator[bool]:
        """Tell whether to ask: unless it has just failed, or somebody finds out if it is back."""
        may_ask, probed = self._take_turn(name)
        try:
            yield may_ask
        finally:
            _end_probe(probed)

    def _take_turn(self, name: str) -> tuple[bool, Sequence[_Outage]]:
        """Return whether to ask, and what the request is then the probe of."""
        now = time.monotonic()
        with self._lock:
            outages = [one for key in {"", name} if (one := self._outages.get((key,)))]
            if any(now < one.next_probe for one in outages):
                return False, ()
            silent = any(one.silent and now < one.next_probe + _LONG for one in outages)
            for one in outages:
                one.next_probe = now + _PROBE
        if silent:
            work = partial(self._find_out, outages)
            threading.Thread(target=work, name="probe", daemon=True).start()
            return False, ()
        return True, outages

    def _find_out(self, probed: Sequence[_Outage]) -> None:
        """Find out whether the registry is back, with nobody waiting for it."""
        try:
            self._reach()
            self._outages.forget(("",))
        except RegistryError as error:
            self._note_absence(error)
        finally:
            _end_probe(probed)

    def _note(self, key: str, *, pause: float = _PAUSE, silent: bool = False) -> None:
        self._outages.put((key,), _Outage(time.monotonic() + pause, silent))

    def _forget(self, name: str) -> None:
        for key in ("", name):
            self._outages.forget((key,))


def _end_probe(probed: Sequence[_Outage]) -> None:
    """Let somebody else ask at once where a probe did not tell: what it told is noted anew."""
    for outage in probed:
        outage.next_probe = time.monotonic()


def _is_there(stale: Stale) -> bool:
    """Tell whether there is something to give in place of the registry's answer."""
    reply = stale(None)
    if reply is not None:
        reply.close()
    return reply is not None


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
    """Tell whether an answer is none: 429, 5xx.

    501 is one: the registry does not know the method (RFC 9110, section 15.6.2), as some do not
    know HEAD, and answers another one.
    """
    if status == HTTPStatus.NOT_IMPLEMENTED:
        return False
    too_many = status == HTTPStatus.TOO_MANY_REQUESTS
    return too_many or status >= HTTPStatus.INTERNAL_SERVER_ERROR
