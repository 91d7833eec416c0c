"""The errors of requests become ours, here and nowhere else."""

import logging
from http.client import HTTPException
from typing import Final
from urllib.parse import urlsplit

import requests
import urllib3

from app.oci.errors import (
    ClientGone,
    OutboundProxyFails,
    RegistryError,
    UpstreamForbidden,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
    UpstreamUnresolved,
    UpstreamUntrusted,
)
from app.upstream.http.connect import AddressForbidden, NameUnanswered
from app.upstream.http.deadlines import ClientLeft
from app.upstream.http.tls import CUT, plainly

logger = logging.getLogger(__name__)

FAILURES: Final = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    ValueError,
    AddressForbidden,
)

_CANNOT_BE_ASKED: Final = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidURL,
    ValueError,  # urllib3's, of hosts and of headers that mean something to it
)

_PROXY_FAILS: Final = (requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL)


_KINDS: Final = (
    (Exception, AddressForbidden, UpstreamForbidden, "An upstream's address is not public."),
    (Exception, NameUnanswered, UpstreamUnresolved, "An upstream's name was not answered in time."),
    (requests.Timeout, Exception, UpstreamTimeout, "An upstream did not answer in time."),
    (_PROXY_FAILS, Exception, OutboundProxyFails, "The outbound proxy fails."),
    (Exception, CUT, UpstreamUnavailable, "An upstream broke off before it answered."),
    (requests.exceptions.SSLError, Exception, UpstreamUntrusted, "TLS with an upstream fails."),
    (Exception, HTTPException, UpstreamMisbehaved, "An upstream's answer cannot be read."),
)
"""What an error of requests' and its cause come to; the first that fits counts."""


def translated(error: Exception, url: str) -> RegistryError:
    """Return our error for one of requests, and say in the log what it was."""
    cause = _cause(error)
    if isinstance(cause, ClientLeft):
        return ClientGone()
    if isinstance(error, _CANNOT_BE_ASKED) and not isinstance(error, _PROXY_FAILS):
        return UpstreamMisbehaved(f"{urlsplit(url).hostname} cannot be asked")
    kind, sentence = _kind(error, cause)
    fields = {"url": redacted(url), "error": _told(cause)}
    logger.warning(sentence, extra={"fields": fields})
    return kind(f"{urlsplit(url).hostname}: {kind.message}")


def _kind(error: Exception, cause: BaseException) -> tuple[type[RegistryError], str]:
    for errors, causes, kind, sentence in _KINDS:
        if isinstance(error, errors) and isinstance(cause, causes):
            return kind, sentence
    kind = UpstreamUnreachable if _is_without_connection(error) else UpstreamUnavailable
    return kind, "An upstream cannot be reached."


def _is_without_connection(error: Exception) -> bool:
    """Tell whether nothing can have been sent; requests keeps the reason in what it wraps."""
    reasons = [getattr(argument, "reason", argument) for argument in error.args]
    return any(isinstance(reason, urllib3.exceptions.NewConnectionError) for reason in reasons)


def _cause(error: BaseException) -> BaseException:
    """Return what urllib3 and requests wrapped; what http.client says is said by its own error."""
    while not isinstance(error, HTTPException) and (inner := _inner(error)):
        error = inner
    return plainly(error)


def _inner(error: BaseException) -> BaseException | None:
    for argument in error.args if isinstance(error, urllib3.exceptions.SSLError) else ():
        if isinstance(argument, BaseException):
            return argument  # urllib3 does not chain it
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _told(cause: BaseException) -> str:
    """Name a cause; only a system's own words hold no URL with its query."""
    return (
        f"{type(cause).__name__}: {cause}" if isinstance(cause, OSError) else type(cause).__name__
    )


def redacted(url: str) -> str:
    """Return a URL without userinfo and query: signed URLs carry secrets there."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
