"""The settings of who may ask this proxy: part of Settings."""

from pydantic import BaseModel, Field

from app.access.rules import Rules
from app.registries import Registries
from app.rule_settings import RuleSettings
from app.setting_values import ClientNetworks


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

    def rules_for(self, registries: Registries) -> Rules:
        """Return the rules at a table of registries; raise ValueError for one not in it."""
        return Rules([one.rule(at) for at, one in enumerate(self.rules, 1)], registries)
