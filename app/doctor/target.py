"""The target of an examination: the image to pull, the proxy's URL, and the login."""

import base64
import contextlib
import getpass
import re
import sys
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import urlsplit

from app.config.load import read_variable
from app.oci.errors import RegistryError
from app.oci.reference import Reference, RepositoryName, Tag, parse_reference
from app.registries import DOCKER_HUB

# The image to pull, as users write it behind the proxy's address.

DEFAULT: Final = "hello-world"
"""Docker Hub's smallest image: about 13 KB."""


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A tag or digest of a repository; a prefix names its registry, unless that is the default."""

    name: RepositoryName
    reference: Reference

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the image that a text names, by default its tag `latest`; may raise ValueError.

        A digest takes precedence over a tag.
        """
        name, at_sign, digest = text.partition("@")
        path, slash, last = name.rpartition("/")
        last, _, tag = last.partition(":")
        try:
            reference = parse_reference(digest) if at_sign else Tag.parse(tag or "latest")
            return cls(RepositoryName.parse(f"{path}{slash}{last}"), reference)
        except RegistryError as error:
            message = f"{text}: {error}; write an image like hello-world or ghcr.io/owner/app:1"
            raise ValueError(message) from error

    @property
    def registry(self) -> str:
        """The registry that the prefix names, or Docker Hub if there is no prefix."""
        prefix, slash, _ = self.name.partition("/")
        return prefix if slash and "." in prefix else DOCKER_HUB

    @property
    def repository(self) -> str:
        """The name of the repository at its registry, with `library/` if Docker Hub needs it."""
        name = self.name.removeprefix(f"{self.registry}/")
        if self.registry == DOCKER_HUB and "/" not in name:
            return f"library/{name}"
        return name

    def build_manifest_path(self, name: str) -> str:
        """Return the path of the image's manifest with `name` as the repository."""
        return f"/v2/{name}/manifests/{self.reference}"

    def __str__(self) -> str:
        return f"{self.name}{'@' if ':' in self.reference else ':'}{self.reference}"


_PATH: Final = re.compile(r"[!-~]*")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a proxy: scheme, host, port, and the path below which a front serves it.

    `path` is "" if the front serves Docxy at the root.
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the endpoint that a URL names, by default with https; may raise ValueError."""
        parts = urlsplit(text if "://" in text else f"https://{text}")
        if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
            message = f"{text} is not an address like https://proxy.example.com"
            raise ValueError(message)
        path = parts.path.rstrip("/")
        if path.endswith("/v2") or parts.query or parts.fragment or not _PATH.fullmatch(path):
            message = f"{text}: remove /v2 and whatever else clients append to the address"
            raise ValueError(message)
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], path)

    @property
    def authority(self) -> str:
        """The host and port as clients write them, without the scheme's default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_tls(self) -> bool:
        """Whether clients use TLS for this endpoint."""
        return self.scheme == "https"

    @property
    def is_loopback(self) -> bool:
        """Whether Docker would use plain http there without being configured to."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


# The user that the doctor logs in as, and the source of the password.

VARIABLE: Final = "DOCTOR_PASSWORD"
"""The environment variable for the password.

It has no DOCXY_ prefix, which would make it an unknown setting of the proxy.
"""


@dataclass(frozen=True, slots=True)
class UserCredentials:
    """A user of the proxy; the password goes only to its token endpoint, and is never shown."""

    user: str
    password: str = field(repr=False)

    @property
    def authorization_header(self) -> tuple[str, str]:
        """The Authorization header for Basic authentication (RFC 7617)."""
        # Bytes that are not UTF-8 in the environment, or in the input, are sent unchanged.
        text = f"{self.user}:{self.password}".encode(errors="surrogateescape")
        return ("Authorization", f"Basic {base64.b64encode(text).decode()}")


def parse_username(text: str) -> str:
    """Return a user name unchanged; raise ValueError if it cannot be one (RFC 7617)."""
    if not text or ":" in text or not text.isprintable():
        message = "a user name must not be empty or contain a colon (RFC 7617)"
        raise ValueError(message)
    return text


def read_credentials(user: str) -> UserCredentials:
    """Return a login with the password from the environment or the standard input.

    Raise ValueError if there is none. The password is never an argument, because everybody on the
    machine can see those.
    """
    password = read_variable(VARIABLE) or _prompt_password(user)
    if not password:
        message = f"there is no password: set {VARIABLE}, or write it to standard input"
        raise ValueError(message)
    return UserCredentials(user, password)


def _prompt_password(user: str) -> str:
    if sys.stdin.isatty():
        with contextlib.suppress(EOFError):
            return getpass.getpass(f"Password of {user}: ")
        return ""
    return sys.stdin.readline().rstrip("\r\n")


def find_login_obstacle(endpoint: Endpoint, *, is_trusted: bool) -> str:
    """Return why a password must not be sent to an endpoint, or "" if it may be."""
    if endpoint.is_tls:
        return "" if is_trusted else "the certificate is not trusted, so no password is sent"
    return "" if endpoint.is_loopback else "a password is not sent over plain http"
