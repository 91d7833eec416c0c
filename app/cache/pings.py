"""What a registry says to nobody, remembered for the time that it is away."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from app.cache import cache_status
from app.cache.authz import callers
from app.cache.authz.callers import Caller, Kind
from app.cache.authz.grants import Lately
from app.cache.disk import Disk
from app.cache.stale import Away
from app.oci.challenge import Challenge
from app.source import Reply, Request, Source, replied

_KIND: Final = "ping"

_YOUNG: Final = 3600.0
"""Seconds in which the same is not written again."""

_LASTING: Final = frozenset({HTTPStatus.OK, HTTPStatus.UNAUTHORIZED})


@dataclass(frozen=True, slots=True)
class Pings:
    """Answers `GET /v2/`; while the registry is away, as it would answer nobody in particular.

    Without a token that is what it has answered before. A token that everybody gets is good: some
    clients (udocker, regshape) ask so before they pull, and give up on anything but 200. A login
    is nobody's to confirm but the registry's.
    """

    registry: str
    inner: Source
    disk: Disk
    away: Away
    written: Lately[tuple[str, float]]

    def ping(self, caller: Caller, request: Request) -> Reply:
        """Answer a ping; raise RegistryError."""
        if caller.is_stale or self._is_everybodys(caller):
            reply = self.away.ask(
                caller, "", request, self.inner.ping, lambda _: _welcome(), lasting=False
            )
        elif caller.kind is Kind.NOBODY:
            reply = self.away.ask(
                caller, "", request, self._asked, lambda _: self._kept(), lasting=False
            )
        else:
            reply = self.inner.ping(request)
        return cache_status.marked(reply, [])

    def _is_everybodys(self, caller: Caller) -> bool:
        """Tell whether a caller shows a token that was given out here to nobody, and still lives.

        A token is known by a note that is made when it is given out: nothing that it says of itself
        is believed.
        """
        if caller.kind is not Kind.TOKEN or caller.lifetime <= 0:
            return False
        return self.disk.read(callers.find, self.disk.store, caller.name) is not None

    def _asked(self, request: Request) -> Reply:
        reply = self.inner.ping(request)
        if reply.status in _LASTING:
            self._note(reply)
        return reply

    def _note(self, reply: Reply) -> None:
        told = [{"scheme": one.scheme, **_parameters(one)} for one in reply.challenges]
        value = json.dumps({"status": int(reply.status), "challenges": told})
        last = self.written.get(("",))
        now = time.monotonic()
        if last is not None and last[0] == value and now - last[1] < _YOUNG:
            return
        if self.disk.write(self.disk.store.notes.note, _KIND, self.registry, value, _YOUNG):
            self.written.put(("",), (value, now))

    def _kept(self) -> Reply | None:
        note = self.disk.read(self.disk.store.notes.noted, _KIND, self.registry)
        return None if note is None else _read(note.value)


def _welcome() -> Reply:
    return replied(HTTPStatus.OK, [("Content-Type", "application/json")], b"{}")


def _parameters(challenge: Challenge) -> dict[str, Any]:
    return {"parameters": dict(challenge.parameters)}


def _read(value: str) -> Reply | None:
    """Return the answer that was noted, or None for what nobody has noted so."""
    try:
        document = json.loads(value)
        status = int(document["status"])
        challenges = [_challenge(one) for one in document["challenges"]]
    except (ValueError, KeyError, TypeError):
        return None
    reply = replied(status, [("Content-Type", "application/json")], b"{}")
    return replace(reply, challenges=challenges)


def _challenge(written: Mapping[str, Any]) -> Challenge:
    parameters = {str(name): str(text) for name, text in written["parameters"].items()}
    return Challenge(str(written["scheme"]), parameters)
