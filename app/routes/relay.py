"""Turns a source's Reply into a Flask response that streams, counts and closes its body.

It also forbids other caches to keep a response if clients may get different ones.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response
from werkzeug.datastructures import Headers

from app.events import UNWATCHED, Download, Exchange
from app.oci.challenge import Challenge
from app.oci.headers import FOR_CACHES
from app.registries import Selection
from app.routes.addressing import build_location, build_next_link, rewrite_challenges
from app.routes.connection import ClientConnection, FileSender
from app.routes.context import RequestContext, get_context
from app.source import BodyBroken, FileBody, HandedOver, Reply, has_body

KEPT_BY_NGINX: Final = {"cache-control": "X-Accel-Cache-Control"}
"""Headers that are renamed when nginx sends the body; it restores them (deploy/nginx.conf).

Under their own names, nginx would send them with any answer of its own, even an error.
"""


class RelayedBody:
    """The body of a reply on its way to the client: counted, timed, and always closed.

    `sent` is in bytes. `wait_seconds` is the time spent waiting for the upstream, in seconds.
    `is_complete` is true once the whole body has been read. `failure` says why reading it failed,
    or is "". `sent_by_nginx` is true if the server in front sends the body.
    """

    def __init__(self, reply: Reply, connection: ClientConnection, exchange: Exchange) -> None:
        self._chunks = reply.chunks()
        self._sending = 0.0
        self._close = reply.close
        self._connection = connection
        self._is_in_memory = isinstance(reply.body, bytes | HandedOver)
        if self._is_in_memory:
            connection.cork()
        self._exchange = exchange
        self._download: Download = UNWATCHED
        self.sent = 0
        self.wait_seconds = 0.0
        self.is_complete = False
        self.sent_by_nginx = False
        self.failure = ""
        self._has_started = self._is_in_memory

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._has_started:
            self._has_started = True
            # gunicorn sends the head with the first piece, and the head should not wait for data.
            return b""
        started_at = time.monotonic()
        try:
            chunk = next(self._chunks)
        except BodyBroken as error:
            self.failure = error.strerror or ""
            raise
        except StopIteration:
            self._connection.cancel_reset()
            self.is_complete = True
            raise
        finally:
            send_seconds, self._sending = self._sending, 0.0
            self.wait_seconds += time.monotonic() - started_at - send_seconds
        self._record_sent(len(chunk))
        return chunk

    def report_to(self, download: Download) -> None:
        """Report the progress of the body, and its end, to `download`."""
        self._download = download

    def _record_sent(self, count: int) -> None:
        if not self.sent:
            self._exchange.time_to_first_byte = self._exchange.seconds_elapsed()
        self.sent += count
        self._download.record_sent(count)

    def send_file(self, file: FileBody, send: FileSender) -> None:
        """Send the file with `send`, and give the server only empty pieces to write."""

        def send_timed(descriptor: int, offset: int, count: int) -> None:
            started_at = time.monotonic()
            try:
                send(descriptor, offset, count, self._record_sent)
            finally:
                self._sending += time.monotonic() - started_at

        self._chunks = self._send_parts(file, send_timed)

    def _send_parts(self, file: FileBody, send: Callable[[int, int, int], None]) -> Iterator[bytes]:
        while file.send_next(send):
            yield b""
        yield from file

    def leave_to_nginx(self, length: int) -> None:
        """Count `length` bytes as sent: the server in front sends them in place of this body."""
        self.sent, self.sent_by_nginx = length, True

    def close(self) -> None:
        """Close the upstream's side; the server calls this however the response ended."""
        if self._is_in_memory:
            self._connection.uncork()
        self._connection.restore_timeout()
        self._download.record_end()
        self._close()


class RelayedResponse(Response):
    """A response that has only the headers it was given, without Werkzeug's defaults."""

    default_mimetype = None
    automatically_set_content_length = False

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Return the headers of a 200 as they are, which Werkzeug would copy without a change."""
        if self.status_code == HTTPStatus.OK:
            return self.headers
        return super().get_wsgi_headers(environ)


def relay(context: RequestContext, reply: Reply, selection: Selection) -> Response:
    """Return the response that relays a reply, with links and challenges in the client's naming.

    The reply is closed when the response is, or at once if this raises.
    """
    try:
        return _build_response(context, reply, selection)
    except BaseException:
        reply.close()
        raise


def _build_response(context: RequestContext, reply: Reply, selection: Selection) -> Response:
    services, exchange, connection = context.services, context.exchange, context.connection
    challenges = rewrite_challenges(context, reply.challenges, selection)
    # A 403 if no login through this proxy can meet any of the challenges.
    is_unmet = reply.challenges and not challenges
    response = RelayedResponse(status=HTTPStatus.FORBIDDEN if is_unmet else reply.status)
    _write_headers(context, response.headers, reply, selection, challenges)
    connection.set_stall_timeout(services.write_timeout)
    body = context.body = response.response = RelayedBody(reply, connection, exchange)
    if isinstance(reply.body, HandedOver):
        body.leave_to_nginx(reply.length or 0)
    if has_body(context.request.environ["REQUEST_METHOD"], reply.status):
        connection.reset_unless_completed(length_known=reply.length is not None)
        if isinstance(reply.body, FileBody) and connection.send_file and reply.length:
            body.send_file(reply.body, connection.send_file)
        if not isinstance(reply.body, bytes | HandedOver):
            body.report_to(services.access_log.watcher.begin_download(exchange, reply.length))
    else:
        body.is_complete = True
    return response


def _write_headers(
    context: RequestContext,
    fields: Headers,
    reply: Reply,
    selection: Selection,
    challenges: Iterable[Challenge],
) -> None:
    handed_over = isinstance(reply.body, HandedOver)
    for name, value in reply.headers:
        fields.add(KEPT_BY_NGINX.get(name.lower(), name) if handed_over else name, value)
    for challenge in challenges:
        fields.add("WWW-Authenticate", str(challenge))
    if selection.ns:
        fields.set("OCI-Namespace", selection.ns)
    if reply.length is not None:
        fields.set("Content-Length", "0" if handed_over else str(reply.length))
    if isinstance(reply.body, HandedOver):
        fields.set("X-Accel-Redirect", reply.body.location)
    if reply.next_query is not None:
        fields.set("Link", build_next_link(context, reply.next_query, selection))
    if reply.location is not None:
        fields.set("Location", build_location(context, reply.location, selection))


# Caches along the way must keep nothing that only some clients may get
#
# They know the URL, but not the decisions made here: everybody gets what one of them keeps.

_REGISTRY_BLUEPRINTS: Final = frozenset({"challenge", "repository", "search"})
"""Blueprints that relay a registry's answers, which may be public there."""

_UNCACHEABLE: Final = "private, no-store"


def register_cache_control(app: Flask, *, all_are_equal: bool) -> None:
    """Forbid other caches to keep registries' answers, unless all clients get equal ones."""
    if not all_are_equal:
        app.after_request(_forbid_shared_caching)


def _forbid_shared_caching(response: Response) -> Response:
    if (get_context().request.endpoint or "").partition(".")[0] in _REGISTRY_BLUEPRINTS:
        fields = response.headers
        nginx_name = KEPT_BY_NGINX["cache-control"]
        present = {name.lower() for name in fields.keys()}  # noqa: SIM118 - it iterates over pairs
        name = nginx_name if nginx_name.lower() in present else "Cache-Control"
        for extra_name in present.intersection(FOR_CACHES) - {name.lower()}:
            fields.remove(extra_name)
        fields.set(name, _UNCACHEABLE)
    return response
