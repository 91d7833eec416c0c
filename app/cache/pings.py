"""Pings: a registry's answer to an anonymous `GET /v2/`, kept for when it is unreachable."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from app.cache import cache_status
from app.cache.authz import callers
from app.cache.authz.callers import Caller, CallerKind
from app.cache.authz.grants import BoundedMap
from app.cache.disk import DiskExecutor
from app.cache.stale import StaleIfError
from app.oci.challenge import Challenge
from app.oci.reference import Operation
from app.source import Reply, Request, Source, build_reply

_KIND: Final = "ping"

_REWRITE_INTERVAL: Final = 3600.0
"""Seconds in which an unchanged answer is not written again."""

_LASTING_STATUSES: Final = frozenset({HTTPStatus.OK, HTTPStatus.UNAUTHORIZED})


@dataclass(frozen=True, slots=True)
class PingCache:
    """Answers `GET /v2/`; in place of an unreachable registry, only to anonymous clients.

    A client without a token gets the registry's last answer. A client with an anonymous token gets
    200: some clients (udocker, regshape) ping with their token before they pull, and give up on any
    other status. Only the registry can confirm other credentials.
    """

    registry: str
    inner: Source
    disk: DiskExecutor
    stale_if_error: StaleIfError
    last_written: BoundedMap[tuple[str, float]]

    def serve_ping(self, caller: Caller, request: Request) -> Reply:
        """Return the answer to a ping.

        Raise RegistryError if the registry cannot be asked and nothing can replace its answer.
        """
        if caller.has_stale_placeholder or self._is_anonymous_token(caller):
            reply = self.stale_if_error.fetch_or_serve_stale(
                caller, "", request, self._ping, lambda _: _build_ok(), lasting=False
            )
        elif caller.kind is CallerKind.ANONYMOUS:
            reply = self.stale_if_error.fetch_or_serve_stale(
                caller, "", request, self._fetch, lambda _: self._lookup(), lasting=False
            )
        else:
            reply = self._ping(request)
        return cache_status.mark_reply(reply, [])

    def _is_anonymous_token(self, caller: Caller) -> bool:
        """Return whether the caller presents a valid anonymous token that Docxy gave out.

        Docxy recognizes it by the note made when it was given out, never by the token's own claims.
        """
        if caller.kind is not CallerKind.TOKEN or caller.lifetime <= 0:
            return False
        return (
            self.disk.read(callers.lookup_anonymous_token, self.disk.ledger, caller.name)
            is not None
        )

    def _ping(self, request: Request) -> Reply:
        return self.inner.answer(Operation.ping(), request)

    def _fetch(self, request: Request) -> Reply:
        reply = self._ping(request)
        if reply.status in _LASTING_STATUSES:
            self._record(reply)
        return reply

    def _record(self, reply: Reply) -> None:
        challenges = [
            {"scheme": challenge.scheme, **_format_parameters(challenge)}
            for challenge in reply.challenges
        ]
        value = json.dumps({"status": int(reply.status), "challenges": challenges})
        previous = self.last_written.get(("",))
        now = time.monotonic()
        if previous is not None and previous[0] == value and now - previous[1] < _REWRITE_INTERVAL:
            return
        if self.disk.write(
            self.disk.ledger.notes.record, _KIND, self.registry, value, _REWRITE_INTERVAL
        ):
            self.last_written.put(("",), (value, now))

    def _lookup(self) -> Reply | None:
        note = self.disk.read(self.disk.ledger.notes.lookup, _KIND, self.registry)
        return None if note is None else _parse_reply(note.value)


def _build_ok() -> Reply:
    return build_reply(HTTPStatus.OK, [("Content-Type", "application/json")], b"{}")


def _format_parameters(challenge: Challenge) -> dict[str, Any]:
    return {"parameters": dict(challenge.parameters)}


def _parse_reply(value: str) -> Reply | None:
    """Return the answer that was noted; None if the note cannot be read."""
    try:
        document = json.loads(value)
        status = int(document["status"])
        challenges = [_parse_challenge(challenge) for challenge in document["challenges"]]
    except (ValueError, KeyError, TypeError):
        return None
    reply = build_reply(status, [("Content-Type", "application/json")], b"{}")
    return replace(reply, challenges=challenges)


def _parse_challenge(document: Mapping[str, Any]) -> Challenge:
    parameters = {str(name): str(text) for name, text in document["parameters"].items()}
    return Challenge(str(document["scheme"]), parameters)
