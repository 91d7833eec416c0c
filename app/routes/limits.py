"""Limits for each user or address, checked after the login and before any registry is asked."""

from http import HTTPStatus
from typing import Final

from flask import Flask, Response

from app.access.downloads import Allowance
from app.access.limits import ClientLimits, Transfer, Transfers
from app.access.shared_redis import SharedRedis
from app.oci.reference import Kind
from app.routes.context import RequestContext, get_context

_UNLIMITED_BLUEPRINTS: Final = frozenset({"health", "metrics", "drip", "page", "assets", "config"})
"""Blueprints without limits: they inspect this proxy or set up its clients, and ask no registry."""

_CHARGED_KINDS: Final = frozenset({Kind.MANIFEST, Kind.BLOB})


def register(
    app: Flask, allowance: Allowance, redis_url: str | None, *, users_are_known: bool
) -> None:
    """Install the hooks that enforce an allowance, counted in Redis or, if None, in this process.

    A request beyond a limit fails with LimitReached.
    """
    redis = SharedRedis(redis_url) if redis_url else None
    hooks = _LimitHooks(ClientLimits(allowance, redis, users_are_known=users_are_known))
    app.before_request(hooks.charge_request)
    app.after_request(hooks.settle)


class _LimitHooks:
    """The hooks that check limits before each request and count afterwards."""

    def __init__(self, limits: ClientLimits) -> None:
        self._limits = limits
        self._transfers = Transfers()

    def charge_request(self) -> None:
        """Charge the client for a request; raise LimitReached if it has reached a limit."""
        context = get_context()
        request, operation = context.request, context.operation
        if operation is None and request.blueprint in _UNLIMITED_BLUEPRINTS:
            return
        limits = self._limits
        identity = limits.identify(context.client)
        limits.charge_request(identity)
        if operation is None or operation.kind not in _CHARGED_KINDS:
            return
        transfer = Transfer(limits, identity)
        if request.method == "GET":
            if operation.kind is Kind.MANIFEST:
                transfer.begin_manifest()
            else:
                transfer.begin_blob(str(operation.reference))
        # A HEAD has a payer too, because a rule about images may fetch a config for it.
        context.payer = transfer
        context.at_end.callback(self._end, context, transfer)

    def settle(self, response: Response) -> Response:
        """Return the response, after settling what the client is charged for it so far."""
        context = get_context()
        transfer = context.payer
        if not isinstance(transfer, Transfer) or context.request.method != "GET":
            return response
        if response.status_code != HTTPStatus.OK:
            transfer.refund_pull()
        if (body := context.body) is not None:
            transfer.count_sent = lambda: body.sent
        operation = context.operation
        if operation is not None and operation.kind is Kind.BLOB:  # a manifest is too short
            self._transfers.add(transfer)
        return response

    def _end(self, context: RequestContext, transfer: Transfer) -> None:
        """End a transfer, and give back what was charged if the request ended without a response.

        The fetches that a HEAD has caused settle their accounts themselves.
        """
        if context.response is None:
            transfer.refund_pull()
        elif context.request.method != "GET":
            return
        self._transfers.end(transfer)
