"""Limits for each user or address, checked after the login and before any registry is asked."""

from http import HTTPStatus
from typing import Final

from flask import Flask, Response, g

from app.access.limits import Allowance, ClientLimits, Transfer, Transfers
from app.access.shared_redis import SharedRedis
from app.routes.context import get_client, get_request
from app.routes.credentials import PAYER
from app.routes.relay import RelayedBody

_FREE: Final = frozenset({"health", "metrics", "drip", "page", "assets", "config"})
"""Blueprints without limits: they inspect this proxy or set up its clients, and ask no registry."""

_MANIFEST: Final = "repository.manifest"
_BLOB: Final = "repository.blob"
_BODIES: Final = frozenset({_MANIFEST, _BLOB})


def register(
    app: Flask, allowance: Allowance, redis_url: str | None, *, users_are_known: bool
) -> None:
    """Install the hooks that enforce an allowance, counted in Redis or, if None, in this process.

    A request beyond a limit fails with LimitReached.
    """
    redis = SharedRedis(redis_url) if redis_url else None
    limiting = _LimitHooks(ClientLimits(allowance, redis, users_are_known=users_are_known))
    app.before_request(limiting.charge_request)
    app.after_request(limiting.settle_on_close)
    app.teardown_request(limiting.refund)


class _LimitHooks:
    """The hooks that check limits before each request and count afterwards."""

    def __init__(self, limits: ClientLimits) -> None:
        self._limits = limits
        self._transfers = Transfers()

    def charge_request(self) -> None:
        """Charge the client for a request; raise LimitReached if it has reached a limit."""
        request = get_request()
        endpoint = request.endpoint
        is_body = endpoint in _BODIES
        if not is_body and request.blueprint in _FREE:
            return
        limits = self._limits
        who = limits.identify(get_client())
        limits.charge_request(who)
        if not is_body:
            return
        transfer = Transfer(limits, who)
        if request.method == "GET":
            if endpoint == _MANIFEST:
                transfer.begin_manifest()
            else:
                transfer.begin_blob((request.view_args or {})["digest"])
        # A HEAD has a payer too, because a rule about images may fetch a config for it.
        request.environ[PAYER] = transfer

    def settle_on_close(self, response: Response) -> Response:
        """Return the response, whose end settles what the client is charged for it."""
        request = get_request()
        transfer: Transfer | None = request.environ.pop(PAYER, None)
        if transfer is None or request.method != "GET":
            return response
        if response.status_code != HTTPStatus.OK:
            transfer.refund_pull()
        body: RelayedBody | None = g.get("body")
        if body is not None:
            transfer.count_sent = lambda: body.sent
        if request.endpoint == _MANIFEST:  # too short to be watched while it runs
            response.call_on_close(transfer.end)
            return response
        self._transfers.add(transfer)
        response.call_on_close(lambda: self._transfers.end(transfer))
        return response

    def refund(self, error: BaseException | None) -> None:
        """Give back what was charged for a request that ended before it had a response."""
        del error
        transfer: Transfer | None = get_request().environ.pop(PAYER, None)
        if transfer is not None:
            transfer.refund_pull()
            transfer.end()
