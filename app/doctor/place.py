"""Where the proxy is said to be: its URL, taken apart."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import urlsplit

_PATH: Final = re.compile(r"[!-~]*")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Place:
    """A scheme, a host, a port, and the path below which a front may have put Docxy."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a person writes, https:// left out or not; raise ValueError."""
        parts = urlsplit(text if "://" in text else f"https://{text}")
        if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
            message = f"{text} is no address like https://proxy.example.com"
            raise ValueError(message)
        path = parts.path.rstrip("/")
        if path.endswith("/v2") or parts.query or parts.fragment or not _PATH.fullmatch(path):
            message = f"{text}: leave out /v2 and what else clients put behind the address"
            raise ValueError(message)
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], path)

    @property
    def authority(self) -> str:
        """Return host and port as clients write them, without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_tls(self) -> bool:
        """Whether clients are to speak TLS."""
        return self.scheme == "https"

    @property
    def is_loopback(self) -> bool:
        """Whether Docker would speak plain http there without being told to."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"
