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
    "(DOCXY_CREDENTIALS=managed); with passthrough, clients bring theirs"
)


class RegistrySettings(BaseModel):
    """A `[[registries]]` table as the operator writes it.

    If the name is that of a well-known registry, unset keys take that registry's values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: RegistryAlias = Field(
        description="What clients call the registry, like `ghcr.io`: as prefix of a repository "
        "name, as `ns`, and before the `~` of its tokens. No prefix has a port: a name with one "
        "needs an alias for that."
    )
    url: BaseUrl | None = Field(
        None, description="Where it is. Unset: the well-known one's, else `https://` and the name."
    )
    token_url: BaseUrl | None = Field(
        None,
        description="Its token service. Unset: learned from its challenge, if it is on the "
        "registry's own host or, over https, on its registrable domain.",
    )
    token_service: str | None = Field(
        None, description="The `service` to name there. Unset: what the challenge says."
    )
    hosts: tuple[OwnHost, ...] = Field(
        (), description="Host names of this proxy that stand for this registry alone."
    )
    aliases: tuple[RegistryAlias, ...] = Field(
        (), description="More names for it, as prefix and as `ns`."
    )
    library_prefix: bool | None = Field(
        None,
        description="Whether one-component names get `library/`. Unset: on Docker Hub only.",
    )
    credentials: Credentials | None = Field(
        None,
        description="`passthrough`: clients' logins go to the registry. `managed`: this proxy "
        "gets the tokens, with `username` and `password` or as nobody, and clients need none. "
        "Unset: `passthrough`.",
    )
    prefix_login: bool = Field(
        default=False,
        description="Whether a login at this proxy's host also goes to this registry where it is "
        "addressed by prefix.",
    )
    username: Username | None = Field(
        None, min_length=1, description="This proxy's own account there, with `managed`."
    )
    password: SecretStr | None = Field(
        None, min_length=1, description="Its password, or access token."
    )
    password_file: PasswordFile | None = Field(
        None, description="A file that holds the password, in place of `password`."
    )
    ca_bundle: AuthoritiesFile | None = Field(
        None,
        description="A PEM file with certificate authorities for this registry, its token service "
        "and where it redirects to, added to the usual ones and to `DOCXY_CA_BUNDLE`.",
    )
    allow_private: bool = Field(
        default=False,
        description="Let this registry, and where it redirects to, be on loopback, private and "
        "otherwise special addresses.",
    )
    redirects_from: tuple[RegistryHost, ...] = Field(
        (),
        description="With `allow_private`: the registries of the table without `allow_private` "
        "whose redirects may lead to this one. Unset: none.",
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
        told = {"credentials": credentials, "username": username, "password": password}
        changed: dict[str, Any] = {name: one for name, one in told.items() if one is not None}
        if "password" in changed:
            changed["password_file"] = None
        if credentials == "passthrough":
            changed = {"username": None, "password": None, "password_file": None} | changed
        both = self.model_copy(update=changed)
        check_login(both.credentials, both.username, both.password or both.password_file)
        return both

    def build_registry(self) -> Registry:
        """Return the registry that this table describes, completed by a well-known one.

        The token service of a well-known registry is used only if the URL is that registry's own.
        """
        name = HUB.name if self.name in HUB.names else self.name
        known = WELL_KNOWN.get(name) or Registry(name=name, url=f"https://{name}")
        url = self.url or known.url
        pinned = url == known.url
        return Registry(
            name=name,
            url=url,
            token_url=self.token_url or (known.token_url if pinned else None),
            token_service=self.token_service or (known.token_service if pinned else None),
            aliases=known.aliases | frozenset(self.aliases),
            hosts=frozenset(self.hosts),
            library_prefix=(
                known.library_prefix if self.library_prefix is None else self.library_prefix
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
            "if that is right, set DOCXY_ALLOW_PRIVATE_UPSTREAMS=true, or allow_private = true in "
            "the registry's own table"
        )
        raise ValueError(message)


def check_redirects(rows: Sequence[Registry]) -> None:
    """Raise ValueError if a `redirects_from` names an unknown registry or has no effect.

    It has no effect without `allow_private`.
    """
    names = {name for row in rows for name in row.names}
    for row in rows:
        if unknown := sorted(row.redirects_from - names):
            message = (
                f"registries: {row.name}: redirects_from: no registry that is served is called "
                f"{', '.join(unknown)}"
            )
            raise ValueError(message)
        if row.redirects_from and not row.allow_private:
            message = (
                f"registries: {row.name}: redirects_from: it is for a registry at a private "
                "address; set allow_private = true in the same table, or leave it out"
            )
            raise ValueError(message)


def check_login(credentials: Credentials | None, username: str | None, password: Any) -> None:  # noqa: ANN401 - whatever holds it
    """Raise ValueError if a login lacks one half, or is set without `managed` credentials."""
    if (username is None) != (password is None):
        message = (
            "username, password: a login has both (DOCXY_USERNAME and DOCXY_PASSWORD for the "
            "default registry)"
        )
        raise ValueError(message)
    if username and credentials != "managed":
        raise ValueError(LOGIN_WITHOUT_MANAGED)
