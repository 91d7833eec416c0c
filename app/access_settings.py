"""The settings of who may ask this proxy: part of Settings."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr

from app.access import htpasswd
from app.access.htpasswd import UsersFile
from app.access.rules import Rule, Rules
from app.group_settings import Groups, named
from app.registries import Registries, Registry
from app.rule_settings import RuleSettings
from app.setting_values import ClientNetworks, content_of

_SHORTEST_SECRET: Final = 16
_SHORTEST_KEY: Final = 32


def _users_file(path: object) -> UsersFile:
    content = content_of(path, htpasswd.content)
    htpasswd.parse(content)
    return UsersFile(Path(str(path)), content)


def _secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < _SHORTEST_SECRET:
        message = f"write at least {_SHORTEST_SECRET} bytes: whoever guesses it may pull"
        raise ValueError(message)
    return secret


def _key(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value().encode()) < _SHORTEST_KEY:
        message = f"write at least {_SHORTEST_KEY} bytes, like those of openssl rand -hex 32"
        raise ValueError(message)
    return key


class AccessSettings(BaseModel):
    """Whose requests are answered."""

    allow_networks: ClientNetworks | None = Field(
        None,
        description="Comma-separated addresses and networks of the clients that may use this "
        "proxy; `/health` answers everybody. Unset: all may, but for `DOCXY_DENY_NETWORKS`.",
    )
    deny_networks: ClientNetworks | None = Field(
        None,
        description="Comma-separated addresses and networks of clients that may not, even where "
        "`DOCXY_ALLOW_NETWORKS` has them.",
    )
    rules: tuple[RuleSettings, ...] = Field(
        (), description="What may be pulled, by whom: the first rule that matches decides."
    )
    groups: Groups = Field(
        default_factory=dict, description="The users of each group that rules name."
    )
    htpasswd_file: Annotated[UsersFile, BeforeValidator(_users_file)] | None = Field(
        None,
        description="A file of the users who may pull, with bcrypt hashes (`htpasswd -B`); it is "
        "read again when it changes. Every registry must be `managed`. Unset: nobody has to log "
        "in.",
    )
    shared_secret: Annotated[SecretStr, AfterValidator(_secret)] | None = Field(
        None,
        description="In place of that file, one password of at least 16 bytes, with which "
        "everybody logs in, by any user name.",
    )
    token_key: Annotated[SecretStr, AfterValidator(_key)] | None = Field(
        None,
        description="At least 32 bytes that sign the tokens of users; replicas share it. Unset: "
        "the key that the directory of `DOCXY_CACHE_DIR` has.",
    )

    def check_users(self, rows: Iterable[Registry], cache_dir: Path | None) -> None:
        """Raise ValueError where users are set, and something does not go with them."""
        if self.htpasswd_file and self.shared_secret:
            message = "DOCXY_HTPASSWD_FILE, DOCXY_SHARED_SECRET: set one, not both"
            raise ValueError(message)
        if not (self.htpasswd_file or self.shared_secret):
            if self.token_key:
                message = "DOCXY_TOKEN_KEY: it needs DOCXY_HTPASSWD_FILE or DOCXY_SHARED_SECRET"
                raise ValueError(message)
            return
        name = "DOCXY_HTPASSWD_FILE" if self.htpasswd_file else "DOCXY_SHARED_SECRET"
        if passed := [row.name for row in rows if not row.managed]:
            message = (
                f"{name}: clients log in at this proxy, so none of their logins can be for a "
                f"registry; set DOCXY_CREDENTIALS=managed for the default one, and credentials = "
                f'"managed" in each table [[registries]]. These are passthrough: '
                f"{', '.join(passed)}"
            )
            raise ValueError(message)
        if not (self.token_key or cache_dir):
            message = (
                f"{name}: the tokens of users need a key that outlives a restart; set "
                "DOCXY_TOKEN_KEY, or DOCXY_CACHE_DIR, where one is made"
            )
            raise ValueError(message)

    def rules_for(self, registries: Registries) -> Rules:
        """Return the rules at a table of registries; raise ValueError for one not in it."""
        if not self.htpasswd_file:
            for at, one in enumerate(self.rules, 1):
                if one.users is not None:
                    message = (
                        f"rule {at}: users: only DOCXY_HTPASSWD_FILE says who somebody is; with "
                        "DOCXY_SHARED_SECRET, or without a login, nobody is anybody in particular"
                    )
                    raise ValueError(message)
        return Rules([self._rule(at, one) for at, one in enumerate(self.rules, 1)], registries)

    def _rule(self, at: int, written: RuleSettings) -> Rule:
        try:
            return written.rule(at, self.groups)
        except ValueError as error:
            message = f"rule {at}: {error}"
            raise ValueError(message) from error

    def named_users(self) -> Iterator[tuple[str, str]]:
        """Return the places of the file where users are named, each with a user."""
        for at, rule in enumerate(self.rules, 1):
            yield from ((f"rule {at}", user) for user in named(rule.users or ()))
        for name, users in self.groups.items():
            yield from ((f"groups.{name}", user) for user in users)
