"""Flask, without what it does at each request and nothing here depends on."""

from collections.abc import Callable
from typing import Any, Final

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter


class _NoSessions(SessionInterface):
    """Nobody has a session, and so none is made for each request."""

    _NONE: Final = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        """Return the one that cannot be written to, whoever asks."""
        del app, request
        return self._NONE


class Application(Flask):
    """What create_app wires; Flask itself takes a twentieth more of a small answer's time."""

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is called: nothing here is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the view of a path, of which no host is part."""
        if request is None:
            return super().create_url_adapter(None)
        scheme, method = request.scheme, request.method
        return MapAdapter(self.url_map, "", "", "", scheme, request.path, method)
