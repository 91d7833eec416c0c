"""GET and POST /auth/token: tokens come through this proxy, and so does `docker login`."""

from collections.abc import Iterator
from urllib.parse import parse_qsl

from flask import Blueprint, Response, request
from werkzeug.exceptions import ClientDisconnected, RequestTimeout

from app.content import TokenRequest
from app.oci.errors import NameInvalid, NameUnknown
from app.oci.reference import RepositoryName
from app.oci.scope import Scope
from app.registries import Registry
from app.routes.connection import ClientConnection
from app.routes.relay import relay
from app.routes.rooms import asked, located, rooms, selected, source

bp = Blueprint("token", __name__)


@bp.route("/auth/token", methods=["GET", "POST"])
def token() -> Response:
    """Pass the request to the token service of the registry that it is about."""
    registry = selected()
    written = _form() if request.method == "POST" else request.query_string
    parameters = parse_qsl(
        written.decode(errors="surrogateescape"), keep_blank_values=True, errors="surrogateescape"
    )
    request_ = asked()
    reply = source(registry).token(
        TokenRequest(
            method="POST" if request.method == "POST" else "GET",
            parameters=list(_for_registry(parameters, registry)),
            headers=request_.headers,
            client=request_.client,
        )
    )
    return relay(reply)


def _form() -> bytes:
    """Read the form; who begins one and does not end it is cut."""
    connection = ClientConnection(request.environ)
    connection.limit_stalls(rooms().write_timeout)
    try:
        return request.get_data(cache=False)
    except ClientDisconnected as error:
        # werkzeug's word for whatever keeps a body from coming
        if isinstance(error.__context__, TimeoutError):
            raise RequestTimeout from error
        raise
    finally:
        connection.forget_stalls()


def _for_registry(
    parameters: list[tuple[str, str]], registry: Registry
) -> Iterator[tuple[str, str]]:
    """Name scopes as the registry does, each once; leave out what is only between client and us.

    containerd asks for what it wanted and for what the challenge says, in two namings.
    """
    seen: set[str] = set()
    for name, value in parameters:
        if name == "scope":
            scopes = [scope for text in value.split() if (scope := _scope(text, registry))]
            fresh = [scope for scope in dict.fromkeys(scopes) if scope not in seen]
            seen.update(fresh)
            if fresh:
                yield name, " ".join(fresh)
        elif name not in {"service", "ns"}:
            yield name, value


def _scope(text: str, registry: Registry) -> str:
    """Return a scope in the registry's naming, or "" for one that is another registry's."""
    scope = Scope.parse(text)
    if scope is None or not scope.is_repository:
        return text
    try:
        address = located(RepositoryName.parse(scope.name))
    except NameInvalid:
        return text  # as the registry's token service likes it: it allows nothing
    except NameUnknown:
        return ""
    return str(scope.named(address.repository)) if address.registry is registry else ""
