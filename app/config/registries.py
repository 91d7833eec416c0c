"""The `[[registries]]` tables of the file: what an operator writes about each registry."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from app.addresses import is_special_host
from app.config.types import (
    AuthoritiesFile,
    BaseUrl,
    OwnHost,
    PasswordFile,
    RegistryAlias,
    RegistryHost,
    Username,
)
from app.registries import HUB, WELL_KNOWN, Account, Registry

Credentials = Literal["passthrough", "managed"]

LOGIN_WITHOUT_MANAGED: Final = (
    'username, password: this proxy\'s own login needs credentials = "managed" '
    "(DOCXY_CREDENTIALS=managed); with passthrough, clients log in themselves"
)


class RegistrySettings(BaseModel):
    """A `[[registries]]` table as the operator writes it.

    If the name is that of a well-known registry, unset keys take that registry's values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: RegistryAlias = Field(
        description="The registry's name for clients, like `ghcr.io`: the prefix of "
        "repository names, the `ns` parameter, and the tag of its tokens before `~`. A prefix "
        "cannot have a port, so a name with one needs an alias."
    )
    url: BaseUrl | None = Field(
        None,
        description="The registry's URL. Unset: the well-known registry's, or else "
        "`https://` and the name.",
    )
    token_url: BaseUrl | None = Field(
        None,
        description="The URL of its token service. Unset: taken from its challenge, if it "
        "is on the registry's host or, over https, on its registrable domain.",
    )
    token_service: str | None = Field(
        None,
        description="The `service` parameter for the token service. Unset: taken from the "
        "challenge.",
    )
    hosts: tuple[OwnHost, ...] = Field(
        (), description="Host names of this proxy that serve this registry alone."
    )
    aliases: tuple[RegistryAlias, ...] = Field(
        (), description="Further names for it, as prefix and as `ns`."
    )
    library_prefix: bool | None = Field(
        None,
        description="Whether one-component names get `library/`. Unset: on Docker Hub only.",
    )
    credentials: Credentials | None = Field(
        None,
        description="`passthrough`: clients' logins go to the registry. `managed`: this "
        "proxy gets the tokens itself, with `username` and `password` or anonymously, and "
        "clients need no login. Unset: `passthrough`.",
    )
    prefix_login: bool = Field(
        default=False,
        description="Whether a login at this proxy's host is also sent to this registry "
        "for requests that name it by prefix.",
    )
    username: Username | None = Field(
        None, min_length=1, description="The user name of this proxy's own account, with `managed`."
    )
    password: SecretStr | None = Field(
        None, min_length=1, description="The password or access token of that account."
    )
    password_file: PasswordFile | None = Field(
        None, description="A file with the password, in place of `password`."
    )
    ca_bundle: AuthoritiesFile | None = Field(
        None,
        description="A PEM file with certificate authorities for this registry, its token "
        "service and its redirects, in addition to the system's and `DOCXY_CA_BUNDLE`.",
    )
    allow_private: bool = Field(
        default=False,
        description="Allow this registry and its redirects to have loopback, private and "
        "otherwise special addresses.",
    )
    redirects_from: tuple[RegistryHost, ...] = Field(
        (),
        description="With `allow_private`: the registries without `allow_private` whose "
        "redirects may lead to this one. Unset: none.",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        check_login(self.credentials, self.username, self.password or self.password_file)
        if self.password and self.password_file:
            message = "set password or password_file, not both"
            raise ValueError(message)
        return self

    def with_login(
        self, credentials: Credentials | None, username: str | None, password: SecretStr | None
    ) -> Self:
        """Return a copy in which each argument that is not None replaces the value of the table.

        `credentials` of `passthrough` removes the login of the table. Raise ValueError if the
        resulting login is incomplete or not allowed.
        """
        overrides = {"credentials": credentials, "username": username, "password": password}
        changes: dict[str, Any] = {
            name: value for name, value in overrides.items() if value is not None
        }
        if "password" in changes:
            changes["password_file"] = None
        if credentials == "passthrough":
            changes = {"username": None, "password": None, "password_file": None} | changes
        merged = self.model_copy(update=changes)
        check_login(merged.credentials, merged.username, merged.password or merged.password_file)
        return merged

    def build_registry(self) -> Registry:
        """Return the registry that this table describes, completed by a well-known one.

        The token service of a well-known registry is used only if the URL is that registry's own.
        """
        name = HUB.name if self.name in HUB.names else self.name
        base = WELL_KNOWN.get(name) or Registry(name=name, url=f"https://{name}")
        url = self.url or base.url
        is_base_url = url == base.url
        return Registry(
            name=name,
            url=url,
            token_url=self.token_url or (base.token_url if is_base_url else None),
            token_service=self.token_service or (base.token_service if is_base_url else None),
            aliases=base.aliases | frozenset(self.aliases),
            hosts=frozenset(self.hosts),
            library_prefix=(
                base.library_prefix if self.library_prefix is None else self.library_prefix
            ),
            managed=self.credentials == "managed",
            account=build_account(self.username, self._get_password()),
            prefix_login=self.prefix_login,
            ca_bundle=self.ca_bundle,
            allow_private=self.allow_private,
            redirects_from=frozenset(self.redirects_from),
        )

    def _get_password(self) -> SecretStr | None:
        return self.password or self.password_file


def build_account(username: str | None, password: SecretStr | None) -> Account | None:
    """Return the account of a username and a password, or None unless both are set."""
    return Account(username, password.get_secret_value()) if username and password else None


def check_addresses(rows: Iterable[Registry]) -> None:
    """Raise ValueError if the URL of a registry or token service has a special host.

    Every request to it would be refused unless the registry has `allow_private`.
    """
    special = [
        f"{row.name} at {url}"
        for row in rows
        for url in (row.url, row.token_url)
        if url and not row.allow_private and is_special_host(urlsplit(url).hostname or "")
    ]
    if special:
        message = (
            f"registries: {', '.join(special)}: a loopback, private or otherwise special address; "
            "if that is intended, set DOCXY_ALLOW_PRIVATE_UPSTREAMS=true, or allow_private = true "
            "in the registry's own table"
        )
        raise ValueError(message)


def check_redirects(rows: Sequence[Registry]) -> None:
    """Raise ValueError if a `redirects_from` names an unknown registry or has no effect.

    It has no effect without `allow_private`.
    """
    names = {name for row in rows for name in row.names}
    for row in rows:
        if unknown_names := sorted(row.redirects_from - names):
            message = (
                f"registries: {row.name}: redirects_from: this proxy serves no registry named "
                f"{', '.join(unknown_names)}"
            )
            raise ValueError(message)
        if row.redirects_from and not row.allow_private:
            message = (
                f"registries: {row.name}: redirects_from: it applies only to a registry "
                "with a private address; set allow_private = true in its table, or remove it"
            )
            raise ValueError(message)


def check_login(credentials: Credentials | None, username: str | None, password: Any) -> None:  # noqa: ANN401 - whatever holds it
    """Raise ValueError if a login lacks one half, or is set without `managed` credentials."""
    if (username is None) != (password is None):
        message = (
            "username, password: set both or neither (DOCXY_USERNAME and DOCXY_PASSWORD for the "
            "default registry)"
        )
        raise ValueError(message)
    if username and credentials != "managed":
        raise ValueError(LOGIN_WITHOUT_MANAGED)
