"""The Session: pools, CA, outbound proxy, no cookies, no netrc.

Here, and only here, the errors of requests become ours.
"""

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager, ProxyManager

from app.content import Client
from app.oci.errors import (
    ClientGone,
    RegistryError,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from app.oci.headers import Headers
from app.upstream.connection import POOLS, SOCKS_POOLS, ClientLeft, waiting
from app.upstream.outbound import OutboundProxies

logger = logging.getLogger(__name__)

_IDLE_CONNECTIONS: Final = 256
"""Connections to one host that are kept for the next request; more are made and then closed."""

_CANNOT_BE_ASKED: Final = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidURL,
    urllib3.exceptions.LocationValueError,
    UnicodeError,
)

_HOSTS: Final = 64
"""Hosts whose connections are kept: a registry, its token service, and its CDNs."""


class Session:
    """One registry's `requests.Session`; safe to use from many threads at once."""

    def __init__(
        self,
        *,
        ca_bundle: Path | None,
        proxies: OutboundProxies,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        self._proxies = proxies
        self._timeout = (connect_timeout, read_timeout)
        self._session = requests.Session()
        # ~/.netrc would replace the client's Authorization, and the environment is read elsewhere.
        self._session.trust_env = False
        adapter = _Adapter(trusted_context(ca_bundle))
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def send(
        self,
        method: str,
        url: str,
        headers: Headers,
        *,
        client: Client | None = None,
        body: bytes | None = None,
    ) -> requests.Response:
        """Send one request and return once its answer's headers are there; follow nothing.

        Raise UpstreamUnavailable, UpstreamTimeout, UpstreamMisbehaved or ClientGone.
        """
        request = requests.PreparedRequest()
        request.method = method
        request.url = url
        request.headers = requests.structures.CaseInsensitiveDict(_joined(headers))
        request.body = body
        request.hooks = {"response": []}
        try:
            with waiting(client):
                # Not Session.send: it keeps cookies for all callers, and looks into redirects.
                return self._session.get_adapter(url).send(
                    request,
                    stream=True,
                    timeout=self._timeout,
                    proxies=dict(self._proxies(url)),
                )
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
            raise _translated(error, url) from error


class _Adapter(HTTPAdapter):
    """Makes our connections, with one TLS context for all of them.

    requests would load the CA file anew for each connection.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_connections=_HOSTS, pool_maxsize=_IDLE_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager | PoolManager:  # noqa: ANN401 - as inherited
        known = proxy in self.proxy_manager
        if proxy.lower().startswith("https:"):
            kwargs["proxy_ssl_context"] = self._context
        manager: ProxyManager = super().proxy_manager_for(
            proxy, ssl_context=self._context, **kwargs
        )
        if not known:
            socks = proxy.lower().startswith("socks")
            manager.pool_classes_by_scheme = SOCKS_POOLS if socks else POOLS
        return manager

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        """Leave the certificates to the context."""


def trusted_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """Trust the system's authorities, certifi's, and the bundle's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if ca_bundle is not None:
        context.load_verify_locations(ca_bundle)
    return context


def redacted(url: str) -> str:
    """Return a URL without userinfo and query: signed URLs carry secrets there."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _joined(headers: Headers) -> Mapping[str, str]:
    """Join repeated fields, as RFC 9110, section 5.2 allows: requests takes a mapping."""
    joined: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, value in headers:
        key = names.setdefault(name.lower(), name)
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined


def _translated(error: Exception, url: str) -> RegistryError:
    if _caused_by_client(error):
        return ClientGone()
    host = urlsplit(url).hostname
    kind = type(error).__name__
    if isinstance(error, requests.Timeout):
        logger.warning("An upstream did not answer in time. url=%s error=%s", redacted(url), kind)
        return UpstreamTimeout(f"{host} did not answer in time")
    if isinstance(error, _CANNOT_BE_ASKED):
        return UpstreamMisbehaved(f"{host} cannot be asked")
    logger.warning("An upstream cannot be reached. url=%s error=%s", redacted(url), _reason(error))
    if isinstance(error, requests.exceptions.SSLError):
        return UpstreamUnavailable(f"the TLS certificate of {host} is not trusted or TLS failed")
    return UpstreamUnavailable(f"{host} cannot be reached")


def _caused_by_client(error: BaseException | None) -> bool:
    """Look through what urllib3 and requests wrapped, by `__context__` and in arguments."""
    while error is not None:
        if isinstance(error, ClientLeft):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: BaseException) -> str:
    """Name the innermost cause; the outer ones quote URLs with their queries."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return (
        f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__
    )
