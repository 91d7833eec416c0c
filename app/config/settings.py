"""Every setting, declared once: its name, type, default and meaning.

`Settings` inherits from one class for each topic, such as `CacheSettings`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.access import htpasswd
from app.access.downloads import Allowance
from app.access.htpasswd import UsersFile
from app.access.rules import Rule, Rules
from app.config.registries import Credentials, RegistrySettings, check_addresses, check_redirects
from app.config.rules import Groups, RuleSettings, iter_users
from app.config.types import (
    AccelLocation,
    AuthoritiesFile,
    BaseUrl,
    ByteSize,
    CacheDirectory,
    ClientNetworks,
    Duration,
    ProxyUrl,
    RegistryAlias,
    RegistryHost,
    Seconds,
    Size,
    TrustedPeers,
    Username,
    WellKnown,
    read_setting_file,
)
from app.registries import HUB, WELL_KNOWN, Registries, Registry

# Access: networks, rules and users.

_MIN_SECRET_LENGTH: Final = 16
"""Bytes."""
_MIN_KEY_LENGTH: Final = 32
"""Bytes."""


def _read_users_file(path: object) -> UsersFile:
    content = read_setting_file(path, htpasswd.read_users_file)
    htpasswd.parse_users_file(content)
    return UsersFile(Path(str(path)), content)


def _check_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < _MIN_SECRET_LENGTH:
        message = f"write at least {_MIN_SECRET_LENGTH} bytes: anyone who guesses it can pull"
        raise ValueError(message)
    return secret


def _check_key(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value().encode()) < _MIN_KEY_LENGTH:
        message = (
            f"write at least {_MIN_KEY_LENGTH} bytes, such as the output of openssl rand -hex 32"
        )
        raise ValueError(message)
    return key


class AccessSettings(BaseModel):
    """Access: the clients that may use this proxy, and what they may pull."""

    allow_networks: ClientNetworks | None = Field(
        None,
        description="Comma-separated addresses and networks of the clients that may use "
        "this proxy; `/health` answers everybody. Unset: all clients except those of "
        "`DOCXY_DENY_NETWORKS`.",
    )
    deny_networks: ClientNetworks | None = Field(
        None,
        description="Comma-separated addresses and networks of clients that may not use "
        "this proxy, even if `DOCXY_ALLOW_NETWORKS` includes them.",
    )
    rules: tuple[RuleSettings, ...] = Field(
        (), description="The rules that allow or deny pulls: the first rule that matches decides."
    )
    groups: Groups = Field(
        default_factory=dict, description="The users of each group that rules name."
    )
    htpasswd_file: Annotated[UsersFile, BeforeValidator(_read_users_file)] | None = Field(
        None,
        description="A file with the users who may pull and their bcrypt hashes (`htpasswd "
        "-B`); Docxy reads it again when it changes. Every registry must be `managed`. Unset: "
        "clients need no login.",
    )
    shared_secret: Annotated[SecretStr, AfterValidator(_check_secret)] | None = Field(
        None,
        description="One password of at least 16 bytes, in place of that file; clients log "
        "in with it and any user name.",
    )
    token_key: Annotated[SecretStr, AfterValidator(_check_key)] | None = Field(
        None,
        description="A key of at least 32 bytes that signs the tokens of users; replicas "
        "must share it. Unset: the key in the directory of `DOCXY_CACHE_DIR`.",
    )

    def check_users(self, rows: Iterable[Registry], cache_dir: Path | None) -> None:
        """Raise ValueError if the settings of users contradict each other or other settings.

        With users, every registry must be managed, and their tokens need a key that survives a
        restart.
        """
        if self.htpasswd_file and self.shared_secret:
            message = "DOCXY_HTPASSWD_FILE, DOCXY_SHARED_SECRET: set one, not both"
            raise ValueError(message)
        if not (self.htpasswd_file or self.shared_secret):
            if self.token_key:
                message = "DOCXY_TOKEN_KEY: it needs DOCXY_HTPASSWD_FILE or DOCXY_SHARED_SECRET"
                raise ValueError(message)
            return
        name = "DOCXY_HTPASSWD_FILE" if self.htpasswd_file else "DOCXY_SHARED_SECRET"
        if passthrough := [row.name for row in rows if not row.managed]:
            message = (
                f"{name}: clients log in to this proxy, so they cannot log in to a registry; set "
                f"DOCXY_CREDENTIALS=managed for the default registry, and credentials = "
                f'"managed" in each table [[registries]]. These are passthrough: '
                f"{', '.join(passthrough)}"
            )
            raise ValueError(message)
        if not (self.token_key or cache_dir):
            message = (
                f"{name}: the tokens of users need a key that survives a restart; set "
                "DOCXY_TOKEN_KEY, or DOCXY_CACHE_DIR, where Docxy creates one"
            )
            raise ValueError(message)

    def build_rules(self, registries: Registries) -> Rules:
        """Return the rules for a table of registries.

        Raise ValueError if a rule names a registry that is not in the table, a group that does not
        exist, or users without `DOCXY_HTPASSWD_FILE`.
        """
        if not self.htpasswd_file:
            for i, rule in enumerate(self.rules, 1):
                if rule.users is not None:
                    message = (
                        f"rule {i}: users: set DOCXY_HTPASSWD_FILE; with DOCXY_SHARED_SECRET, or "
                        "without a login, clients have no user names of their own"
                    )
                    raise ValueError(message)
        return Rules(
            [self._build_rule(i, rule) for i, rule in enumerate(self.rules, 1)], registries
        )

    def _build_rule(self, number: int, rule: RuleSettings) -> Rule:
        try:
            return rule.build_rule(number, self.groups)
        except ValueError as error:
            message = f"rule {number}: {error}"
            raise ValueError(message) from error

    def iter_named_users(self) -> Iterator[tuple[str, str]]:
        """Yield a pair for each user in the configuration file: the place, and the user it names.

        A place is `rule 2` or `groups.team`.
        """
        for i, rule in enumerate(self.rules, 1):
            yield from ((f"rule {i}", user) for user in iter_users(rule.users or ()))
        for name, users in self.groups.items():
            yield from ((f"groups.{name}", user) for user in users)


# The cache.


class CacheSettings(BaseModel):
    """The cache: its directory, its size, and how long its content may be served."""

    cache_dir: CacheDirectory | None = Field(
        None,
        description="The directory of the cache, created if it does not exist. Unset: "
        "there is no cache, and nothing is written.",
    )
    cache_max_size: Annotated[Size, Field(gt=0)] | None = Field(
        None,
        description="The maximum size of the cache, including running downloads, like `50GB` "
        "or `10GiB`; the least recently used content is evicted first. Unset: as much as "
        "`DOCXY_CACHE_MIN_FREE` leaves.",
    )
    cache_min_free: Size = Field(
        ByteSize(5 << 30), description="The disk space that the cache always leaves free."
    )
    cache_unread_limit: Size | None = Field(
        None,
        description="How many more bytes of a layer are fetched after its last reader has "
        "left; `0` stops at once. Unset: `1GiB`, or `16MiB` if the client that started the "
        "fetch asked for a range, or a `DOCXY_LIMIT_*` is set.",
    )
    fetch_connections: Annotated[int, Field(ge=1, le=16)] = Field(
        8,
        description="The maximum number of connections over which the cache fetches one layer. "
        "It begins with one, and adds others while that makes the layer arrive faster, or while "
        "clients wait for other parts of it.",
    )
    grant_ttl: Duration = Field(
        300,
        description="Seconds for which a client may read cached content of a repository "
        "after the registry has allowed it; never longer than the client's token is valid.",
    )
    tag_ttl: Duration = Field(
        0,
        description="Seconds for which a cached tag is served without asking the registry. "
        "`0`: each pull asks with a HEAD, which Docker Hub does not count as a pull.",
    )
    stale_ttl: Duration = Field(
        7 * 24 * 3600,
        description="Seconds, since a repository was last seen to be public, for which it is "
        "served from the cache while its registry does not answer, or answers 429 or 5xx. "
        "`0`: never.",
    )
    accel_location: AccelLocation | None = Field(
        None,
        description="An `internal` location of the nginx in front, like `/docxy-cache/`, "
        "that serves `content/` of the cache directory: nginx then sends cached content "
        "(`X-Accel-Redirect`). Unset: Docxy sends it.",
    )


# Limits on each client.

_REDIS_URL_OPTIONS: Final = {
    "redis": {"db"},
    "rediss": {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"},
    "unix": {"db"},
}
"""Query options of a Redis URL, by scheme; redis-py accepts more, and fails at the first request.

A scheme that is not here is not a Redis URL.
"""

Count = Annotated[int, Field(gt=0, le=10**12)]


def _check_redis_url(secret: SecretStr) -> SecretStr:
    """Return the URL if it is that of a Redis; raise ValueError without revealing its password."""
    try:
        is_valid = _is_redis_url(urlsplit(secret.get_secret_value()))
    except ValueError:
        is_valid = False
    if not is_valid:
        message = (
            "write a URL like redis://:password@redis.example:6379/0, rediss:// for TLS, or "
            "unix:///run/redis.sock"
        )
        raise ValueError(message)
    return secret


def _is_redis_url(parts: SplitResult) -> bool:
    options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    if parts.fragment or not options.keys() <= _REDIS_URL_OPTIONS.get(parts.scheme, set()):
        return False
    numbers = options.get("db", [])
    if parts.scheme == "unix":
        has_location = bool(parts.path)
    else:
        has_location = bool(parts.hostname) and parts.port != 0
        numbers = [*numbers, parts.path.strip("/") or "0"]
    return (
        parts.scheme in _REDIS_URL_OPTIONS and has_location and all(map(_DIGITS.fullmatch, numbers))
    )


_DIGITS: Final = re.compile("[0-9]{1,5}")
"""int() raises ValueError for 4,301 digits or more, and str.isdecimal accepts other scripts."""


_MAX_WORKERS: Final = 64
"""Each worker keeps one core busy and takes some 60 MiB; a typo must not start thousands."""


def _parse_workers(value: object) -> object:
    text = str(value).strip()
    if not _DIGITS.fullmatch(text) or not 0 < int(text) <= _MAX_WORKERS:
        message = (
            f"write the number of worker processes, from 1 to {_MAX_WORKERS}, like 2; "
            "--workers sets it too"
        )
        raise ValueError(message)
    return int(text)


class LimitSettings(BaseModel):
    """The limits of each user, or of each address, and where they are counted."""

    client_connections: Count = Field(
        500,
        description="The maximum number of requests that each worker serves at once for one client "
        "address, or one IPv6 /64 network; a download counts until its last byte. More than "
        "a quarter of the worker's connections is lowered to a quarter. "
        "Further requests get 429 with `Retry-After`. "
        "Name the servers in front in `FORWARDED_ALLOW_IPS`, or all their clients count as "
        "one. This limit needs no Redis.",
    )
    limit_requests: Count | None = Field(
        None,
        description="The maximum number of requests per minute from each user, or from each "
        "address; an IPv6 /64 network counts as one address. Further requests get 429 with "
        "`Retry-After`. "
        "Unset: no limit.",
    )
    limit_downloads: Count | None = Field(
        None,
        description="The maximum number of layers that each user or address may download at once. "
        "Unset: no limit.",
    )
    limit_bytes: Annotated[Size, Field(gt=0)] | None = Field(
        None,
        description="The maximum number of bytes that each user or address may download in a day, "
        "like `50GB`. A download that has begun is not cut. Unset: no limit.",
    )
    limit_pulls: Count | None = Field(
        None,
        description="The maximum number of pulls that each user or address may make in a day. As "
        "at Docker Hub, a pull is a GET of a manifest that succeeds. Unset: no limit.",
    )
    redis_url: Annotated[SecretStr, AfterValidator(_check_redis_url)] | None = Field(
        None,
        description="The URL of the Redis that counts these limits, like "
        "`redis://:password@redis.example/0`; several workers need it, and replicas share it. "
        "Unset: they are counted in memory.",
    )
    web_concurrency: Annotated[int, BeforeValidator(_parse_workers)] = Field(
        1,
        validation_alias="WEB_CONCURRENCY",
        description="The number of worker processes; this is gunicorn's own setting, with "
        "its default.",
    )

    @property
    def allowance(self) -> Allowance:
        """The limits that apply to each client."""
        return Allowance(
            requests=self.limit_requests,
            downloads=self.limit_downloads,
            size=self.limit_bytes,
            pulls=self.limit_pulls,
        )

    def check_limits(self) -> None:
        """Raise ValueError if the limits and the Redis that counts them do not fit together.

        Several workers need a Redis to count together, and a Redis has no use without a limit.
        """
        if self.allowance.is_unlimited:
            if self.redis_url:
                message = (
                    "DOCXY_REDIS_URL: Redis counts limits, but no limit is set; set one of "
                    "DOCXY_LIMIT_REQUESTS, DOCXY_LIMIT_DOWNLOADS, DOCXY_LIMIT_BYTES and "
                    "DOCXY_LIMIT_PULLS"
                )
                raise ValueError(message)
            return
        if self.web_concurrency > 1 and not self.redis_url:
            names = ("limit_requests", "limit_downloads", "limit_bytes", "limit_pulls")
            set_limits = ", ".join(f"DOCXY_{name.upper()}" for name in names if getattr(self, name))
            message = (
                f"{set_limits}: {self.web_concurrency} workers would count separately; set "
                "DOCXY_REDIS_URL to let them count together, or run one worker: "
                "WEB_CONCURRENCY=1, and no --workers"
            )
            raise ValueError(message)


# The page, the metrics and the search.

HUB_INDEX: Final = "https://index.docker.io"
"""The search service of Docker Hub, at the address that Docker itself uses."""


LOCAL_NETWORKS: Final = "127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,fe80::/10"
"""Loopback, private and link-local networks (RFC 1918, RFC 4193, RFC 4291)."""


class PageSettings(BaseModel):
    """The page, the metrics, the clients that see their figures, and the search."""

    page: bool = Field(
        default=True,
        description="`false` switches off the page at `/`, the files at `/config/` and the search.",
    )
    metrics: bool = Field(
        default=True,
        description="`false` switches off all counting: `/metrics` and the figures on the page.",
    )
    figures_networks: TrustedPeers = Field(
        LOCAL_NETWORKS,
        description="Comma-separated addresses and networks of the clients that may see "
        "`/metrics`, the figures and the running downloads; `*` for all. Unset: this machine "
        "and private networks. Clients behind a server that is not in `FORWARDED_ALLOW_IPS` "
        "see none.",
    )
    index_url: BaseUrl = Field(
        HUB_INDEX,
        description="The URL of the server that searches Docker Hub for `docker search` "
        "and the page; used if the default registry is `docker.io`.",
    )


# Connections to registries.


class UpstreamSettings(BaseModel):
    """Connections to registries: how they are made and verified, and how long to wait."""

    ca_bundle: AuthoritiesFile | None = Field(
        None,
        description="A PEM file with certificate authorities for TLS to registries, in "
        "addition to the system's.",
    )
    connect_timeout: Seconds = Field(
        5, description="Seconds to wait for a connection to a registry, for each of its addresses."
    )
    read_timeout: Seconds = Field(
        30,
        description="Seconds that a registry may be silent, before its response or within "
        "a body; a body is then resumed where it stopped. There is no limit on the total "
        "time.",
    )
    retry_budget: Seconds = Field(
        45,
        description="Seconds after which a request without a response is not retried.",
    )
    resume_budget: Seconds = Field(
        60,
        description="Seconds without progress after which Docxy gives up resuming a broken body.",
    )
    prefer_ipv4: bool = Field(
        default=False,
        description="`true` tries a registry's IPv4 addresses first. `false` keeps the "
        "system's order. If an address does not answer within 250 ms, the next one is tried "
        "in parallel.",
    )
    verify_blobs: bool = Field(
        default=False,
        description="`true` hashes every complete blob that is forwarded, holds back its "
        "last bytes until the digest is verified, and cuts the connection on a mismatch. "
        "Without a cache, ranges of blobs are not verified; digests other than sha256 and sha512 "
        "never are. Clients "
        "verify digests themselves; this costs processor time.",
    )
    https_proxy: ProxyUrl | None = Field(
        None,
        validation_alias=AliasChoices("HTTPS_PROXY", "ALL_PROXY"),
        description="The outbound proxy for https registries: `http://`, `https://`, "
        "`socks5://` or `socks5h://`.",
    )
    http_proxy: ProxyUrl | None = Field(
        None,
        validation_alias=AliasChoices("HTTP_PROXY", "ALL_PROXY"),
        description="The outbound proxy for http registries.",
    )
    no_proxy: str = Field(
        "",
        validation_alias="NO_PROXY",
        description="Comma-separated hosts, domains, addresses and networks to reach "
        "without the outbound proxy; `*` for all.",
    )


# The environment as a source of settings, and all settings together.

FILE_ONLY: Final = frozenset({"registries", "default", "rules", "groups"})
"""Settings that only the file may hold, since an environment variable suits them badly."""


class EnvironmentSource(EnvSettingsSource):
    """The environment as pydantic-settings reads it, without the settings in `FILE_ONLY`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a field, its name, and whether the value still has to be decoded.

        The value is None if the environment does not set the field, or if only the file may.
        """
        if field_name in FILE_ONLY:
            return None, field_name, False
        return super().get_field_value(field, field_name)


PREFIX: Final = "DOCXY_"

_MAX_PORT: Final = 65535

_DEFAULT_REGISTRY_FIELDS: Final = frozenset(
    {"registry_url", "registry_name", "token_url", "token_service"}
)
"""Settings that define the default registry if the file has no table of registries."""


def _parse_port(value: object) -> object:
    text = str(value).strip()
    if not _DIGITS.fullmatch(text) or int(text) > _MAX_PORT:
        message = f"write a port number of at most {_MAX_PORT}, like 8000"
        raise ValueError(message)
    return int(text)


def _format_names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class Settings(
    UpstreamSettings, CacheSettings, PageSettings, AccessSettings, LimitSettings, BaseSettings
):
    """All settings of this proxy; frozen. Only `create_app` holds them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True,
        validate_default=False,
    )  # fmt: skip

    public_url: BaseUrl | None = Field(
        None,
        description="The URL by which clients reach this proxy, like "
        "`https://proxy.example`. Unset: taken from each request; `X-Forwarded-Proto` and "
        "`X-Forwarded-Host` are trusted only from `FORWARDED_ALLOW_IPS`.",
    )
    allow_private_upstreams: bool = Field(
        default=False,
        description="`true` allows every registry, its token service and its redirects to "
        "have loopback, private and otherwise special addresses; `allow_private` allows that "
        "for one registry.",
    )
    registry_url: BaseUrl = Field(
        HUB.url,
        description="The URL of the default registry. Unset: Docker Hub, or the registry "
        "that `DOCXY_REGISTRY_NAME` names: a well-known one, or else `https://` and the name.",
    )
    registry_name: RegistryAlias = Field(
        "docker.io",
        description="The name of the default registry for clients. As `docker.io` it also "
        "answers to `index.docker.io` and `registry-1.docker.io`, and one-component "
        "repository names get `library/`. Set it if `DOCXY_REGISTRY_URL` is neither Docker "
        "Hub nor a copy of it.",
    )
    token_url: BaseUrl | None = Field(
        None,
        description="The URL of the default registry's token service. Unset: Docker Hub's "
        "for Docker Hub, or else taken from the registry's challenge, if it is on the "
        "registry's host or, over https, on its registrable domain.",
    )
    token_service: str | None = Field(
        None,
        description="The `service` parameter for the token service. Unset: Docker Hub's "
        "for Docker Hub, or else taken from the registry's challenge.",
    )
    credentials: Credentials | None = Field(
        None,
        description="`passthrough`: clients' logins go to the default registry. `managed`: "
        "this proxy gets the tokens itself, with `DOCXY_USERNAME` and `DOCXY_PASSWORD` or "
        "anonymously, and clients need no login. Unset: `passthrough`.",
    )
    username: Username | None = Field(
        None,
        description="The user name of this proxy's own account at the default registry, "
        "with `managed`.",
    )
    password: SecretStr | None = Field(
        None, description="The password or access token of that account."
    )
    well_known: Annotated[WellKnown | None, NoDecode] = Field(
        None,
        description="The public registries to serve besides the default one, by prefix and `ns`: "
        f"`all`, `none`, or a comma-separated list of some of {_format_names(WELL_KNOWN)}. "
        "Unset: `all`, or `none` if the default registry is set or the file has `[[registries]]`.",
    )
    registries: tuple[RegistrySettings, ...] = Field(
        (), description="The table of registries; see below."
    )
    default: RegistryHost | None = Field(
        None,
        description="The name of the default registry. Unset: the first registry of the table.",
    )
    write_timeout: Seconds = Field(
        60,
        description="Seconds for which a client may accept no data before its connection is cut.",
    )
    log_format: Literal["text", "json"] = Field("text", description="`text` or `json`.")
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)
    ] = Field("info", description="`debug`, `info`, `warning` or `error`.")
    forwarded_allow_ips: TrustedPeers = Field(
        "127.0.0.1,::1",
        validation_alias="FORWARDED_ALLOW_IPS",
        description="Comma-separated addresses and networks of the servers in front of "
        "this one, whose `X-Forwarded-*` headers are trusted; `*` for all. Gunicorn reads it "
        "too.",
    )

    port: Annotated[int | None, BeforeValidator(_parse_port)] = Field(
        None,
        validation_alias="PORT",
        description="The port to listen on, on every IPv4 address; this is gunicorn's own setting.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the only sources: the environment, then the values that `load()` read."""
        del env_settings, dotenv_settings, file_secret_settings
        return EnvironmentSource(settings_cls), init_settings

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.registries:
            if extra := sorted(_DEFAULT_REGISTRY_FIELDS & self.model_fields_set):
                message = (
                    f"{', '.join(map(self.variable, extra))}: the default registry is defined in "
                    "the file's table [[registries]]; set it there, or remove the table"
                )
                raise ValueError(message)
        elif self.default:
            message = "default: it names a registry of the table [[registries]], which is missing"
            raise ValueError(message)
        elif "registries" in self.model_fields_set:
            message = "registries: it is empty; add a table [[registries]], or remove it"
            raise ValueError(message)
        table = self.build_registries()
        check_addresses(table.rows)
        check_redirects(table.rows)
        self.build_rules(table)
        self.check_users(table.rows, self.cache_dir)
        self.check_limits()
        host = urlsplit(self.public_url or "").hostname or ""
        if (row := table.select(ns=None, host=host).registry) is not table.default:
            message = (
                f"{self.variable('public_url')}: {host} is among the hosts of {row.name}, so "
                "requests to it are for that registry; remove it there"
            )
            raise ValueError(message)
        return self

    def build_registries(self) -> Registries:
        """Return the table of registries; raise ValueError if it is ambiguous or inconsistent.

        It holds the registries of the file, or else the default one, and then the well-known ones
        that are served beside them.
        """
        tables = list(self.registries) or [self._build_default()]
        names = [table.build_registry().name for table in tables]
        default = Registries([table.build_registry() for table in tables], self.default).default
        default_index = names.index(default.name)
        tables[default_index] = tables[default_index].with_login(
            self.credentials, self.username, self.password
        )
        rows = [table.build_registry() for table in tables]
        default = rows[default_index]
        is_explicit = self.registries or self.model_fields_set & _DEFAULT_REGISTRY_FIELDS
        well_known = () if is_explicit else tuple(WELL_KNOWN)
        used_names = {name for row in rows for name in row.names}
        rows += [
            # Clients that need no token for the default registry would request none for another.
            replace(WELL_KNOWN[name], managed=default.managed)
            for name in (well_known if self.well_known is None else self.well_known)
            if name not in used_names
        ]
        if self.allow_private_upstreams:
            rows = [replace(row, allow_private=True) for row in rows]
        return Registries(rows, default.name)

    def _build_default(self) -> RegistrySettings:
        values = {
            "name": self.registry_name,
            "url": self.registry_url if "registry_url" in self.model_fields_set else None,
            "token_url": self.token_url,
            "token_service": self.token_service,
        }
        return RegistrySettings.model_validate(values)

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the environment variable of a field; the first one if several set it."""
        return cls.variables(field)[0]

    @classmethod
    def variables(cls, field: str) -> list[str]:
        """Return the environment variables that set a field, in order of precedence."""
        alias = cls.model_fields[field].validation_alias
        if isinstance(alias, AliasChoices):
            return [str(name) for name in alias.choices]
        return [str(alias) if alias else PREFIX + field.upper()]
