"""The origin of a URL, and the outbound proxy that it is requested through.

An origin is scheme, host and port (RFC 6454, section 4). Credentials are for one origin.
requests cannot choose the proxy: with `trust_env` off it ignores NO_PROXY, and with it on it reads
~/.netrc.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

Origin = tuple[str, str, int]

_URLS: Final = 128
"""URLs whose origin is cached, as many as urllib.parse caches: each is needed several times."""

AUTHORITY: Final = re.compile(
    r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]{1,5})?"
)
"""An authority that all URL parsers read alike: without userinfo, and with no character in the host
that some of them decode."""


@lru_cache(_URLS)
def parse_origin(url: str) -> Origin:
    """Return the scheme, host and port of a URL, with the default port if it names none.

    Raise ValueError if the port is not a number from 0 to 65535.
    """
    parts = urlsplit(url)
    return (
        parts.scheme,
        parts.hostname or "",
        parts.port or (443 if parts.scheme == "https" else 80),
    )


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class _NoProxyEntry:
    """An entry of NO_PROXY: a network, or a name and its subdomains, and optionally a port."""

    name: str
    network: Network | None
    port: int | None

    def covers(self, host: str, port: int | None) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            address = _parse_address(host)
            return address is not None and address in self.network
        if self.name in {"*", host}:
            return True
        return _parse_address(host) is None and host.endswith("." + self.name)


class OutboundProxies:
    """HTTPS_PROXY, HTTP_PROXY and NO_PROXY, applied to each URL, including those of redirects."""

    def __init__(self, *, https: str | None, http: str | None, no_proxy: str) -> None:
        self._proxies = {"https": https, "http": http}
        self._no_proxy_entries = tuple(_parse_no_proxy(no_proxy))
        self._select_cached = lru_cache(maxsize=256)(self._select_proxies)

    def __call__(self, url: str) -> Mapping[str, str]:
        """Return the `proxies` argument of requests for this URL; empty for a direct connection."""
        return self._select_cached(*parse_origin(url))

    def _select_proxies(self, scheme: str, host: str, port: int) -> Mapping[str, str]:
        proxy = self._proxies.get(scheme)
        if not proxy or any(entry.covers(host, port) for entry in self._no_proxy_entries):
            return {}
        return {scheme: proxy if "://" in proxy else f"http://{proxy}"}


def _parse_no_proxy(no_proxy: str) -> list[_NoProxyEntry]:
    entries = [entry.strip().lower() for entry in no_proxy.split(",")]
    return [_parse_entry(entry) for entry in entries if entry]


def _parse_entry(entry: str) -> _NoProxyEntry:
    if network := _parse_network(entry.strip("[]")):
        return _NoProxyEntry("", network, None)
    host, _, port = entry.rpartition(":")
    if host and port.isdigit():
        return _NoProxyEntry(_normalize_domain(host), _parse_network(host.strip("[]")), int(port))
    return _NoProxyEntry(_normalize_domain(entry), None, None)


def _normalize_domain(text: str) -> str:
    """Return a domain without a leading dot or `*.`, which make no difference."""
    return text if text == "*" else text.lstrip("*").lstrip(".")


def _parse_network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
