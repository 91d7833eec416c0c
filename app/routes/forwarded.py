"""The client's address and this proxy's own URL, as trusted servers in front report them."""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from app.access.networks import Networks, parse_address
from app.oci.errors import HostInvalid

Environ = Mapping[str, Any]

_HOST: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
)
_MAX_HOST_LENGTH: Final = 300
"""The maximum length of a Host; a DNS name has at most 253. Longer ones are refused."""
_MAX_PORT: Final = 65535
_PORT: Final = re.compile(r":[0-9]+$")
_HOP: Final = re.compile(r"(?:(?P<four>[0-9.]+)|\[(?P<six>[0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")
_UNREAD_HEADERS: Final = ("HTTP_FORWARDED", "HTTP_X_REAL_IP")
"""Other headers, which are not read, in which servers in front name the client."""

_CACHE_SIZE: Final = 1024
"""The number of peers, and of authorities, whose check is cached."""


class ForwardedHeaders:
    """Reads X-Forwarded-For, -Proto and -Host, from trusted peers only.

    If several servers append to one header, the nearest server wrote the last value, which is the
    only one that no client can have written.
    """

    def __init__(
        self, *, trusted: str, public_url: str | None, hosts: Collection[str] = ()
    ) -> None:
        """Take the `trusted` networks and the `hosts` that stand for one registry.

        `public_url` is this proxy's URL, or None to take it from each request.
        """
        self._trusted = Networks(trusted)
        self._public_url = public_url
        self._hosts = frozenset(hosts)
        # Each request asks about the same few servers, several times.
        self._is_trusted_cached = lru_cache(_CACHE_SIZE)(self._is_trusted)

    def get_client_address(self, environ: Environ) -> str:
        """Return the client's address: the nearest one that is not a trusted server's.

        It is "" for a request through a Unix socket, unless X-Forwarded-For names the client.
        """
        return self._resolve_client(environ)[0]

    def build_base_url(self, environ: Environ) -> str:
        """Return the URL by which clients reach this proxy, without a trailing slash.

        A host that stands for one registry is kept, because under another host the same path
        would address another registry.
        Raise HostInvalid if the Host cannot be part of a URL.
        """
        if self._public_url:
            if not self._hosts or self.get_host(environ) not in self._hosts:
                return self._public_url
            return f"{self._public_url.partition('://')[0]}://{self._get_authority(environ)}"
        scheme = str(environ["wsgi.url_scheme"])
        if self._is_peer_trusted(environ):
            forwarded_scheme = _get_last_value(environ, "HTTP_X_FORWARDED_PROTO").lower()
            scheme = forwarded_scheme if forwarded_scheme in {"http", "https"} else scheme
        return f"{scheme}://{self._get_authority(environ)}"

    def get_host(self, environ: Environ) -> str:
        """Return the host name of the request, in lower case, without a port.

        Raise HostInvalid if it cannot be part of a URL.
        """
        return _PORT.sub("", self._get_authority(environ)).lower().rstrip(".")

    def is_client_known(self, environ: Environ) -> bool:
        """Return whether the address is that of the client, and not of a server in front of it.

        It is a server's address if an untrusted server sends X-Forwarded-For, if the header cannot
        be read, or if the client is named only in headers that are not read here.
        """
        if environ.get("HTTP_X_FORWARDED_FOR"):
            return self._is_peer_trusted(environ) and self._resolve_client(environ)[1]
        return not any(environ.get(name) for name in _UNREAD_HEADERS)

    def can_distinguish_clients(self, environ: Environ) -> bool:
        """Return whether clients have addresses of their own, not one of a server in front of many.

        A trusted server that does not name the client stands for all of its clients. So does a peer
        without an address, which is connected through a Unix socket.
        """
        peer = str(environ.get("REMOTE_ADDR", ""))
        return not self._is_trusted_cached(peer) or self.get_client_address(environ) != peer

    def _resolve_client(self, environ: Environ) -> tuple[str, bool]:
        """Return the client's address as far as trusted servers report it.

        The second value is false if an address along the way could not be read.
        """
        address = str(environ.get("REMOTE_ADDR", ""))
        hops = [hop.strip() for hop in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",")]
        forwarded_hops = [hop for hop in hops if hop]
        if self._trusted.includes_all:
            # If every peer is trusted, only the nearest server is: a client may have written the
            # values before its own.
            forwarded_hops = forwarded_hops[-1:]
        for hop in reversed(forwarded_hops):
            if not self._is_trusted_cached(address):
                break
            hop_address = _strip_port(hop)
            if parse_address(hop_address) is None:
                return address, False
            address = hop_address
        return address, True

    def _get_authority(self, environ: Environ) -> str:
        forwarded_authority = (
            _get_last_value(environ, "HTTP_X_FORWARDED_HOST")
            if self._is_peer_trusted(environ)
            else ""
        )
        authority = forwarded_authority or _get_own_authority(environ)
        if len(authority) > _MAX_HOST_LENGTH or not _is_authority(authority):
            raise HostInvalid
        return authority

    def _is_peer_trusted(self, environ: Environ) -> bool:
        return self._is_trusted_cached(str(environ.get("REMOTE_ADDR", "")))

    def _is_trusted(self, peer: str) -> bool:
        # A peer without an address is connected through a Unix socket, which only servers on this
        # machine can reach.
        return not peer or peer in self._trusted


@lru_cache(_CACHE_SIZE)
def _is_authority(text: str) -> bool:
    """Return whether a text is a host with an optional port that urlsplit can parse."""
    match = _HOST.fullmatch(text)
    if match is None or int(match["port"] or 0) > _MAX_PORT:
        return False
    return match["six"] is None or parse_address(match["six"]) is not None


def _get_own_authority(environ: Environ) -> str:
    """Return the Host header, or the server's own address for HTTP/1.0 clients that send none."""
    host = str(environ.get("HTTP_HOST", ""))
    if host:
        return host
    name = str(environ["SERVER_NAME"])
    return f"{f'[{name}]' if ':' in name else name}:{environ['SERVER_PORT']}"


def _get_last_value(environ: Environ, name: str) -> str:
    return str(environ.get(name, "")).rpartition(",")[2].strip()


def _strip_port(hop: str) -> str:
    """Return the address in `192.0.2.1:5000`, as IIS and Azure write it, or in `[2001:db8::1]`."""
    match = _HOP.fullmatch(hop)
    return (match["four"] or match["six"]) if match else hop
