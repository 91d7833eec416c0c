"""Choose the outbound proxy, if any, for a URL.

requests cannot do it: with `trust_env` off it ignores NO_PROXY, and with it on it reads ~/.netrc.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class _Exempt:
    """An entry of NO_PROXY: a network, or a name and its subdomains, and optionally a port."""

    name: str
    network: Network | None
    port: int | None

    def covers(self, host: str, port: int | None) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            address = _address(host)
            return address is not None and address in self.network
        if self.name in {"*", host}:
            return True
        return _address(host) is None and host.endswith("." + self.name)


class OutboundProxies:
    """HTTPS_PROXY, HTTP_PROXY and NO_PROXY, applied to each URL, including those of redirects."""

    def __init__(self, *, https: str | None, http: str | None, no_proxy: str) -> None:
        self._proxies = {"https": https, "http": http}
        self._exempts = tuple(_exempts(no_proxy))
        self._cached = lru_cache(maxsize=256)(self._for_origin)

    def __call__(self, url: str) -> Mapping[str, str]:
        """Return the `proxies` argument of requests for this URL; empty for a direct connection."""
        parts = urlsplit(url)
        return self._cached(parts.scheme, parts.hostname or "", _port(parts.scheme, parts.port))

    def _for_origin(self, scheme: str, host: str, port: int) -> Mapping[str, str]:
        proxy = self._proxies.get(scheme)
        if not proxy or any(entry.covers(host, port) for entry in self._exempts):
            return {}
        return {scheme: proxy if "://" in proxy else f"http://{proxy}"}


def _exempts(no_proxy: str) -> list[_Exempt]:
    entries = [entry.strip().lower() for entry in no_proxy.split(",")]
    return [_exempt(entry) for entry in entries if entry]


def _exempt(entry: str) -> _Exempt:
    if network := _network(entry.strip("[]")):
        return _Exempt("", network, None)
    host, _, port = entry.rpartition(":")
    if host and port.isdigit():
        return _Exempt(_name(host), _network(host.strip("[]")), int(port))
    return _Exempt(_name(entry), None, None)


def _name(text: str) -> str:
    """Return a domain without a leading dot or `*.`, which make no difference."""
    return text if text == "*" else text.lstrip("*").lstrip(".")


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _port(scheme: str, port: int | None) -> int:
    return port or (443 if scheme == "https" else 80)
