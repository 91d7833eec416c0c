"""Our errors -> OCI JSON, in the only place that does so."""

import logging
from http import HTTPStatus

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from app.oci.access_errors import ClientHidden, ClientRefused
from app.oci.errors import (
    ErrorCode,
    MethodUnsupported,
    RegistryError,
    Unsupported,
    error_document,
)
from app.routes import refusals

logger = logging.getLogger(__name__)

_CODES = {
    HTTPStatus.NOT_FOUND: ErrorCode.UNSUPPORTED,
    HTTPStatus.METHOD_NOT_ALLOWED: ErrorCode.UNSUPPORTED,
}


_FOR_PEOPLE = frozenset({"page", "config", "assets"})
"""Blueprints that browsers ask, and people by curl."""


def register(app: Flask) -> None:
    """Handle every error of an application; a blueprint could not handle routing errors."""
    app.register_error_handler(RegistryError, _registry_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _registry_error(error: RegistryError) -> Response:
    refusals.tell(error)
    if isinstance(error, ClientRefused | ClientHidden) and request.blueprint in _FOR_PEOPLE:
        response = Response(f"{error}\n", error.status, content_type="text/plain; charset=utf-8")
    else:
        response = _document(error.status, error.code, str(error), error.detail or None)
    response.headers.update({**error.headers, **error.added})
    return response


def _http_error(error: HTTPException) -> Response:
    if isinstance(error, MethodNotAllowed) and request.path.startswith("/v2"):
        return _registry_error(MethodUnsupported())
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    code = _CODES.get(HTTPStatus(status), ErrorCode.UNKNOWN)
    message = Unsupported.message if status == HTTPStatus.NOT_FOUND else error.name
    response = _document(status, code, message, None)
    response.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
    return response


def _unexpected(error: Exception) -> Response:
    logger.error("A request failed unexpectedly.", exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return _document(status, ErrorCode.UNKNOWN, RegistryError.message, None)


def _document(status: int, code: ErrorCode, message: str, detail: object) -> Response:
    response = jsonify(error_document(code, message, detail))
    response.status_code = status
    return response
