"""Pings: a registry's answer to an anonymous `GET /v2/`, kept for when it is unreachable."""

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
"""Seconds in which an unchanged answer is not written again."""

_LASTING: Final = frozenset({HTTPStatus.OK, HTTPStatus.UNAUTHORIZED})


@dataclass(frozen=True, slots=True)
class Pings:
    """Answers `GET /v2/`, when the registry is unreachable as it would answer an anonymous client.

    A client without a token gets the registry's last answer. A client with an anonymous token gets
    200: some clients (udocker, regshape) ping with their token before they pull, and give up on any
    other status. Only the registry can confirm other credentials.
    """

    registry: str
    inner: Source
    disk: Disk
    away: Away
    written: Lately[tuple[str, float]]

    def ping(self, caller: Caller, request: Request) -> Reply:
        """Return the answer to a ping.

        Raise RegistryError if the registry cannot be asked and nothing can replace its answer.
        """
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
        """Return whether the caller presents a valid anonymous token that Docxy gave out.

        Docxy recognizes it by the note made when it was given out, never by the token's own claims.
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
    """Return the answer that was noted; None if the note cannot be read."""
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
