"""The errors of requests become ours, here and nowhere else."""

import logging
import ssl
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
    UpstreamUntrusted,
)
from app.upstream.answers import ClientLeft
from app.upstream.connecting import AddressForbidden

logger = logging.getLogger(__name__)

FAILURES: Final = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    ValueError,
    AddressForbidden,
)

_CUT: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""How a connection ends that the other side gave up; RemoteDisconnected is one of them."""

_CANNOT_BE_ASKED: Final = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidURL,
    ValueError,  # urllib3's, of hosts and of headers that mean something to it
)

_PROXY_FAILS: Final = (requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL)


def translated(error: Exception, url: str) -> RegistryError:
    """Return our error for one of requests, and say in the log what it was."""
    cause = _cause(error)
    if isinstance(cause, ClientLeft):
        return ClientGone()
    if isinstance(error, _CANNOT_BE_ASKED) and not isinstance(error, _PROXY_FAILS):
        return UpstreamMisbehaved(f"{urlsplit(url).hostname} cannot be asked")
    kind, sentence = _kind(error, cause)
    logger.warning("%s url=%s error=%s", sentence, redacted(url), _told(cause))
    return kind(f"{urlsplit(url).hostname}: {kind.message}")


def was_cut(error: Exception) -> bool:
    """Tell whether the other side gave the connection up before it answered."""
    return isinstance(_cause(error), _CUT)


def _kind(error: Exception, cause: BaseException) -> tuple[type[RegistryError], str]:
    if isinstance(cause, AddressForbidden):
        return UpstreamForbidden, "An upstream's address is not public."
    if isinstance(error, requests.Timeout):
        return UpstreamTimeout, "An upstream did not answer in time."
    if isinstance(error, _PROXY_FAILS):
        return OutboundProxyFails, "The outbound proxy fails."
    if isinstance(error, requests.exceptions.SSLError):
        return UpstreamUntrusted, "TLS with an upstream fails."
    if isinstance(cause, HTTPException) and not isinstance(cause, _CUT):
        return UpstreamMisbehaved, "An upstream's answer cannot be read."
    return UpstreamUnavailable, "An upstream cannot be reached."


def _cause(error: BaseException) -> BaseException:
    """Return what urllib3 and requests wrapped; what http.client says is said by its own error."""
    while not isinstance(error, HTTPException) and (inner := _inner(error)):
        error = inner
    return error


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
