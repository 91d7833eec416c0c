"""Flask, without what it does at each request and nothing here depends on."""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface
from flask.typing import ResponseReturnValue
from werkzeug.routing import BaseConverter, Map, MapAdapter

from app.oci.reference import (
    DIGEST_PATTERN,
    NAME_PATTERN,
    TAG_PATTERN,
    Digest,
    Reference,
    RepositoryName,
    Tag,
)

# Text in the URL becomes RepositoryName, Tag or Digest, or matches no route.
#
# What matches none is explained by `repository.unmatched`.


class RepositoryConverter(BaseConverter):
    """A repository name, slashes and all."""

    regex = NAME_PATTERN
    part_isolating = False

    def to_python(self, value: str) -> RepositoryName:
        """Trust the pattern; the length is checked where the name is complete."""
        return RepositoryName(value)


class ReferenceConverter(BaseConverter):
    """A tag or a digest."""

    regex = f"(?:{DIGEST_PATTERN}|{TAG_PATTERN})"
    part_isolating = False

    def to_python(self, value: str) -> Reference:
        """Tell them apart by the colon, which no tag has."""
        return Digest(value) if ":" in value else Tag(value)


class DigestConverter(BaseConverter):
    """A digest."""

    regex = DIGEST_PATTERN
    part_isolating = False

    def to_python(self, value: str) -> Digest:
        """Trust the pattern."""
        return Digest(value)


class RestConverter(BaseConverter):
    """Anything at all, when nothing else matches."""

    regex = "(?s:.*)"
    part_isolating = False
    weight = 1000


def register(url_map: Map) -> None:
    """Make the converters known, and keep paths as they were sent."""
    url_map.converters["repository"] = RepositoryConverter
    url_map.converters["reference"] = ReferenceConverter
    url_map.converters["digest"] = DigestConverter
    url_map.converters["rest"] = RestConverter
    url_map.merge_slashes = False
    url_map.strict_slashes = False


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

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Do what goes before all views; no blueprint has anything of its own here."""
        if not _are_for_all(self.before_request_funcs) or self.url_value_preprocessors:
            return super().preprocess_request()
        for before in self.before_request_funcs.get(None, ()):
            if (answer := before()) is not None:
                return cast("ResponseReturnValue", answer)
        return None

    def process_response(self, response: Response) -> Response:
        """Do what goes after all views, in the order of Flask's: the last one first."""
        if not _are_for_all(self.after_request_funcs):
            return super().process_response(response)
        for after in reversed(self.after_request_funcs.get(None, ())):
            response = cast("Response", after(response))
        return response

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is called: nothing here is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the view of a path, of which no host is part."""
        if request is None:
            return super().create_url_adapter(None)
        scheme, method = request.scheme, request.method
        return MapAdapter(self.url_map, "", "", "", scheme, request.path, method)


def _are_for_all(registered: Mapping[str | None, Any]) -> bool:
    """Tell whether none is a blueprint's own."""
    return len(registered) == (None in registered)
