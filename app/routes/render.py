"""Our errors -> OCI JSON, in the only place that does so."""

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from app.exchange import current
from app.oci.errors import (
    ClientGone,
    ClientHidden,
    ClientRefused,
    DigestInvalid,
    ErrorCode,
    MethodUnsupported,
    NameInvalid,
    RegistryError,
    RuleRefused,
    Unsupported,
    error_document,
)
from app.oci.limit_errors import LimitReached
from app.oci.login_errors import LoginRequired, LoginsSlowed
from app.routes.rooms import client

logger = logging.getLogger(__name__)

_CODES = {
    HTTPStatus.NOT_FOUND: ErrorCode.UNSUPPORTED,
    HTTPStatus.METHOD_NOT_ALLOWED: ErrorCode.UNSUPPORTED,
}


_FOR_PEOPLE = frozenset({"page", "config", "assets"})
"""Blueprints that browsers ask, and people by curl."""

_OF_ACCESS = (ClientRefused, ClientHidden, RuleRefused, LoginRequired, LoginsSlowed, LimitReached)
"""What an operator wants to know of who it was."""

_BY: dict[type[RegistryError], str] = {
    ClientRefused: "networks",
    ClientHidden: "hidden",
    RuleRefused: "rule",
}
"""What refuses where no rule does, as it is counted; a 401 is how a login begins."""

_PLAIN = (ClientGone, DigestInvalid, NameInvalid, Unsupported)


def register(app: Flask) -> None:
    """Handle every error of an application; a blueprint could not handle routing errors."""
    app.register_error_handler(RegistryError, _registry_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _registry_error(error: RegistryError) -> Response:
    _tell(error)
    if isinstance(error, ClientRefused | ClientHidden) and request.blueprint in _FOR_PEOPLE:
        response = Response(f"{error}\n", error.status, content_type="text/plain; charset=utf-8")
    else:
        response = _document(error.status, error.code, str(error), error.detail or None)
    response.headers.update({**error.headers, **error.added})
    return response


def _tell(error: RegistryError) -> None:
    """Say why, where path and status on the request's line do not."""
    # Every client's first request shows nothing yet; a wrong login is a class below.
    if isinstance(error, _PLAIN) or type(error) is LoginRequired:
        return
    is_theirs = error.status < HTTPStatus.INTERNAL_SERVER_ERROR
    fields: dict[str, Any] = {
        "status": int(error.status),
        "code": str(error.code),
        "reason": str(error),
    }
    if isinstance(error, _OF_ACCESS):
        fields |= _whom() | error.detail
        if (exchange := current.get()) is not None:
            exchange.refused_by = str(error.detail.get("rule") or _BY.get(type(error), ""))
    level = logging.INFO if is_theirs else logging.WARNING
    logger.log(level, "A request is refused.", extra={"fields": fields})


def _whom() -> dict[str, str]:
    """Return who asked for what: an operator looks for refusals alone."""
    asking = client()
    told = {"client": asking.address, "user": asking.user}
    if (exchange := current.get()) is not None:
        told |= {"registry": exchange.registry, "repository": exchange.repository}
    return {name: value for name, value in told.items() if value}


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
