"""Reply -> Flask response; closes what it opened."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final
from urllib.parse import quote, urlsplit

from flask import Response, g, request
from werkzeug.datastructures import Headers

from app.content import BodyBroken, Reply, has_body
from app.oci.challenge import Challenge
from app.oci.scope import Scope
from app.registries import Address
from app.routes.connection import ClientConnection
from app.routes.rooms import rooms

_TOKEN_PATH: Final = "/auth/token"  # noqa: S105 - a path


class RelayedBody:
    """The body of a reply on its way to the client: counted, timed, and closed however it ends."""

    def __init__(self, reply: Reply, connection: ClientConnection) -> None:
        self._chunks = iter(reply.body)
        self._close = reply.close
        self._connection = connection
        self.sent = 0
        self.waited = 0.0
        self.complete = False
        self.broken = ""
        self._begun = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._begun:
            self._begun = True
            return b""  # gunicorn sends the head with the first piece: it shall not wait for it
        started = time.monotonic()
        try:
            chunk = next(self._chunks)
        except BodyBroken as error:
            self.broken = error.strerror or ""
            raise
        except StopIteration:
            self._connection.end_normally()
            self.complete = True
            raise
        finally:
            self.waited += time.monotonic() - started
        self.sent += len(chunk)
        return chunk

    def close(self) -> None:
        """Close the upstream's side; the server calls it at the end, whatever the end was."""
        self._connection.forget_stalls()
        self._close()


class RelayedResponse(Response):
    """A response that has only the headers it was given."""

    default_mimetype = None
    automatically_set_content_length = False


def relay(reply: Reply, address: Address | None = None) -> Response:
    """Pass a reply to the client, in the client's naming where `address` knows it."""
    with ExitStack() as failed:
        failed.callback(reply.close)
        response = RelayedResponse(status=reply.status)
        _write_headers(response.headers, reply, address)
        connection = ClientConnection(request.environ)
        connection.limit_stalls(rooms().write_timeout)
        g.body = response.response = RelayedBody(reply, connection)
        if has_body(request.method, reply.status):
            connection.end_only_by_reset(length_known=reply.length is not None)
        else:
            g.body.complete = True
        failed.pop_all()
    return response


def _write_headers(fields: Headers, reply: Reply, address: Address | None) -> None:
    for name, value in reply.headers:
        fields.add(name, value)
    for challenge in reply.challenges:
        fields.add("WWW-Authenticate", str(_for_client(challenge, address)))
    if reply.length is not None:
        fields.set("Content-Length", str(reply.length))
    if reply.next_query is not None:
        fields.set("Link", _next_page(reply.next_query, address))


def _for_client(challenge: Challenge, address: Address | None) -> Challenge:
    """Point the realm here, so that tokens come through this proxy too."""
    if not challenge.is_bearer:
        return challenge
    realm = rooms().forwarded.base_url(request.environ) + _TOKEN_PATH
    changed = {"realm": realm}
    if address is not None and "scope" in challenge.parameters:
        scopes = challenge.parameters["scope"].split()
        changed["scope"] = " ".join(_scope_for_client(scope, address) for scope in scopes)
    return challenge.with_parameters(changed)


def _scope_for_client(text: str, address: Address) -> str:
    scope = Scope.parse(text)
    if scope is None or not scope.is_repository:
        return text
    return str(address.scope_for_client(scope))


def _next_page(query: str, address: Address | None) -> str:
    """Lead to the next page of what the client asked, as it asked (RFC 8288)."""
    prefix = urlsplit(rooms().forwarded.base_url(request.environ)).path
    namespace = [f"ns={quote(address.ns)}"] if address and address.ns else []
    fields = "&".join([query, *namespace] if query else namespace)
    return f'<{prefix}{request.path}?{fields}>; rel="next"'
