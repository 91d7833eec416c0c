"""Translates the exceptions of requests into ours; no other module does."""

import logging
from collections.abc import Mapping
from http.client import HTTPException
from typing import Final
from urllib.parse import urlsplit

import requests
import urllib3

from app.oci.errors import (
    ClientGone,
    OutboundProxyFails,
    RegistryError,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
    UpstreamUnresolved,
    UpstreamUntrusted,
)
from app.threads import ResolutionTimeout
from app.upstream.http.connect import AddressForbidden
from app.upstream.http.deadlines import ClientDisconnected
from app.upstream.http.pools import CUT_ERRORS, normalize_eof

logger = logging.getLogger(__name__)

FAILURES: Final = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    ValueError,
    AddressForbidden,
)

_INVALID_REQUEST_ERRORS: Final = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidURL,
    ValueError,  # raised by urllib3 for hosts, and for headers that it interprets
)

_PROXY_ERRORS: Final = (requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL)


_KINDS: Final = (
    (Exception, AddressForbidden, UpstreamForbidden, "Upstream address is not public."),
    (Exception, ResolutionTimeout, UpstreamUnresolved, "Upstream name lookup timed out."),
    (requests.Timeout, Exception, UpstreamTimeout, "Upstream timed out."),
    (_PROXY_ERRORS, Exception, OutboundProxyFails, "Outbound proxy failed."),
    (
        Exception,
        CUT_ERRORS,
        UpstreamUnavailable,
        "Upstream closed the connection before it responded.",
    ),
    (requests.exceptions.SSLError, Exception, UpstreamUntrusted, "Upstream TLS failed."),
    (Exception, HTTPException, UpstreamMisbehaved, "Invalid upstream response."),
)
"""Our error and the log message for each exception of requests and its cause; the first match
counts."""

_LABELS: Final[Mapping[type[RegistryError], str]] = {
    OutboundProxyFails: "outbound_proxy",
    UpstreamDown: "circuit_open",
    UpstreamForbidden: "forbidden_address",
    UpstreamMisbehaved: "invalid_response",
    UpstreamTimeout: "timeout",
    UpstreamUnavailable: "connection_lost",
    UpstreamUnreachable: "connect",
    UpstreamUnresolved: "dns_timeout",
    UpstreamUntrusted: "tls",
}
"""The values of the label `error` of docxy_upstream_errors_total. Dashboards depend on them, so
they do not change with the names of the classes."""


def label(error: RegistryError) -> str:
    """Return the value of the metrics' label `error` for an error; "other" if it has none."""
    return _LABELS.get(type(error), "other")


def translate_error(error: Exception, url: str) -> RegistryError:
    """Return our error for an exception of requests, and log its cause.

    A client that disconnected and a URL or header that cannot be sent are not logged.
    """
    cause = _find_cause(error)
    if isinstance(cause, ClientDisconnected):
        return ClientGone()
    if isinstance(error, _INVALID_REQUEST_ERRORS) and not isinstance(error, _PROXY_ERRORS):
        return UpstreamMisbehaved(f"{urlsplit(url).hostname} cannot be asked")
    kind, sentence = _classify_error(error, cause)
    fields = {"url": redact_url(url), "error": _describe_cause(cause)}
    logger.warning(sentence, extra={"fields": fields})
    return kind(f"{urlsplit(url).hostname}: {kind.message}")


def _classify_error(error: Exception, cause: BaseException) -> tuple[type[RegistryError], str]:
    for errors, causes, kind, sentence in _KINDS:
        if isinstance(error, errors) and isinstance(cause, causes):
            return kind, sentence
    kind = UpstreamUnreachable if _is_connect_failure(error) else UpstreamUnavailable
    return kind, "Upstream cannot be reached."


def _is_connect_failure(error: Exception) -> bool:
    """Return True if no connection was made, so that nothing can have been sent.

    requests wraps urllib3's exception, which has the cause in `reason`.
    """
    reasons = [getattr(argument, "reason", argument) for argument in error.args]
    return any(isinstance(reason, urllib3.exceptions.NewConnectionError) for reason in reasons)


def _find_cause(error: BaseException) -> BaseException:
    """Return the exception that urllib3 and requests wrapped.

    Stop at an exception of http.client: it describes the failure better than its own cause.
    """
    while not isinstance(error, HTTPException) and (inner := _unwrap_error(error)):
        error = inner
    return normalize_eof(error)


def _unwrap_error(error: BaseException) -> BaseException | None:
    for argument in error.args if isinstance(error, urllib3.exceptions.SSLError) else ():
        if isinstance(argument, BaseException):
            return argument  # urllib3 does not set __cause__ here
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _describe_cause(cause: BaseException) -> str:
    """Return the type of a cause, and its message if it is an OSError.

    Other messages may contain a URL with its query.
    """
    return (
        f"{type(cause).__name__}: {cause}" if isinstance(cause, OSError) else type(cause).__name__
    )


def redact_url(url: str) -> str:
    """Return a URL without userinfo, query and fragment: signed URLs carry secrets there."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
