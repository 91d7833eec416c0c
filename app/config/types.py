"""The types of settings; the ValueError for a wrong value says how to correct the value."""

import base64
import contextlib
import ipaddress
import json
import re
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from app.registries import WELL_KNOWN

_PROXY_SCHEMES: Final = frozenset({"http", "https", "socks5", "socks5h"})
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]+)?")
_UNSAFE_IN_URL: Final = re.compile(r"[\x00-\x20\"<>\\^`{|}\x7f]")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_SIZE: Final = re.compile(
    r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?(?:([KMGTP]i?)?B|([KMGTP]i?))?", re.IGNORECASE
)
_MIN_WITHOUT_UNIT: Final = 1 << 20
"""Bytes; a smaller number most likely lacks its `GB`, and would make a cache that holds nothing."""
_MIN_LIKELY_MEGABYTES: Final = 1000
"""A number as large as this, or larger, more likely means megabytes than gigabytes."""
_LOCATION_PATTERN: Final = re.compile(r"/(?:[A-Za-z0-9._-]+/)+")


class SettingFiles:
    """The contents of the files that settings name.

    Each file is read once, when a setting is checked. One process can hand what it has read to
    another, which then checks the same settings without reading the disk.
    """

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self.is_inherited = False
        """Whether another process has read these files and accepted their contents."""

    @classmethod
    def from_dump(cls, dump: bytes) -> Self:
        """Return the files that another process has read; `dump` is the result of its `dump()`."""
        files = cls()
        contents = json.loads(dump)
        files._contents = {path: base64.b64decode(text) for path, text in contents.items()}
        files.is_inherited = True
        return files

    @staticmethod
    def current() -> "SettingFiles":
        """Return the files of the current check, or else a new set that reads the disk."""
        return _FILES.get() or SettingFiles()

    def dump(self) -> bytes:
        """Return all contents read so far, as JSON for `from_dump`. They include secrets."""
        contents = self._contents.items()
        return json.dumps(
            {path: base64.b64encode(content).decode("ascii") for path, content in contents}
        ).encode()

    def read(self, path: Path, reader: Callable[[Path], bytes] = Path.read_bytes) -> bytes:
        """Return the content of a file, read by `reader` if it has not been read before.

        Raise what `reader` raises, which is OSError by default.
        """
        # Inherited contents may lack a file: a newer release can name more files.
        if str(path) not in self._contents:
            self._contents[str(path)] = reader(path)
        return self._contents[str(path)]

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Make these the current files for settings that are checked inside the context."""
        token = _FILES.set(self)
        try:
            yield
        finally:
            _FILES.reset(token)


_FILES: Final[ContextVar[SettingFiles | None]] = ContextVar("files", default=None)
"""A context variable, since pydantic-settings passes no validation context to validators."""


class MachineFault(ValueError):
    """The machine, not the value, is at fault: another attempt may succeed with the same value."""


class ByteSize(int):
    """A number of bytes whose text has the largest binary unit that divides it, like `5GiB`."""

    def __str__(self) -> str:
        number, unit = int(self), ""
        for next_unit in ("KiB", "MiB", "GiB", "TiB"):
            if not number or number % 1024:
                break
            number, unit = number // 1024, next_unit
        return f"{number}{unit}"


def _parse_base_url(text: str) -> str:
    parts = _split_url(text)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        message = "write a complete URL, like https://registry.example"
        raise ValueError(message)
    if "@" in parts.netloc:
        message = "the URL must not contain a user name or password"
        raise ValueError(message)
    if parts.query or parts.fragment:
        message = "the URL must not contain ? or #"
        raise ValueError(message)
    if parts.path.rstrip("/").endswith("/v2"):
        message = "remove /v2 from the end"
        raise ValueError(message)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port
    authority = host if port in {None, _DEFAULT_PORTS[parts.scheme]} else f"{host}:{port}"
    return f"{parts.scheme}://{authority}{parts.path.rstrip('/')}"


def _split_url(text: str) -> SplitResult:
    """Return the parts of a URL; raise ValueError if it is malformed.

    The error of the standard library is not passed on, since its message may quote a password.
    """
    try:
        if _UNSAFE_IN_URL.search(text):
            raise ValueError  # noqa: TRY301 - one message for all
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        message = "not a valid URL: check the port, and the brackets around an IPv6 address"
        raise ValueError(message) from None
    return parts


def read_setting_file(path: object, reader: Callable[[Path], bytes] = Path.read_bytes) -> bytes:
    """Return the content of a file that a setting names; raise ValueError if it cannot be read."""
    if not isinstance(path, str | Path):
        message = "write the path of a file"
        raise ValueError(message)  # noqa: TRY004 - pydantic lets a TypeError through
    try:
        return SettingFiles.current().read(Path(path), reader)
    except OSError as error:
        message = f"the file cannot be read ({error.strerror})"
        raise ValueError(message) from error


def _parse_registry_name(text: str) -> str:
    if not _HOST_NAME.fullmatch(text) or ".." in text or not text[0].isalnum():
        message = "write the registry's host name, like docker.io"
        raise ValueError(message)
    return text.lower().removesuffix(":443")


def _parse_registry_alias(text: str) -> str:
    name = _parse_registry_name(text)
    if name == "library":
        message = "library is the namespace of Docker Hub's official images"
        raise ValueError(message)
    return name


def _check_username(text: str) -> str:
    if ":" in text:
        message = "a user name must not contain a colon (RFC 7617)"
        raise ValueError(message)
    return text


def _parse_own_host(text: str) -> str:
    if not _HOST_NAME.fullmatch(text) or ":" in text:
        message = "write a host name of this proxy without a port, like ghcr.proxy.example"
        raise ValueError(message)
    return text.lower()


def _read_password(path: object) -> SecretStr:
    """Return the password in a file, without the line end that editors add."""
    try:
        text = read_setting_file(path).decode("utf-8")
    except UnicodeDecodeError:
        message = "the file is not UTF-8"
        raise ValueError(message) from None
    if not (secret := text.removesuffix("\n").removesuffix("\r")):
        message = "the file is empty"
        raise ValueError(message)
    return SecretStr(secret)


def _parse_well_known(value: object) -> object:
    """Return the names of well-known registries in `all`, `none`, or comma-separated names.

    In the file of DOCXY_CONFIG, the value may also be a list of names.
    """
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        message = "write all, none, or names like ghcr.io,quay.io"
        raise ValueError(message)
    names = [name.strip().lower() for name in names if name.strip()]
    if names == ["all"]:
        return tuple(WELL_KNOWN)
    if names == ["none"]:
        return ()
    for name in names:
        if name not in WELL_KNOWN:
            message = (
                f"{name} is not among {', '.join(WELL_KNOWN)}; "
                "add any other registry as a table [[registries]] in the file"
            )
            raise ValueError(message)
    return tuple(dict.fromkeys(names))


def _check_trusted_peers(text: str) -> str:
    for entry in text.split(","):
        address = entry.strip()
        if address in {"", "*"}:
            continue
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError as error:
            message = f"{address} is not an address, a network or *"
            raise ValueError(message) from error
    return text


def _check_client_networks(text: str) -> str:
    if not text.replace(",", "").strip():
        message = "write at least one address or network, like 10.0.0.0/8"
        raise ValueError(message)
    return _check_trusted_peers(text)


def _read_authorities(path: object) -> str:
    """Return the PEM text of a file; comments between certificates may have any encoding."""
    text = read_setting_file(path).decode("ascii", "ignore")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:  # ValueError: the text is empty
        message = "the file contains no PEM certificate"
        raise ValueError(message) from error
    return text


def _check_proxy_url(secret: SecretStr) -> SecretStr:
    """Return the URL of an outbound proxy; raise ValueError without revealing its password."""
    text = secret.get_secret_value()
    parts = _split_url(text if "://" in text else f"http://{text}")
    if parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
        message = "write a URL like http://proxy.example:3128 or socks5h://127.0.0.1:1080"
        raise ValueError(message)
    return secret


def _parse_size(value: object) -> object:
    """Return the bytes that `50GB`, `10GiB` or a plain number stands for.

    A number below 1 MiB needs a unit, since hardly anybody means so few bytes. Values of other
    types are returned as they are.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        message = "write a size like 50GB or 10GiB"
        raise ValueError(message)
    number, unit = Decimal(match[1]), (match[2] or match[3] or "").upper()
    has_unit = match[0][-1:].isalpha()
    if not has_unit and 0 < number < _MIN_WITHOUT_UNIT:
        likely_unit = "GB" if number < _MIN_LIKELY_MEGABYTES else "MB"
        message = (
            f"{match[1]} without a unit means bytes; did you mean {match[1]}{likely_unit}? "
            f"Write {match[1]}B for bytes"
        )
        raise ValueError(message)
    base = 1024 if unit.endswith("I") else 1000
    return int(number * base ** " KMGTP".index(unit[:1] or " "))


def _check_cache_directory(path: Path) -> Path:
    """Return the absolute path of a directory; raise MachineFault if it is not writable.

    A directory that does not exist is not created here: the process that uses it creates it.
    """
    path = path.absolute()
    if (
        SettingFiles.current().is_inherited
    ):  # a full disk must not stop a worker that replaces another
        return path
    try:
        existing = next(candidate for candidate in (path, *path.parents) if candidate.exists())
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        message = f"the directory cannot be written ({error.strerror})"
        raise MachineFault(message) from error
    return path


def _check_accel_location(text: str) -> str:
    if not _LOCATION_PATTERN.fullmatch(text) or "/." in text:
        message = "write a path that begins and ends with a slash, like /docxy-cache/"
        raise ValueError(message)
    return text


BaseUrl = Annotated[str, AfterValidator(_parse_base_url)]
AuthoritiesFile = Annotated[str, BeforeValidator(_read_authorities)]
ProxyUrl = Annotated[SecretStr, AfterValidator(_check_proxy_url)]
RegistryHost = Annotated[str, AfterValidator(_parse_registry_name)]
RegistryAlias = Annotated[str, AfterValidator(_parse_registry_alias)]
Username = Annotated[str, AfterValidator(_check_username)]
OwnHost = Annotated[str, AfterValidator(_parse_own_host)]
PasswordFile = Annotated[SecretStr, BeforeValidator(_read_password)]
WellKnown = Annotated[tuple[str, ...], BeforeValidator(_parse_well_known)]
TrustedPeers = Annotated[str, AfterValidator(_check_trusted_peers)]
ClientNetworks = Annotated[str, AfterValidator(_check_client_networks)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Duration = Annotated[float, Field(ge=0, le=366 * 86400, allow_inf_nan=False)]
Size = Annotated[int, BeforeValidator(_parse_size), Field(ge=0)]
CacheDirectory = Annotated[Path, AfterValidator(_check_cache_directory)]
AccelLocation = Annotated[str, AfterValidator(_check_accel_location)]
