"""Every setting, declared once: name, type, default, meaning."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.access_settings import AccessSettings
from app.cache_settings import CacheSettings
from app.environment import Variables
from app.limit_settings import LimitSettings
from app.page_settings import PageSettings
from app.registries import Registries
from app.registry_settings import (
    Credentials,
    RegistrySettings,
    check_addresses,
    check_redirects,
)
from app.setting_values import (
    BaseUrl,
    RegistryAlias,
    RegistryHost,
    Seconds,
    TrustedPeers,
    Username,
    WellKnown,
)
from app.upstream_settings import UpstreamSettings
from app.well_known import HUB, WELL_KNOWN

PREFIX: Final = "DOCXY_"

_HIGHEST_PORT: Final = 65535

_DEFAULT_ROW: Final = frozenset({"registry_url", "registry_name", "token_url", "token_service"})
"""What says which registry the default one is, where no table does."""


def _port(value: object) -> object:
    text = str(value).strip()
    if not text.isdecimal() or int(text) > _HIGHEST_PORT:
        message = f"write the number of a port, like 8000; the highest is {_HIGHEST_PORT}"
        raise ValueError(message)
    return int(text)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class Settings(
    UpstreamSettings, CacheSettings, PageSettings, AccessSettings, LimitSettings, BaseSettings
):
    """How this proxy is set up; frozen, and held by create_app only."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True,
        validate_default=False,
    )  # fmt: skip

    public_url: BaseUrl | None = Field(
        None,
        description="How clients reach this proxy, like `https://proxy.example`. "
        "Unset: taken from each request; `X-Forwarded-Proto` and `X-Forwarded-Host` are believed "
        "only from `FORWARDED_ALLOW_IPS`.",
    )
    allow_private_upstreams: bool = Field(
        default=False,
        description="`true` lets every registry, its token service and what they redirect to be on "
        "loopback, private and otherwise special addresses; `allow_private` does so for one.",
    )
    registry_url: BaseUrl = Field(
        HUB.url,
        description="Where the default registry is. Unset: Docker Hub, or where "
        "`DOCXY_REGISTRY_NAME` says: a well-known one, else `https://` and the name.",
    )
    registry_name: RegistryAlias = Field(
        "docker.io",
        description="What clients call the default registry. As `docker.io` it also answers to "
        "`index.docker.io` and `registry-1.docker.io`, and one-component repository names get "
        "`library/`. Set it when `DOCXY_REGISTRY_URL` is not Docker Hub or a copy of it.",
    )
    token_url: BaseUrl | None = Field(
        None,
        description="The default registry's token service. Unset: Docker Hub's for Docker Hub, "
        "else learned from the registry's challenge, if it is on the registry's own host or, over "
        "https, on its registrable domain.",
    )
    token_service: str | None = Field(
        None,
        description="The `service` to name to the token service. Unset: Docker Hub's for Docker "
        "Hub, else what the registry's challenge says.",
    )
    credentials: Credentials | None = Field(
        None,
        description="`passthrough`: clients' logins go to the default registry. `managed`: this "
        "proxy gets the tokens itself, with `DOCXY_USERNAME` and `DOCXY_PASSWORD` or as nobody, "
        "and clients need none. Unset: `passthrough`.",
    )
    username: Username | None = Field(
        None, description="This proxy's own account at the default registry, with `managed`."
    )
    password: SecretStr | None = Field(None, description="Its password, or access token.")
    well_known: Annotated[WellKnown | None, NoDecode] = Field(
        None,
        description="Which public registries are served beside the default one, by prefix and "
        f"`ns`: `all`, `none`, or some of {_listed(WELL_KNOWN)}, between commas. Unset: `all`, but "
        "`none` where the default registry is set or the file has `[[registries]]`.",
    )
    registries: tuple[RegistrySettings, ...] = Field(
        (), description="The table of registries; see below."
    )
    default: RegistryHost | None = Field(
        None, description="The name of the default registry. Unset: the first of the table."
    )
    write_timeout: Seconds = Field(
        60, description="Seconds that a client may take nothing of what is sent to it."
    )
    log_format: Literal["text", "json"] = Field("text", description="`text` or `json`.")
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)
    ] = Field("info", description="`debug`, `info`, `warning` or `error`.")
    forwarded_allow_ips: TrustedPeers = Field(
        "127.0.0.1,::1",
        validation_alias="FORWARDED_ALLOW_IPS",
        description="Comma-separated addresses and networks of the servers in front of this one, "
        "whose `X-Forwarded-*` headers are believed; `*` for all. Gunicorn reads it too.",
    )

    port: Annotated[int | None, BeforeValidator(_port)] = Field(
        None,
        validation_alias="PORT",
        description="The port of every IPv4 address to listen at: gunicorn's own setting.",
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
        """Let the environment win over what load() read from the file; nothing else is read."""
        del env_settings, dotenv_settings, file_secret_settings
        return Variables(settings_cls), init_settings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.registries:
            if told := sorted(_DEFAULT_ROW & self.model_fields_set):
                message = (
                    f"{', '.join(map(self.variable, told))}: the default registry stands in the "
                    "file's table [[registries]]; set it there, or leave the table out"
                )
                raise ValueError(message)
        elif self.default:
            message = "default: it names a row of the table [[registries]], and there is none"
            raise ValueError(message)
        elif "registries" in self.model_fields_set:
            message = "registries: it is empty; write a table [[registries]], or leave it out"
            raise ValueError(message)
        table = self.table()
        check_addresses(table.rows)
        check_redirects(table.rows)
        self.rules_for(table)
        self.check_users(table.rows, self.cache_dir)
        self.check_limits()
        host = urlsplit(self.public_url or "").hostname or ""
        if (row := table.select(ns=None, host=host).registry) is not table.default:
            message = (
                f"{self.variable('public_url')}: {host} is among the hosts of {row.name}, and what "
                "clients send there is for that one; leave it out there"
            )
            raise ValueError(message)
        return self

    def table(self) -> Registries:
        """Return the table of registries; raise ValueError for one that is ambiguous."""
        written = list(self.registries) or [self._default_row()]
        names = [one.row().name for one in written]
        default = Registries([one.row() for one in written], self.default).default
        place = names.index(default.name)
        written[place] = written[place].with_login(self.credentials, self.username, self.password)
        rows = [one.row() for one in written]
        default = rows[place]
        chosen = self.registries or self.model_fields_set & _DEFAULT_ROW
        known = () if chosen else tuple(WELL_KNOWN)
        taken = {name for row in rows for name in row.names}
        rows += [
            # Clients that need no token for the default registry would ask for none elsewhere.
            replace(WELL_KNOWN[name], managed=default.managed)
            for name in (known if self.well_known is None else self.well_known)
            if name not in taken
        ]
        if self.allow_private_upstreams:
            rows = [replace(row, allow_private=True) for row in rows]
        return Registries(rows, default.name)

    def _default_row(self) -> RegistrySettings:
        written = {
            "name": self.registry_name,
            "url": self.registry_url if "registry_url" in self.model_fields_set else None,
            "token_url": self.token_url,
            "token_service": self.token_service,
        }
        return RegistrySettings.model_validate(written)

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the environment variable of a field."""
        return cls.variables(field)[0]

    @classmethod
    def variables(cls, field: str) -> list[str]:
        """Return the environment variables of a field, the one that counts first."""
        alias = cls.model_fields[field].validation_alias
        if isinstance(alias, AliasChoices):
            return [str(name) for name in alias.choices]
        return [str(alias) if alias else PREFIX + field.upper()]
