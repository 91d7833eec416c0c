"""Every setting, declared once: name, type, default, meaning."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.setting_values import (
    AuthoritiesFile,
    BaseUrl,
    ProxyUrl,
    RegistryHost,
    Seconds,
    TrustedPeers,
)

PREFIX: Final = "DOCXY_"
_KUBERNETES: Final = ("DOCXY_SERVICE_", "DOCXY_PORT_")
"""Kubernetes injects these for a Service called docxy, and `DOCXY_PORT` as well."""

HUB_URL: Final = "https://registry-1.docker.io"
HUB_TOKEN_URL: Final = "https://auth.docker.io/token"  # noqa: S105 - the address of a service
HUB_TOKEN_SERVICE: Final = "registry.docker.io"  # noqa: S105 - the name of a service


class SettingsError(Exception):
    """The settings cannot be used; the message lists every fault and says how to put it right."""


class Settings(BaseSettings):
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
    registry_url: BaseUrl = Field(
        HUB_URL, description="Where the default registry is. Unset: Docker Hub."
    )
    registry_name: RegistryHost = Field(
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
    ca_bundle: AuthoritiesFile | None = Field(
        None,
        description="A PEM file with certificate authorities for TLS to registries, added to the "
        "usual ones.",
    )
    connect_timeout: Seconds = Field(
        5, description="Seconds to wait for a connection to a registry, for each of its addresses."
    )
    read_timeout: Seconds = Field(
        60, description="Seconds that a registry may be silent. There is no limit on the whole."
    )
    write_timeout: Seconds = Field(
        60, description="Seconds that a client may take nothing of what is sent to it."
    )
    log_format: Literal["text", "json"] = Field("text", description="`text` or `json`.")
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)
    ] = Field("info", description="`debug`, `info`, `warning` or `error`.")
    https_proxy: ProxyUrl | None = Field(
        None,
        validation_alias=AliasChoices("HTTPS_PROXY", "ALL_PROXY"),
        description="The outbound proxy for https registries: `http://`, `https://`, `socks5://` "
        "or `socks5h://`.",
    )
    http_proxy: ProxyUrl | None = Field(
        None,
        validation_alias=AliasChoices("HTTP_PROXY", "ALL_PROXY"),
        description="The outbound proxy for http registries.",
    )
    no_proxy: str = Field(
        "",
        validation_alias="NO_PROXY",
        description="Comma-separated hosts, domains, addresses and networks that are reached "
        "without the outbound proxy; `*` for all.",
    )
    forwarded_allow_ips: TrustedPeers = Field(
        "127.0.0.1,::1",
        validation_alias="FORWARDED_ALLOW_IPS",
        description="Comma-separated addresses and networks of the servers in front of this one, "
        "whose `X-Forwarded-*` headers are believed; `*` for all. Gunicorn reads it too.",
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
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    @property
    def is_docker_hub(self) -> bool:
        """Whether the default registry is Docker Hub itself."""
        return self.registry_url == HUB_URL

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the environment variable of a field."""
        return _names(field)[0]


CONFIG_VARIABLE: Final = "DOCXY_CONFIG"
CONFIG_MEANING: Final = (
    "A TOML file with the same settings: their names in lower case without `DOCXY_`. "
    "The environment wins."
)


def load() -> Settings:
    """Read the settings from the environment and the file that it names; raise SettingsError."""
    variables = os.environ  # noqa: TID251 - the one place that reads it
    faults = _unknown_variables(variables)
    values, file_faults = _file_values(variables.get(CONFIG_VARIABLE, ""))
    try:
        settings = Settings(**values)
    except ValidationError as error:
        faults += [_fault(fault["loc"], fault, variables) for fault in error.errors()]
    else:
        if not faults and not file_faults:
            return settings
    raise SettingsError(_message(faults + file_faults))


def _unknown_variables(variables: Mapping[str, str]) -> list[str]:
    known = {Settings.variable(field) for field in Settings.model_fields} | {CONFIG_VARIABLE}
    return [
        f"{name}: there is no such setting{_nearest(name, known)}"
        for name in sorted(variables)
        if name.upper().startswith(PREFIX)
        and name.upper() not in known
        and name != "DOCXY_PORT"
        and not name.startswith(_KUBERNETES)
    ]


def _file_values(path: str) -> tuple[dict[str, Any], list[str]]:
    if not path:
        return {}, []
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        return {}, [f"{CONFIG_VARIABLE}={path}: the file cannot be read ({error.strerror})"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [f"{path}: this is not TOML: {error}"]
    keys = {name for name in Settings.model_fields if Settings.variable(name).startswith(PREFIX)}
    faults = [
        f"{path}: {key}: there is no such setting{_nearest(key, keys)}"
        for key in values
        if key not in keys
    ]
    return {key: value for key, value in values.items() if key in keys}, faults


def _nearest(name: str, known: set[str]) -> str:
    matches = difflib.get_close_matches(name.upper(), [entry.upper() for entry in known], n=1)
    found = [entry for entry in known if matches and entry.upper() == matches[0]]
    return f"; did you mean {found[0]}?" if found else ""


def _fault(location: tuple[int | str, ...], fault: Any, variables: Mapping[str, str]) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    field = str(location[0]).lower()
    names = _names(field if field in Settings.model_fields else _aliased(field))
    found = [one for name in names for one in variables if one.upper() == name and variables[one]]
    where = found[0] if found else f"{variables.get(CONFIG_VARIABLE, '')}: {field}"
    reason = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {reason[:1].lower()}{reason[1:]}"


def _names(field: str) -> list[str]:
    """Return the environment variables of a field, the one that counts first."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(name) for name in alias.choices]
    return [str(alias) if alias else PREFIX + field.upper()]


def _aliased(name: str) -> str:
    """Return the field that pydantic calls by one of its variables."""
    return next(field for field in Settings.model_fields if name.upper() in _names(field))


def _message(faults: list[str]) -> str:
    count = "one setting is wrong" if len(faults) == 1 else f"{len(faults)} settings are wrong"
    listed = "".join(f"\n  {fault}" for fault in faults)
    return f"Docxy cannot start: {count}.{listed}\nEvery setting stands in docs/configuration.md."
