"""Every setting, declared once: name, type, default, meaning."""

from typing import Annotated, Final, Literal

from pydantic import AliasChoices, BeforeValidator, Field
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

HUB_URL: Final = "https://registry-1.docker.io"
HUB_TOKEN_URL: Final = "https://auth.docker.io/token"  # noqa: S105 - the address of a service
HUB_TOKEN_SERVICE: Final = "registry.docker.io"  # noqa: S105 - the name of a service


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
        return cls.variables(field)[0]

    @classmethod
    def variables(cls, field: str) -> list[str]:
        """Return the environment variables of a field, the one that counts first."""
        alias = cls.model_fields[field].validation_alias
        if isinstance(alias, AliasChoices):
            return [str(name) for name in alias.choices]
        return [str(alias) if alias else PREFIX + field.upper()]
