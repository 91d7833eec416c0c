"""The context of each request, from the first hook to the end of its response's body.

`RequestContext` is all the state of one request; `Services` are the components that serve it.
Hooks, views and error handlers call `get_context` once, and hand the context to what they call.
"""

import re
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from flask import Flask, Request, Response, current_app, g, request
from werkzeug.local import LocalProxy

from app.access.image_facts import ImageFactsCache
from app.access.networks import ClientIdentity, Networks
from app.access.rules import Rules
from app.access.tokens import Guard
from app.events import Exchange, current, is_low
from app.oci.reference import Operation
from app.registries import Registries, Registry, RepositoryAddress
from app.routes.access_log import AccessLog, EndedRequest
from app.routes.connection import ClientConnection
from app.routes.forwarded import ForwardedHeaders
from app.source import MonitoredCache, Payer, SearchIndex, Source

_EXTENSION_KEY: Final = "docxy"

_MAX_LOGGED: Final = 512
"""The maximum number of characters of a value sent by a client that go into a log line."""

_OWN_CACHE_MEMBER: Final = "docxy; "
"""The beginning of our own member in `Cache-Status` (RFC 9211)."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

_OPERATIONS: Final[Mapping[str, Callable[..., Operation]]] = {
    "challenge.challenge": Operation.ping,
    "repository.manifest": Operation.manifest,
    "repository.blob": Operation.blob,
    "repository.tags": Operation.tags,
    "repository.referrers": Operation.referrers,
}
"""The operations by endpoint; the variables of a path are their arguments."""

_UNMATCHED_ENDPOINT: Final = "repository.unmatched"


class FiguresReader(Protocol):
    """The figures that all workers together have counted."""

    def format_exposition(self) -> bytes:
        """Return all series in the text format of Prometheus."""

    def build_summary(self) -> dict[str, Any]:
        """Return the figures that the page shows, as a JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The components that `create_app` wires together for the views.

    `sources` has the source of each registry by its name. `write_timeout` is in seconds.
    """

    registries: Registries
    sources: Mapping[str, Source]
    forwarded: ForwardedHeaders
    write_timeout: float
    figures_networks: Networks = field(default_factory=lambda: Networks(""))
    figures: FiguresReader | None = None
    """None if metrics are off."""
    access_log: AccessLog = field(default_factory=AccessLog)
    index: SearchIndex | None = None
    cache: MonitoredCache | None = None
    """None if there is no cache."""
    rules: Rules | None = None
    """None if there are no rules: everybody may pull everything."""
    image_facts: ImageFactsCache = field(default_factory=ImageFactsCache)
    guard: Guard | None = None
    """None if this proxy has no users of its own."""

    def install(self, app: Flask) -> None:
        """Make this available to the requests of an application."""
        app.extensions[_EXTENSION_KEY] = self

    def get_source(self, registry: Registry) -> Source:
        """Return the source that a registry is read from: its upstream, or the cache around it."""
        return self.sources[registry.name]


class SentBody(Protocol):
    """The figures of a relayed body for the log line and the limits; see `relay.RelayedBody`."""

    sent: int
    wait_seconds: float
    is_complete: bool
    sent_by_nginx: bool
    failure: str


@dataclass(slots=True, kw_only=True, eq=False)
class RequestContext:
    """All the state of one request, and what has to be released when it ends.

    The exchange is the part of it that outlives the request, to be logged and counted.
    """

    request: Request
    services: Services
    exchange: Exchange
    connection: ClientConnection
    operation: Operation | None = None
    """The operation that the request asks for, in the client's naming. None if it asks for none, or
    for a token."""
    user: str = ""
    """The user who is logged in to this proxy."""
    address: RepositoryAddress | None = None
    """The repository that the path addresses. None until first resolved."""
    payer: Payer | None = None
    """The client's account if there are limits, or None."""
    called_at: float | None = None
    """When the source was called (monotonic). None until then."""
    body: SentBody | None = None
    """The relayed body of the response. None for a response of our own."""
    security_policy: str = "sandbox"
    """The Content-Security-Policy of the response."""
    response: Response | None = None
    """The response, whose end is the end of the request. None before there is one, and after it."""
    at_end: ExitStack = field(default_factory=ExitStack)
    """Callbacks that run when the response has ended, or when the request fails without one."""
    _address: tuple[str, bool] | None = None

    @property
    def client(self) -> ClientIdentity:
        """The client, with its user if it has logged in.

        Its address is "" for a request through a Unix socket, unless a server in front names it.
        """
        if self._address is None:
            forwarded, environ = self.services.forwarded, self.request.environ
            address = forwarded.get_client_address(environ)
            self._address = address, bool(address) and forwarded.is_client_known(environ)
        return ClientIdentity(*self._address, self.user)

    @property
    def ns(self) -> str | None:
        """The `ns` parameter that containerd adds when it asks a mirror; None if it is missing."""
        return self.request.args.get("ns") or None if self.request.query_string else None

    @property
    def host(self) -> str:
        """The host name that the client used for this proxy. Raises HostInvalid."""
        return self.services.forwarded.get_host(self.request.environ)

    @property
    def base_url(self) -> str:
        """The URL by which the client reaches this proxy. Raises HostInvalid."""
        return self.services.forwarded.build_base_url(self.request.environ)

    def note_call(self) -> None:
        """Note that the source is called now: what follows is a wait for the upstream."""
        self.called_at = time.monotonic()


def get_services() -> Services:
    """Return the components that `create_app` put into the current application."""
    app = cast("LocalProxy[Flask]", current_app)._get_current_object()  # noqa: SLF001 - documented by Werkzeug
    services: Services = app.extensions[_EXTENSION_KEY]
    return services


def get_context() -> RequestContext:
    """Return the context of the request that the current thread or greenlet serves.

    Flask calls hooks, views and error handlers without it, so they look it up, once each.
    """
    context: RequestContext = g.context
    return context


def register(app: Flask) -> None:
    """Install the hooks that begin and end every request of an application.

    They have to be installed before all others.
    """
    app.before_request(begin)
    app.after_request(_finish)
    app.teardown_request(_abandon)


def begin() -> None:
    """Make the context of the current request."""
    # Flask's proxy looks up the request at each access, a dozen times for a small response.
    current_request = cast("LocalProxy[Request]", request)._get_current_object()  # noqa: SLF001 - documented by Werkzeug
    request_id = current_request.headers.get("X-Request-ID", "")
    build_operation = _OPERATIONS.get(current_request.endpoint or "")
    operation = (
        None if build_operation is None else build_operation(**(current_request.view_args or {}))
    )
    exchange = Exchange(
        request_id=request_id if _REQUEST_ID.fullmatch(request_id) else secrets.token_hex(16),
        method=current_request.method,
        route=_choose_route(operation, current_request.endpoint),
        reference=(operation and operation.reference) or "",
    )
    g.context = RequestContext(
        request=current_request,
        services=get_services(),
        exchange=exchange,
        connection=ClientConnection(current_request.environ),
        operation=operation,
    )
    current.set(exchange)


def _choose_route(operation: Operation | None, endpoint: str | None) -> str:
    """Return the word for a request in metrics: its kind of operation, or else its blueprint."""
    if operation is not None:
        return operation.kind.value
    return "other" if endpoint in {None, _UNMATCHED_ENDPOINT} else str(endpoint).partition(".")[0]


def _finish(response: Response) -> Response:
    # Adding is enough: `headers.filter_response_headers` lets none of these through from an
    # upstream.
    context, fields = get_context(), response.headers
    exchange = context.exchange
    fields.add("X-Request-ID", exchange.request_id)
    # Content from an upstream never gets the rights of our page, which sets its own policy.
    fields.add("X-Content-Type-Options", "nosniff")
    fields.add("Content-Security-Policy", context.security_policy)
    if context.request.path.startswith("/v2"):
        fields.add("Docker-Distribution-Api-Version", "registry/2.0")
    if (budget := exchange.budget) is not None and is_low(budget):
        remaining = f"{budget.remaining} of {budget.limit} pulls"
        fields.add("Warning", f'299 - "{exchange.registry} has {remaining} left for this client"')
    exchange.status, exchange.time_to_first_byte = response.status_code, exchange.seconds_elapsed()
    wait_seconds = time.monotonic() - context.called_at if context.called_at else 0.0
    response.call_on_close(_Ending(context, _build_line(context, response), wait_seconds).end)
    context.response = response
    return response


def _abandon(error: BaseException | None) -> None:
    """Release the resources of a request that ended before it had a response."""
    del error
    context: RequestContext | None = g.get("context")
    if context is None:
        return
    if context.response is None:
        context.at_end.close()
    elif sys.exc_info()[0] is not None:  # the server has refused its head, and closes nothing
        context.response.close()


def _build_line(context: RequestContext, response: Response) -> dict[str, Any]:
    request = context.request
    fields = {
        "method": request.method,
        "path": request.path[:_MAX_LOGGED],
        "status": response.status_code,
        "bytes": 0 if request.method == "HEAD" else response.content_length or 0,
        "client": context.client.address,
        "request_id": context.exchange.request_id,
        "user_agent": request.headers.get("User-Agent", "")[:_MAX_LOGGED],
    }
    if context.user:
        fields["user"] = context.user
    # The members of other caches along the way come before ours.
    cache_members = [
        member
        for member in response.headers.getlist("Cache-Status")
        if member.startswith(_OWN_CACHE_MEMBER)
    ]
    return (
        fields | {"cache": cache_members[-1].removeprefix(_OWN_CACHE_MEMBER)[:_MAX_LOGGED]}
        if cache_members
        else fields
    )


@dataclass(slots=True)
class _Ending:
    """The work that remains when the body ends; `wait_seconds` is in seconds."""

    context: RequestContext
    line: dict[str, Any]
    wait_seconds: float

    def end(self) -> None:
        """Release the resources of the request; complete its log line, and log and count it."""
        context, fields = self.context, self.line
        exchange, access_log = context.exchange, context.services.access_log
        try:
            context.at_end.close()
        finally:
            context.response = None  # it refers to this context
            exchange.duration = exchange.seconds_elapsed()
            if context.body is not None:
                self._add_body(context.body)
            exchange.bytes_sent = fields["bytes"]
            fields["upstream_seconds"] = self.wait_seconds
            current.set(None)
            ended_request = EndedRequest(exchange, fields, time.time())
            if "gunicorn.socket" in context.request.environ:  # there may be many at once
                access_log.add(ended_request)
            else:
                access_log.write([ended_request])

    def _add_body(self, body: SentBody) -> None:
        fields = self.line
        fields["bytes"] = body.sent
        self.wait_seconds += body.wait_seconds
        if body.sent_by_nginx:
            fields["sent_by_nginx"] = True
        if not body.is_complete:
            fields["incomplete"] = True
        if body.failure:
            fields["body_error"] = body.failure
