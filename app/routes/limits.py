"""How much each may ask: decided after who it is, before any view, and so before any registry."""

from http import HTTPStatus
from typing import Final

from flask import Flask, Response, g

from app.access.limits import Allowance, Limits, Transfer, Transfers
from app.access.shared_redis import SharedRedis
from app.routes.context import client, present
from app.routes.credentials import PAYER
from app.routes.relay import RelayedBody

_FREE: Final = frozenset({"health", "metrics", "drip", "page", "assets", "config"})
"""Blueprints that ask no registry, and that look at this proxy or set up its clients."""

_MANIFEST: Final = "repository.manifest"
_BLOB: Final = "repository.blob"
_BODIES: Final = frozenset({_MANIFEST, _BLOB})


def register(
    app: Flask, allowance: Allowance, redis_url: str | None, *, users_are_known: bool
) -> None:
    """Let each have what an allowance says, counted here or in a Redis."""
    redis = SharedRedis(redis_url) if redis_url else None
    limiting = _Limiting(Limits(allowance, redis, users_are_known=users_are_known))
    app.before_request(limiting.allow)
    app.after_request(limiting.count)
    app.teardown_request(limiting.forget)


class _Limiting:
    """What is done before and after each request."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._transfers = Transfers()

    def allow(self) -> None:
        """Let a request go on, or raise LimitReached."""
        request = present()
        endpoint = request.endpoint
        is_body = endpoint in _BODIES
        if not is_body and request.blueprint in _FREE:
            return
        limits = self._limits
        who = limits.whose(client())
        limits.request(who)
        if not is_body:
            return
        transfer = Transfer(limits, who)
        if request.method == "GET":
            if endpoint == _MANIFEST:
                transfer.begin_manifest()
            else:
                transfer.begin_blob((request.view_args or {})["digest"])
        # A HEAD pays, too: a rule about images has the config fetched for it.
        request.environ[PAYER] = transfer

    def count(self, response: Response) -> Response:
        """Count what is answered, and what of it goes to the client."""
        request = present()
        transfer: Transfer | None = request.environ.pop(PAYER, None)
        if transfer is None or request.method != "GET":
            return response
        if response.status_code != HTTPStatus.OK:
            transfer.fails()
        body: RelayedBody | None = g.get("body")
        if body is not None:
            transfer.sent = lambda: body.sent
        if request.endpoint == _MANIFEST:  # it is over at once
            response.call_on_close(transfer.end)
            return response
        self._transfers.add(transfer)
        response.call_on_close(lambda: self._transfers.end(transfer))
        return response

    def forget(self, error: BaseException | None) -> None:
        """Give back what a request has had that is cut before it has an answer."""
        del error
        transfer: Transfer | None = present().environ.pop(PAYER, None)
        if transfer is not None:
            transfer.fails()
            transfer.end()
