"""Where the proxy is said to be: its URL, taken apart."""

import base64
import contextlib
import getpass
import re
import sys
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import urlsplit

from app.config.load import told
from app.oci.errors import RegistryError
from app.oci.reference import Reference, RepositoryName, Tag, parse_reference
from app.registries import DOCKER_HUB

# The image to pull, as one writes it behind the proxy's address.

DEFAULT: Final = "hello-world"
"""Docker Hub's smallest: some 13 KB."""


@dataclass(frozen=True, slots=True)
class Image:
    """A repository, by prefix or of the default registry, and a tag or digest."""

    name: RepositoryName
    reference: Reference

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what is meant; raise ValueError."""
        rest, at, digest = text.partition("@")
        path, slash, last = rest.rpartition("/")
        last, _, tag = last.partition(":")
        try:
            reference = parse_reference(digest) if at else Tag.parse(tag or "latest")
            return cls(RepositoryName.parse(f"{path}{slash}{last}"), reference)
        except RegistryError as error:
            message = f"{text}: {error}; write an image like hello-world or ghcr.io/owner/app:1"
            raise ValueError(message) from error

    @property
    def registry(self) -> str:
        """Return the registry that a prefix names, or Docker Hub."""
        first, slash, _ = self.name.partition("/")
        return first if slash and "." in first else DOCKER_HUB

    @property
    def repository(self) -> str:
        """Return the name that the registry itself has for it."""
        name = self.name.removeprefix(f"{self.registry}/")
        if self.registry == DOCKER_HUB and "/" not in name:
            return f"library/{name}"
        return name

    def by(self, name: str) -> str:
        """Return the path of its manifest, with the repository called so."""
        return f"/v2/{name}/manifests/{self.reference}"

    def __str__(self) -> str:
        return f"{self.name}{'@' if ':' in self.reference else ':'}{self.reference}"


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


# Whom the doctor logs in as, and where its password comes from.

VARIABLE: Final = "DOCTOR_PASSWORD"
"""Not DOCXY_...: that would be a setting of the proxy that there is not."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user of the proxy; the password is for its token endpoint, and is shown nowhere."""

    user: str
    password: str = field(repr=False)

    @property
    def header(self) -> tuple[str, str]:
        """Return the field that says so (RFC 7617)."""
        # What is not UTF-8 in the environment, or in the input, goes on as it came.
        text = f"{self.user}:{self.password}".encode(errors="surrogateescape")
        return ("Authorization", f"Basic {base64.b64encode(text).decode()}")


def name(text: str) -> str:
    """Return the name of a user; raise ValueError."""
    if not text or ":" in text or not text.isprintable():
        message = "a user name is not empty, and has no colon (RFC 7617)"
        raise ValueError(message)
    return text


def read(user: str) -> Login:
    """Return a login, its password from the environment or the standard input; raise ValueError.

    Never from an argument, which everybody on the machine can see.
    """
    password = told(VARIABLE) or _asked(user)
    if not password:
        message = f"there is no password: set {VARIABLE}, or write it to the standard input"
        raise ValueError(message)
    return Login(user, password)


def _asked(user: str) -> str:
    if sys.stdin.isatty():
        with contextlib.suppress(EOFError):
            return getpass.getpass(f"Password of {user}: ")
        return ""
    return sys.stdin.readline().rstrip("\r\n")


def why_not(place: Place, *, is_trusted: bool) -> str:
    """Return why a password must not be sent there, or ""."""
    if place.is_tls:
        return "" if is_trusted else "nobody trusts the certificate, so it gets no password"
    return "" if place.is_loopback else "a password is not sent over plain http"
