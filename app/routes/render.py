"""Renders every error as OCI JSON, and logs why a request is refused."""

import contextlib
import logging
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from app.oci.errors import (
    ClientAddressUnknown,
    ClientGone,
    DigestInvalid,
    ErrorCode,
    LoginRequired,
    MethodUnsupported,
    NameInvalid,
    NetworkDenied,
    RegistryError,
    Unsupported,
    error_document,
)
from app.routes.addressing import resolve_path_unchecked
from app.routes.context import RequestContext, get_context

logger = logging.getLogger(__name__)

_UNLOGGED_ERRORS: Final = (ClientGone, DigestInvalid, NameInvalid, Unsupported)
"""Errors that the path and status on the request's own log line explain well enough."""


def _log_refusal(context: RequestContext, error: RegistryError) -> None:
    """Log why a request is refused, and note for metrics what refused it.

    If access was refused, the line also has the client and the repository. Its `rule` is the word
    that the refusal is counted by.
    """
    # Each pull begins with a request without a login, by which clients learn where to log in.
    if isinstance(error, _UNLOGGED_ERRORS) or type(error) is LoginRequired:
        return
    fields: dict[str, Any] = {
        "status": int(error.status),
        "code": str(error.code),
        "reason": str(error),
    }
    if error.refused_by:
        fields |= _build_refusal_fields(context) | {"rule": error.refused_by} | error.detail
        context.exchange.refused_by = str(fields["rule"])
    is_client_error = error.status < HTTPStatus.INTERNAL_SERVER_ERROR
    level = logging.INFO if is_client_error else logging.WARNING
    logger.log(level, "Request refused.", extra={"fields": fields})


def _build_refusal_fields(context: RequestContext) -> dict[str, str]:
    """Return the client and what it asked for: operators read refusals without other lines."""
    exchange, client = context.exchange, context.client
    name = (context.request.view_args or {}).get("name")
    if name is not None and not exchange.repository:
        # The request was refused before its address was resolved.
        with contextlib.suppress(RegistryError):
            resolve_path_unchecked(context, name)
    fields = {
        "client": client.address,
        "user": client.user,
        "registry": exchange.registry,
        "repository": exchange.repository,
        "reference": exchange.reference,
    }
    return {name: value for name, value in fields.items() if value}


_CODES = {
    HTTPStatus.NOT_FOUND: ErrorCode.UNSUPPORTED,
    HTTPStatus.METHOD_NOT_ALLOWED: ErrorCode.UNSUPPORTED,
}


_BROWSER_BLUEPRINTS = frozenset({"page", "config", "assets"})
"""Blueprints that people use, with browsers or curl."""


def register(app: Flask) -> None:
    """Install the handlers for every error of an application.

    They are not a blueprint's, because a blueprint cannot handle routing errors.
    """
    app.register_error_handler(RegistryError, _handle_registry_error)
    app.register_error_handler(HTTPException, _handle_http_error)
    app.register_error_handler(Exception, _handle_unexpected_error)


def _handle_registry_error(error: RegistryError) -> Response:
    context = get_context()
    _log_refusal(context, error)
    is_for_people = context.request.blueprint in _BROWSER_BLUEPRINTS
    if isinstance(error, NetworkDenied | ClientAddressUnknown) and is_for_people:
        response = Response(f"{error}\n", error.status, content_type="text/plain; charset=utf-8")
    else:
        response = _build_error_response(error.status, error.code, str(error), error.detail or None)
    if error.reason:
        response.status = f"{int(error.status)} {error.reason}"
    response.headers.update({**error.headers, **error.extra_headers})
    return response


def _handle_http_error(error: HTTPException) -> Response:
    if isinstance(error, MethodNotAllowed) and get_context().request.path.startswith("/v2"):
        return _handle_registry_error(MethodUnsupported())
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    code = _CODES.get(HTTPStatus(status), ErrorCode.UNKNOWN)
    message = Unsupported.message if status == HTTPStatus.NOT_FOUND else error.name
    response = _build_error_response(status, code, message, None)
    response.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
    return response


def _handle_unexpected_error(error: Exception) -> Response:
    logger.error("Unhandled exception in a request.", exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return _build_error_response(status, ErrorCode.UNKNOWN, RegistryError.message, None)


def _build_error_response(status: int, code: ErrorCode, message: str, detail: object) -> Response:
    response = jsonify(error_document(code, message, detail))
    response.status_code = status
    return response
