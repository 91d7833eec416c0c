"""The HTTP session of one registry.

It brings together the connection pools, the trusted authorities, the outbound proxies, the address
check and the circuit breakers. It keeps no cookies and does not read ~/.netrc.
"""

import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager, ProxyManager
from urllib3.connectionpool import ConnectionPool
from urllib3.util import SKIP_HEADER

from app.addresses import is_special_host, parse_literal
from app.events import NOBODY, Event, Observer
from app.oci.errors import ClientGone, RegistryError, UpstreamTimeout
from app.oci.headers import Headers
from app.threads import ResolutionTimeout
from app.upstream.http import errors
from app.upstream.http.backoff import CircuitBreakers
from app.upstream.http.body import ObservedResponse
from app.upstream.http.connect import AddressForbidden, Connector
from app.upstream.http.deadlines import NO_LIMIT, Call, bind_call
from app.upstream.http.pools import Pools, build_trusted_context
from app.upstream.http.urls import OutboundProxies, parse_origin

_IDLE_CONNECTIONS: Final = 256
"""Idle connections kept per host. Connections beyond this number are opened and then closed."""

_HOSTS: Final = 64
"""Hosts whose connections are kept: the registry, its token service and its CDNs."""


_is_special_host: Final = lru_cache(maxsize=256)(is_special_host)


class Session:
    """A `requests.Session` for one registry, safe to use from many threads at once.

    Each origin has a circuit breaker (see backoff.py).
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        *,
        ca_bundles: Sequence[str],
        proxies: OutboundProxies,
        connect_timeout: float,
        read_timeout: float,
        connector: Connector,
        observer: Observer = NOBODY,
    ) -> None:
        self.observer = observer
        self._public_only: Session | None = None
        self._build_public_only = partial(
            Session,
            ca_bundles=ca_bundles,
            proxies=proxies,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            connector=replace(connector, allow_private=False),
            observer=observer,
        )
        self._proxies = proxies
        self._allow_private = connector.allow_private
        self._timeout = (connect_timeout, read_timeout)
        self.total_timeout = 2 * max(connect_timeout, read_timeout)
        """Seconds allowed in all for a response head, or for a small body, however slowly it
        arrives."""
        self._session = requests.Session()
        # With trust_env, requests would replace the client's Authorization with credentials from
        # ~/.netrc. The environment is read elsewhere.
        self._session.trust_env = False
        self._breakers = CircuitBreakers(observer)
        adapter = _Adapter(
            build_trusted_context(*ca_bundles), Pools.for_connector(connector), observer
        )
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    @property
    def public_only(self) -> "Session":
        """The same session restricted to public addresses, created on first use.

        It is this session if this one is restricted already.
        """
        if not self._allow_private:
            return self
        if self._public_only is None:
            self._public_only = self._build_public_only()
        return self._public_only

    def refuse_proxy_resolution(self, url: str) -> None:
        """Raise UpstreamForbidden if an outbound proxy would resolve the host name of `url`.

        We can check an address before connecting only if we resolve the name ourselves.
        """
        proxies = self._proxies(url).values()
        host = urlsplit(url).hostname or ""
        if parse_literal(host) is None and any(map(_is_resolving_proxy, proxies)):
            error = AddressForbidden(f"{host} would be resolved by the outbound proxy")
            raise errors.translate_error(error, url)

    def send(
        self,
        method: str,
        url: str,
        headers: Headers,
        *,
        call: Call = NO_LIMIT,
        body: bytes | Iterable[bytes] | None = None,
    ) -> requests.Response:
        """Send one request and return the response, with its head read and its body unread.

        Do not follow redirects. If the client of `call` disconnects, stop reading, then and later.
        Raise UpstreamUnavailable, UpstreamTimeout, UpstreamMisbehaved, UpstreamForbidden or
        ClientGone.
        """
        request = _prepare_request(method, url, headers, body)
        started_at = time.monotonic()
        try:
            response = self._send_guarded(request, call, url)
        except ResolutionTimeout as error:  # translated here, so that the breaker does not count it
            registry_error = errors.translate_error(error, url)
            self.observer.observe(Event.REQUEST_FAILED, errors.label(registry_error))
            raise registry_error from error
        except ClientGone:
            raise
        except RegistryError as error:
            self.observer.observe(Event.REQUEST_FAILED, errors.label(error))
            raise
        self.observer.observe(
            Event.RESPONSE_RECEIVED, str(response.status_code), time.monotonic() - started_at
        )
        return response

    def _send_guarded(
        self, request: requests.PreparedRequest, call: Call, url: str
    ) -> requests.Response:
        origin = parse_origin(url)
        timeouts = self._compute_timeouts(origin[1], call)
        with self._breakers.get_breaker(origin).guard(origin[1]):
            try:
                return self._send(request, call.limit_time(self.total_timeout), timeouts)
            except errors.FAILURES as error:
                raise errors.translate_error(error, url) from error

    def _compute_timeouts(self, host: str, call: Call) -> tuple[float, float]:
        """Return the connect timeout and the idle timeout of a read, in seconds.

        Raise UpstreamTimeout if the deadline of the call has passed.
        """
        connect, read = self._timeout
        try:
            return call.seconds_left(connect), read
        except TimeoutError as error:  # earlier requests used it up: not this host's fault
            message = f"{host}: {UpstreamTimeout.message}"
            raise UpstreamTimeout(message) from error

    def _send(
        self, request: requests.PreparedRequest, call: Call, timeouts: tuple[float, float]
    ) -> requests.Response:
        url = str(request.url)
        proxies = self._proxies(url)
        if proxies and not self._allow_private:
            _refuse_special(url)
        self.observer.observe(Event.REQUEST_SENT)
        with bind_call(call):
            # requests.Session.send would share cookies between callers and examine redirects.
            return self._session.get_adapter(url).send(
                request, stream=True, timeout=timeouts, proxies=dict(proxies)
            )


def _is_resolving_proxy(proxy: str) -> bool:
    """Return True if an outbound proxy resolves names itself.

    With `socks5://` we resolve and check the name, and give the proxy an address.
    """
    return urlsplit(proxy).scheme != "socks5"


def _refuse_special(url: str) -> None:
    """Raise AddressForbidden if the URL must not be requested from an outbound proxy.

    The proxy may resolve names itself, so this check relies only on the text of the URL.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    # urllib3 ends the host at a backslash, and would ask the proxy for a different host.
    if _is_special_host(host) or "\\" in parts.netloc:
        message = f"{host} is {parse_literal(host) or 'no name that a proxy may be asked for'}"
        raise AddressForbidden(message)


class _Adapter(HTTPAdapter):
    """An adapter that uses our connection classes and one TLS context for all connections.

    requests would load the CA file again for each connection.
    """

    def __init__(self, context: ssl.SSLContext, pools: Pools, observer: Observer) -> None:
        self._context = context
        self._observer = observer
        self._pools = pools
        super().__init__(pool_connections=_HOSTS, pool_maxsize=_IDLE_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools.direct

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager | PoolManager:  # noqa: ANN401 - as inherited
        is_known = proxy in self.proxy_manager
        if proxy.lower().startswith("https:"):
            kwargs["proxy_ssl_context"] = self._context
        manager: ProxyManager = super().proxy_manager_for(
            proxy, ssl_context=self._context, **kwargs
        )
        if not is_known:
            is_socks = proxy.lower().startswith("socks")
            manager.pool_classes_by_scheme = (
                self._pools.socks if is_socks else self._pools.http_proxy
            )
        return manager

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: Any,  # noqa: ANN401 - as inherited
        proxies: Any = None,  # noqa: ANN401 - as inherited
        cert: Any = None,  # noqa: ANN401 - as inherited
    ) -> ConnectionPool:
        """Return the connection pool of the request's origin.

        Without a proxy, the scheme, host and port are enough to find it.
        """
        if proxies:
            return super().get_connection_with_tls_context(request, verify, proxies, cert)
        parts = urlsplit(request.url or "")
        manager: PoolManager = self.poolmanager
        return manager.connection_from_host(parts.hostname, parts.port, parts.scheme)

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:  # noqa: ANN401 - as inherited
        """Return the request target; only a proxy for plain HTTP needs an absolute URL."""
        return super().request_url(request, proxies) if proxies else request.path_url

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        """Do nothing: the TLS context verifies certificates."""

    def build_response(
        self, req: requests.PreparedRequest, resp: urllib3.BaseHTTPResponse
    ) -> requests.Response:
        """Return an `ObservedResponse` with the attributes that this proxy reads.

        Cookies and the text encoding are not set.
        """
        response = ObservedResponse(self._observer, getattr(resp, "_original_response", None))
        response.status_code = resp.status
        response.headers = resp.headers  # type: ignore[assignment] # equivalent, without a copy
        response.raw = resp
        response.reason = resp.reason or ""
        response.url = req.url or ""
        response.request = req
        return response


def _prepare_request(
    method: str, url: str, headers: Headers, body: bytes | Iterable[bytes] | None
) -> requests.PreparedRequest:
    """Return a prepared request that holds exactly these values.

    `prepare()` would add headers and parse the URL again.
    """
    request = requests.PreparedRequest()
    request.method = method
    request.url = url
    request.headers = requests.structures.CaseInsensitiveDict(_join_fields(headers))
    request.headers.setdefault("User-Agent", SKIP_HEADER)
    request.body = body  # type: ignore[assignment] # requests takes an iterable too
    return request


def _join_fields(headers: Headers) -> Mapping[str, str]:
    """Join repeated fields with commas (RFC 9110, section 5.2), since requests takes a mapping."""
    joined: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, value in headers:
        key = names.setdefault(name.lower(), name)
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined
