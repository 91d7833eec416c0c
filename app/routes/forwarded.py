"""Who asks, and how this proxy is called, as far as the servers in front may be believed."""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from app.access.networks import Networks, address_of
from app.oci.errors import HostInvalid

Environ = Mapping[str, Any]

_HOST: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
)
_LONGEST_HOST: Final = 300
"""Characters; 253 are the most that a name has. What is longer is not remembered either."""
_LAST_PORT: Final = 65535
_PORT: Final = re.compile(r":[0-9]+$")
_HOP: Final = re.compile(r"(?:(?P<four>[0-9.]+)|\[(?P<six>[0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")
_OTHER_WAYS: Final = ("HTTP_FORWARDED", "HTTP_X_REAL_IP")
"""In what else servers in front say who asks."""

_KNOWN: Final = 1024
"""Peers of which it is remembered whether they are trusted."""


class Forwarded:
    """Reads X-Forwarded-For, -Proto and -Host, from trusted peers only.

    Where several servers append to one header, the last value is the nearest server's own word,
    and the only one that no client can have written.
    """

    def __init__(
        self, *, trusted: str, public_url: str | None, hosts: Collection[str] = ()
    ) -> None:
        """Keep the `hosts` that stand for one registry, beside the one of `public_url`."""
        self._trusted = Networks(trusted)
        self._public_url = public_url
        self._hosts = frozenset(hosts)
        # Each request asks it of the same few servers, several times.
        self._trusts = lru_cache(_KNOWN)(self._judge)

    def client(self, environ: Environ) -> str:
        """Return the address of the client: the last one that no trusted server vouches for."""
        return self._followed(environ)[0]

    def base_url(self, environ: Environ) -> str:
        """Return the URL that clients reach this proxy by, without a slash at its end.

        A host that stands for one registry stays what it is, since elsewhere it would be another
        registry.
        Raise HostInvalid for a Host that cannot be part of one.
        """
        if self._public_url:
            if not self._hosts or self.host(environ) not in self._hosts:
                return self._public_url
            return f"{self._public_url.partition('://')[0]}://{self._authority(environ)}"
        scheme = str(environ["wsgi.url_scheme"])
        if self._trusts_peer(environ):
            told = _last(environ, "HTTP_X_FORWARDED_PROTO").lower()
            scheme = told if told in {"http", "https"} else scheme
        return f"{scheme}://{self._authority(environ)}"

    def host(self, environ: Environ) -> str:
        """Return the host name that the client asked, without a port; raise HostInvalid."""
        return _PORT.sub("", self._authority(environ)).lower().rstrip(".")

    def is_known(self, environ: Environ) -> bool:
        """Tell whether `client` is the client, and no server in front.

        One that is not trusted is in front, or one that says in another way, or in one that
        cannot be read, for whom it asks.
        """
        if environ.get("HTTP_X_FORWARDED_FOR"):
            return self._trusts_peer(environ) and self._followed(environ)[1]
        return not any(environ.get(name) for name in _OTHER_WAYS)

    def tells_clients_apart(self, environ: Environ) -> bool:
        """Tell whether `client` is one client, and not a trusted server in front of many.

        One that does not say for whom it asks is taken for all of them; so is one without an
        address, which came through a Unix socket.
        """
        peer = str(environ.get("REMOTE_ADDR", ""))
        return not self._trusts(peer) or self.client(environ) != peer

    def _followed(self, environ: Environ) -> tuple[str, bool]:
        """Return the last address that is vouched for, and whether all could be read."""
        address = str(environ.get("REMOTE_ADDR", ""))
        hops = [hop.strip() for hop in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",")]
        told = [hop for hop in hops if hop]
        if self._trusted.are_all:
            # Who trusts everyone trusts the nearest server, not what a client wrote before it.
            told = told[-1:]
        for hop in reversed(told):
            if not self._trusts(address):
                break
            hop_address = _without_port(hop)
            if address_of(hop_address) is None:
                return address, False
            address = hop_address
        return address, True

    def _authority(self, environ: Environ) -> str:
        told = _last(environ, "HTTP_X_FORWARDED_HOST") if self._trusts_peer(environ) else ""
        authority = told or _own_authority(environ)
        if len(authority) > _LONGEST_HOST or not _is_authority(authority):
            raise HostInvalid
        return authority

    def _trusts_peer(self, environ: Environ) -> bool:
        return self._trusts(str(environ.get("REMOTE_ADDR", "")))

    def _judge(self, peer: str) -> bool:
        # A peer without an address came through a Unix socket: only this machine's servers can.
        return not peer or peer in self._trusted


@lru_cache(_KNOWN)
def _is_authority(text: str) -> bool:
    """Tell whether a text is one that urlsplit takes apart."""
    found = _HOST.fullmatch(text)
    if found is None or int(found["port"] or 0) > _LAST_PORT:
        return False
    return found["six"] is None or address_of(found["six"]) is not None


def _own_authority(environ: Environ) -> str:
    """Return the Host header, or for HTTP/1.0 clients without one the address they connected to."""
    host = str(environ.get("HTTP_HOST", ""))
    if host:
        return host
    name = str(environ["SERVER_NAME"])
    return f"{f'[{name}]' if ':' in name else name}:{environ['SERVER_PORT']}"


def _last(environ: Environ, name: str) -> str:
    return str(environ.get(name, "")).rpartition(",")[2].strip()


def _without_port(hop: str) -> str:
    """Return the address of `192.0.2.1:5000`, as IIS and Azure write it, or `[2001:db8::1]`."""
    found = _HOP.fullmatch(hop)
    return (found["four"] or found["six"]) if found else hop
